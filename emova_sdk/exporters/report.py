"""A human-readable report of an export's manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def verdict(manifest: Mapping[str, Any]) -> list[str]:
    """Sentences on what to ship and why: size, agreement, and what was not measured."""
    graphs = [(role, graph) for role, found in manifest["components"].items() for graph in found]
    if not graphs:
        return ["There is nothing to ship: no component offers a graph."]
    size, whole = sum(_megabytes(graph) for _, graph in graphs), sum(graph.get("float32_bytes", 0) for _, graph in graphs) / 1e6
    lines = [f"Ship the whole folder: {_counted(len(graphs), 'graph')}, {size:.2f} MB" + _saved(manifest, size, whole)]
    held = Counter(graph.get("precision", manifest["precision"]) for _, graph in graphs)
    lines.append("Stored as " + ", ".join(f"{precision} ({number})" for precision, number in held.items()) + ".")
    measured = [(record["cosine"], role, graph["name"], record) for role, graph in graphs for record in graph["parity"]]
    floats = [one for one in measured if not one[3]["allowed"].startswith("mismatch")]
    if floats:
        least, role, name, record = min(floats, key=lambda one: one[0])
        lines.append(
            f"Least agreement with the originals: cosine {least:.6f} (`{role}`, `{name}`, output `{record['output']}`), "
            f"of {_counted(len(floats), 'comparison')}."
        )
    trials = [one for found in manifest.get("trials", {}).values() for one in found]
    if trials:
        lines.append(f"The components passed {_counted(len(trials), 'end-to-end comparison')} with their originals, see below.")
    lines.append("Speed was not measured; `emova bench -c CONFIG --against DIR` does it on the machine that will run it.")
    return lines


def _saved(manifest: Mapping[str, Any], size: float, whole: float) -> str:
    if manifest["precision"] == "fp32" or not whole:
        return "."
    if size >= whole:
        return f". **In float32 it is no larger ({whole:.2f} MB): ship that.**"
    return f", in place of {whole:.2f} MB in float32."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _megabytes(graph: Mapping[str, Any]) -> float:
    return sum(facts["bytes"] for name, facts in graph["files"].items() if not name.endswith(".safetensors")) / 1e6


def report(manifest: Mapping[str, Any]) -> str:
    """Describe an export in Markdown: what to ship, sizes, axes, and how exactly each output agrees."""
    lines = [f"# Export of {manifest['source'] or 'components'} in {manifest['precision']}", ""]
    lines += [*verdict(manifest), ""]
    for role, graphs in manifest["components"].items():
        for graph in graphs:
            lines += [*_graph(role, graph, manifest["precision"]), ""]
    for role, trials in manifest.get("trials", {}).items():
        lines += [f"## {role}: trials", "", "| trial | measure | found | cases | allowed |", "|---|---|---|---|---|"]
        lines += [
            f"| {one['trial']} | {one['measure']} | {one['value']:.3g} | {one.get('cases') or ''} | {one['allowed']} |"
            for one in trials
        ]
        lines += [""]
    if manifest["without_graphs"]:
        lines += [f"Without graphs: {', '.join(manifest['without_graphs'])}.", ""]
    return "\n".join(lines)


def _graph(role: str, graph: Mapping[str, Any], precision: str) -> list[str]:
    axes = ", ".join(f"{axis['name']} {axis['min']}..{axis['max']}" for axis in graph["axes"].values()) or "none"
    held = graph.get("precision", precision)
    lines = [f"## {role}: {graph['name']}", "", f"{_megabytes(graph):.2f} MB; {held}; dynamic axes: {axes}", ""]
    lines += [f"Kept in a higher precision: {kept['part']}, because {kept['because']}." for kept in graph.get("kept", ())]
    found = graph.get("processors")
    if found:
        lines.append(f"Gives the same answer on {', '.join(found['safe'])}: {found['because']}.")
    lines += [
        "",
        "| output | sizes | max abs diff | mean abs diff | cosine | mismatch | allowed |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + ([_row(record) for record in graph["parity"]] or ["| not run | | | | | | |"])


def _row(record: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in record["sizes"].items()) or "fixed"
    mismatch = f"{record['mismatch']:.4f}" if record["allowed"].startswith("mismatch") else ""
    numbers = f"{record['max_abs_diff']:.3g} | {record['mean_abs_diff']:.3g} | {record['cosine']:.6f} | {mismatch}"
    return f"| {record['output']} | {sizes} | {numbers} | {record['allowed']} |"
