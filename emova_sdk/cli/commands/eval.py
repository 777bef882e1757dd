"""``emova eval``: the figures of a model card, measured again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.nano_recipe import require_nano_recipe
from emova_sdk.cli.options import (
    ConfigOption,
    ForceOption,
    JsonOption,
    SetOption,
    default_config,
    read_config,
    require_writable,
    typed_path,
)
from emova_sdk.cli.output import counting, print_json, print_table

if TYPE_CHECKING:
    from emova_sdk.evaluation.figures import Card, Figure

group = typer.Typer(help="Measure how well models understand, answer and speak.")
app.add_typer(group, name="eval")

HEADINGS = ("what", "figure", "%", "interval", "n", "guess", "ceiling")
MARKS = ("<!-- figures -->", "<!-- /figures -->")
"""Between these lines of a card stands the table."""


@group.callback()
def _group() -> None:  # pyright: ignore[reportUnusedFunction] - makes typer keep the name of a group's only command
    pass


@group.command()
def nano(
    *,
    preset: Annotated[
        Path | None, typer.Option("--preset", metavar="FOLDER", help="A trained emova-nano.  [default: the included one]")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="FOLDER", help="The work folder of `emova train nano`, with its synthesised speech."),
    ] = None,
    cases: Annotated[int, typer.Option("--cases", min=1, metavar="N", help="Questions of each kind.")] = 300,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also write the figures: .json, or .md for a table or model card."),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure emova-nano: images, typed and spoken turns, recognition, synthesis and style.

    Each figure has its number of cases, a 95 % interval, the score of the best constant answer, and the ceiling.

    Metrics that need missing data, weights or programs are listed with the reason.
    """
    require_nano_recipe()
    from nano_recipe.evaluation.card import measure

    require_writable(out, (".json", ".md"), force=force or _is_card(out))
    card = measure(preset=preset, work=work, cases=cases, begin=_announce)
    record = {"model": str(preset or "emova-nano"), **card.to_dict()}
    if out is not None:
        from emova_sdk.files import write_atomically

        write_atomically(
            out, json.dumps(record, indent=1) if out.suffix.lower() == ".json" else _put_into(out, _markdown(card))
        )
    if as_json:
        print_json(record)
        return
    print_table(HEADINGS, [_row(figure) for figure in card.figures])
    for name, why in card.left_out.items():
        typer.echo(f"not measured: {name}: {why}")


@group.command()
def alignment(
    *,
    work: Annotated[
        Path, typer.Option("--work", metavar="FOLDER", help="The work folder of `emova train nano`, with its speech and units.")
    ],
    budget_s: Annotated[
        float, typer.Option("--budget-s", min=0.1, metavar="SECONDS", help="CPU seconds for aligning each model.")
    ] = 150.0,
    cases: Annotated[int, typer.Option("--cases", min=1, metavar="N", help="Questions of each kind.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """Compare joint alignment of images and speech with aligning one of them, at the same cost.

    Trains four small language models in `--work` and tests them on images and spoken questions.
    """
    require_nano_recipe()
    from nano_recipe.evaluation.ablation import compare_alignments

    from emova_sdk.evaluation.figures import Card

    card = Card(compare_alignments(work, budget_s=budget_s, cases=cases, begin=_announce))
    if as_json:
        print_json({"model": "emova-nano", **card.to_dict()})
    else:
        print_table(HEADINGS, [_row(figure) for figure in card.figures])


@group.command()
def model(
    *,
    data: Annotated[
        Path,
        typer.Option(
            "--data", metavar="FILE", help="Recordings (.csv, .tsv, .jsonl), or a file written by `emova data build`."
        ),
    ],
    config: ConfigOption = None,
    overrides: SetOption = None,
    cases: Annotated[int | None, typer.Option("--cases", min=1, metavar="N", help="Only the first N spoken sentences.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure any model on speech of your own: words, emotions, and the validity of its replies.

    Each figure has its number of cases, a 95 % interval, and for emotions the score of the best constant answer.

    Recordings are encoded by the config's speech tokenizer; data that already holds units needs only the language model.
    """
    from emova_sdk.evaluation.own_model import measure_model

    settings = read_config(config, overrides)
    with counting("asking") as step:
        card = measure_model(settings, typed_path(data), cases=cases, step=step)
    if as_json:
        named = " ".join([config or default_config(), *(f"--set {one}" for one in overrides or ())])
        print_json({"model": named, **card.to_dict()})
        return
    print_table(HEADINGS[:-1], [_row(figure)[:-1] for figure in card.figures])
    for name, value in card.facts.items():
        typer.echo(f"{name.replace('_', ' ')}: {_plain(value)}")
    for name, why in card.left_out.items():
        typer.echo(f"not measured: {name}: {why}")


def _announce(name: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"measuring {name} ...", err=True)


def _row(figure: Figure) -> tuple[str, ...]:
    interval = f"{_percent(figure.low)}-{_percent(figure.high)}"
    ends = (_percent(figure.guess), _percent(figure.ceiling))
    return (figure.group, figure.name.replace("_", " "), _percent(figure.value), interval, str(figure.n), *ends)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _markdown(card: Card) -> str:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(_row(figure) for figure in card.figures)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    facts = [f"- {name}: {_plain(value)}" for name, value in card.facts.items()]
    absent = [f"- not measured: {name}: {why}" for name, why in card.left_out.items()]
    return "\n".join([*table, "", *facts, *absent]) + "\n"


def _is_card(path: Path | None) -> bool:
    """Whether a file has a place for the table, so that nothing else of it is replaced."""
    try:
        text = path.read_text("utf-8") if path is not None else ""
    except (OSError, ValueError):
        return False
    return MARKS[1] in text.partition(MARKS[0])[2]


def _put_into(path: Path, table: str) -> str:
    """Put the table between the marks of an existing card, and keep the rest of its text."""
    if not _is_card(path):
        return table
    before, begin, rest = path.read_text("utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{begin}\n{table}{end}{after}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
