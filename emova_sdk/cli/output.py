"""What the commands print: answers on stdout, progress on stderr and only where somebody watches."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from emova_sdk.types import PerceivedStyle, Style, Timings, Transcript


_ANSWERS: list[TextIO] = []
"""Where JSON goes while stdout is kept free for it."""


@contextmanager
def json_alone(wanted: bool) -> Generator[None, None, None]:
    """Keep stdout for `print_json`, if that is wanted: what libraries and plug-ins print goes to stderr."""
    if not wanted or sys.stdout is None:
        yield
        return
    _ANSWERS.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _ANSWERS.pop()


def print_json(data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print data as JSON on one line."""
    stream = _ANSWERS[-1] if _ANSWERS else sys.stdout
    plain = "utf" not in (getattr(stream, "encoding", "") or "").lower()
    typer.echo(json.dumps(data, ensure_ascii=plain), file=stream)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a rich console on stdout or stderr as they are now."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, width=width)


@contextmanager
def working(what: str) -> Generator[Callable[[str], None], None, None]:
    """Show a spinner while something takes its time; nothing where stderr is not a terminal.

    Yields:
        What changes the words beside the spinner.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(stderr=True).status(what) as status:
        yield status.update


@contextmanager
def counting(what: str) -> Generator[Callable[[int, int], None], None, None]:
    """Show a bar of how much of something is done; nothing where stderr is not a terminal.

    Yields:
        What is told the number done and the number of all.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a plain table that stays readable without colours.

    Nothing is cut. Where the terminal is too narrow the last column is wrapped at words, and where that does not help each
    row becomes a few lines.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    fitted = _fitted(headings, rows)
    if fitted is None:
        _print_rows(headings, rows, title=title)
        return
    table = Table(*headings, box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for row in fitted:
        table.add_row(*(Text(cell) for cell in row))
    console(width=_ENDLESS).print(table, soft_wrap=False)


_ENDLESS = 10_000
_GAP = 3
"""Columns between two cells, and before the first and after the last, at most."""


def _fitted(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]] | None:
    """Return the rows with the last column wrapped so that they fit on the terminal, or None if they cannot."""
    if not sys.stdout.isatty():
        return rows
    import shutil
    import textwrap

    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    room = shutil.get_terminal_size().columns - sum(widths[:-1]) - _GAP * len(widths)
    longest = max((len(word) for row in rows for word in row[-1].split()), default=0)
    if widths[-1] <= room:
        return rows
    if room < max(longest, 20):
        return None
    wrap = textwrap.TextWrapper(room, break_long_words=False, break_on_hyphens=False)
    return [[*row[:-1], wrap.fill(row[-1])] for row in rows]


def _print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> None:
    if title:
        typer.echo(title)
    for row in rows:
        first, *rest = [(heading, cell) for heading, cell in zip(headings, row, strict=True) if cell] or [("", "")]
        typer.echo(first[1])
        for heading, cell in rest:
            typer.echo(f"  {heading + ': ' if heading else ''}{cell}")


def counted(number: int, noun: str) -> str:
    """``1 turn``, ``2 turns``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def describe_style(style: Style | None) -> str:
    """``happy, high, fast, male``: what is not normal, the emotion always first."""
    return "no voice" if style is None else ", ".join([style.emotion, *_beside_emotion(style)])


def describe_words(text: str, confidence: float | None = None, guess: str = "") -> str:
    """What was said; ``(a guess, 12% sure) hello`` where it was not understood surely, ``(unclear)`` where not at all."""
    from emova_sdk.types.events import UNCLEAR

    understood = "" if text == UNCLEAR else text
    words = understood or guess
    if not words:
        return "(unclear)"
    unsure = not understood or (confidence is not None and confidence < 0.5)
    return f"(a guess, {confidence or 0.0:.0%} sure) {words}" if unsure else words


def describe_transcript(transcript: Transcript | None) -> str:
    """What was heard, see `describe_words`; ``(not written down)`` where the core writes none."""
    if transcript is None:
        return "(not written down)"
    return describe_words(transcript.text, transcript.confidence, transcript.guess)


def describe_perceived(perceived: PerceivedStyle | None) -> str:
    """``sad (93%), low, female``: the emotion that was heard and how sure that is, then the rest as far as it is known."""
    if perceived is None:
        return "style not heard"
    score = perceived.scores.get("emotion")
    sure = f" ({score:.0%})" if score is not None else ""
    emotion = "emotion not clear" if perceived.emotion is None else f"{perceived.emotion}{sure}"
    return ", ".join([emotion, *_beside_emotion(perceived.style, speaker="speaker" not in perceived.unknown)])


def _beside_emotion(style: Style, *, speaker: bool = True) -> list[str]:
    return [*(value for value in (style.pitch, style.speed) if value != "normal"), *([style.speaker] if speaker else [])]


def describe_timings(timings: Timings) -> str:
    """``first audio 0.12 s, total 0.50 s, 0.21 x real time``."""
    parts = [
        f"{name} {value:.2f} s"
        for name, value in (("first audio", timings.first_audio_s), ("total", timings.total_s))
        if value is not None
    ]
    factor = timings.real_time_factor
    return ", ".join([*parts, *([f"{factor:.2f} x real time"] if factor is not None else [])])
