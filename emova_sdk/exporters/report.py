"""An export's manifest for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def report(manifest: Mapping[str, Any]) -> str:
    """Describe an export in Markdown: sizes, axes, and how exactly each output agrees."""
    lines = [f"# Export of {manifest['source'] or 'components'} in {manifest['precision']}", ""]
    for slot, graphs in manifest["components"].items():
        for graph in graphs:
            size = sum(facts["bytes"] for facts in graph["files"].values())
            axes = ", ".join(f"{axis['name']} {axis['min']}..{axis['max']}" for axis in graph["axes"].values()) or "none"
            precision = graph.get("precision", manifest["precision"])
            lines += [f"## {slot}: {graph['name']}", "", f"{size / 1e6:.2f} MB; {precision}; dynamic axes: {axes}", ""]
            lines += [
                f"Kept in a higher precision: {kept['part']}, because {kept['because']}." for kept in graph.get("kept", ())
            ]
            lines += [""] if graph.get("kept") else []
            lines += [
                "| output | sizes | max abs diff | mean abs diff | cosine | mismatch | allowed |",
                "|---|---|---|---|---|---|---|",
            ]
            lines += [_row(record) for record in graph["parity"]] or ["| not run | | | | | | |"]
            lines += [""]
    for slot, tasks in manifest.get("tasks", {}).items():
        lines += [f"## {slot} at work", "", "| task | measure | found | allowed |", "|---|---|---|---|"]
        lines += [f"| {one['task']} | {one['measure']} | {one['value']:.3g} | {one['allowed']} |" for one in tasks] + [""]
    if manifest["without_graphs"]:
        lines += [f"Without graphs: {', '.join(manifest['without_graphs'])}.", ""]
    return "\n".join(lines)


def _row(record: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in record["sizes"].items()) or "fixed"
    numbers = (
        f"{record['max_abs_diff']:.3g} | {record['mean_abs_diff']:.3g} | {record['cosine']:.6f} | {record['mismatch']:.4f}"
    )
    return f"| {record['output']} | {sizes} | {numbers} | {record['allowed']} |"
