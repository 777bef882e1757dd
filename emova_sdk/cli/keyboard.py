"""A conversation at the keyboard: a line is a turn, a line that begins with ``/`` does something else."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from emova_sdk.cli.json_records import reply_record
from emova_sdk.cli.options import open_audio, open_image, require_writable, typed_path, unused
from emova_sdk.cli.output import describe_perceived, describe_style, describe_timings, describe_transcript, print_json
from emova_sdk.cli.trace import print_trace
from emova_sdk.errors import EmovaError, InputError
from emova_sdk.types import Audio, TextDelta, Timings, ToolCall, ToolResult, Transcript, UserStyle

if TYPE_CHECKING:
    from emova_sdk.response import Reply, Response
    from emova_sdk.session import Session
    from emova_sdk.types import Event, Image, Style

HELP = """\
  TEXT                send it
  /audio FILE [TEXT]  send an audio file
  /image FILE [TEXT]  send an image with TEXT, or with the next line
  /emotion NAME       answer with this emotion from now on; without a name the model chooses
  /save FILE          write the last answer (.wav or .flac)
  /help               show this
  /quit               leave (so does Ctrl-D); Ctrl-C stops an answer"""


class KeyboardConversation:
    """Reads lines until the end, answers each.

    Args:
        session: Who answers.
        style: How to answer; None leaves it to the model.
        out: Each answer is written beside this file, numbered: ``reply-1.wav``.
        as_json: Print each answer as one line of JSON.
        trace: Print how long each step of an answer took.
    """

    def __init__(self, session: Session, *, style: Style | None, out: Path | None, as_json: bool, trace: bool = False) -> None:
        self.session = session
        self.style = style
        self.out = out
        self.as_json = as_json
        self.trace = trace
        self.shown: list[Image] = []
        self.answers = 0

    def run(self) -> None:
        """Converse until the end of the input or ``/quit``."""
        if sys.stdin.isatty():
            typer.echo("Type a message; /help lists the commands.", err=self.as_json)
        for line in self._lines():
            if line == "/quit":
                return
            try:
                self._take(line)
            except EmovaError as error:
                typer.echo(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), err=True)

    def _lines(self) -> Iterator[str]:
        prompt = "> " if sys.stdin.isatty() else ""
        if prompt:
            with suppress(ImportError):
                import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives `input` history and editing
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                return
            if line:
                yield line

    def _take(self, line: str) -> None:
        if not line.startswith("/"):
            self._answer(line)
            return
        verb, words = _split(line)
        match verb, words:
            case "/help", []:
                typer.echo(HELP, err=self.as_json)
            case "/audio", [file, *rest]:
                self._answer(open_audio(Path(file), self.session.pipeline.limits), *rest)
            case "/image", [file, *rest]:
                self.shown.append(open_image(Path(file), self.session.pipeline.limits))
                if rest:
                    self._answer(*rest)
            case "/emotion", []:
                self.style = None
            case "/emotion", [name]:
                self.style = replace(self.style or self.session.style, emotion=name)  # type: ignore[arg-type] - `Style` checks it
            case "/save", [file]:
                path = typed_path(file)
                require_writable(path, (".wav", ".flac"), force=False)
                typer.echo(f"written to {self._save(path)}", err=self.as_json)
            case _:
                raise InputError(f"`{line}` is not a command", "/help lists the commands")

    def _answer(self, *said: str | Audio) -> None:
        parts, self.shown = (*self.shown, *said), []
        try:
            if self.as_json:
                reply = self.session.ask(*parts, style=self.style)
                print_json(reply_record(reply, self._keep()))
            else:
                follow(self.session.respond(*parts, style=self.style))
                self._sum_up(self._keep())
        except KeyboardInterrupt:  # stops the answer, not the conversation
            typer.echo(" [stopped]", err=self.as_json)

    def _keep(self) -> Path | None:
        """Write the answer beside ``out``, numbered."""
        self.answers += 1
        if self.out is None or self.session.history[-1].audio is None:
            return None
        return self._save(unused(self.out.with_stem(f"{self.out.stem}-{self.answers}")))

    def _save(self, path: Path) -> Path:
        turns = self.session.history
        audio = turns[-1].audio if turns else None
        if not isinstance(audio, Audio):
            raise InputError("there is no spoken answer to save", "say something first")
        return audio.save(path)

    def _sum_up(self, path: Path | None) -> None:
        turn = self.session.history[-1]
        told = [describe_style(turn.style), describe_timings(turn.timings or Timings())]
        typer.echo(f"  ({', '.join(told)})" + (f", written to {path}" if path else ""))
        if self.trace and turn.timings is not None:
            print_trace(turn.timings)


def follow(events: Response | Generator[Event, None, None]) -> None:
    """Print an answer while it is given."""
    begun = False
    with closing(events):
        for event in events:
            if isinstance(event, TextDelta):
                typer.echo(event.text if begun else f"emova: {event.text}", nl=False)
                begun = True
            elif (line := line_of(event)) is not None:
                typer.echo(f"\n{line}" if begun else line)
                begun = False
    if begun:
        typer.echo()


def line_of(event: Event) -> str | None:
    """Say in one line what was heard, felt, asked of a tool or answered by it; None for anything else."""
    match event:
        case Transcript():
            return f"you: {describe_transcript(event)}"
        case UserStyle():
            sound = "you sound " if event.perceived.emotion else ""
            return f"  ({sound}{describe_perceived(event.perceived)})"
        case ToolCall():
            arguments = ", ".join(f"{name}={value!r}" for name, value in event.arguments.items())
            return f"  asks {event.name}({arguments})"
        case ToolResult():
            return f"  {event.name} {'failed' if event.failed else 'says'}: {event.content}"
        case _:
            return None


def print_reply(reply: Reply, path: Path | None) -> None:
    """Print a whole answer."""
    if reply.transcript or reply.user_style:
        typer.echo(f"you: {describe_transcript(reply.transcript)}  ({describe_perceived(reply.user_style)})")
    for event in (*reply.tool_calls, *reply.turn.tool_results):
        typer.echo(line_of(event))
    typer.echo(f"emova: {reply.text}  ({describe_style(reply.style)})")
    length = f"{reply.audio.duration_s:.2f} s of speech, " if reply.audio else ""
    typer.echo(f"  {length}{describe_timings(reply.timings)}" + (f", written to {path}" if path else ""))


_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|\\[\s"'()&;!$#*?<>|`\[\]{}]|[^\s"'])+""")
_PIECE = re.compile(r"""(["'])(.*?)\1|\\([\s"'()&;!$#*?<>|`\[\]{}])""")


def _split(line: str) -> tuple[str, list[str]]:
    r"""Return the verb of a line, then the file or name after it, then the rest as it is.

    Quotation marks hold a name together, and so does a backslash before a blank; any other backslash is one of a path, as in
    ``C:\\sounds\\a.wav``.
    """
    verb, _, rest = line.partition(" ")
    rest = rest.strip()
    if not rest:
        return verb, []
    found = _WORD.match(rest)
    if found is None or (end := rest[found.end() :])[:1] in {'"', "'"}:
        raise InputError(f"`{line}` has an unclosed quotation mark", "close the quotation mark")
    name = _PIECE.sub(lambda piece: piece[2] if piece[1] else piece[3], found[0])
    return verb, [name, *([end.strip()] if end.strip() else [])]
