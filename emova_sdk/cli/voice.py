"""A conversation by voice: microphone and loudspeaker, or sound files in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from emova_sdk.cli.keyboard import line_of
from emova_sdk.cli.output import describe_style, describe_timings, print_json, print_table
from emova_sdk.cli.trace import print_trace
from emova_sdk.errors import EmovaError, InputError
from emova_sdk.live import (
    AnswerFailed,
    AnswerFinished,
    Device,
    EndOfTurnFailed,
    FalseInterruption,
    Interrupted,
    LiveSettings,
    Recordings,
    SoundDevices,
    UserTurn,
    list_devices,
    talk,
)
from emova_sdk.types import Audio, Timings, ToolCall, ToolResult, Transcript, UserStyle

if TYPE_CHECKING:
    from emova_sdk.live import LiveEvent
    from emova_sdk.session import Session
    from emova_sdk.types import Image, Style, Turn


class VoiceConversation:
    """Listens and answers until Ctrl-C, or until the recording that stands for the microphone has ended.

    Args:
        session: Who answers.
        microphone: Name or number of a device, or a sound file; the system's default when left out.
        loudspeaker: Name or number of a device, or a ``.wav`` file to write what is played.
        images: Pictures shown with the first turn.
        style: How to answer; None leaves it to the model.
        settings: When turns begin and end.
        half_duplex: Whether nothing is listened to while an answer is heard.
        as_json: Print each turn as one line of JSON.
        trace: Print how long each step of an answer took.
    """

    def __init__(
        self,
        session: Session,
        *,
        microphone: str | None = None,
        loudspeaker: str | None = None,
        images: Sequence[Image] = (),
        style: Style | None = None,
        settings: LiveSettings = LiveSettings(),
        half_duplex: bool = False,
        as_json: bool = False,
        trace: bool = False,
    ) -> None:
        self.session = session
        self.settings = replace(settings, interruptible=settings.interruptible and not half_duplex)
        self.as_json = as_json
        self.trace = trace
        self.loudspeaker = loudspeaker
        self.images = images
        self.style = style
        self.device: Device = _device(microphone, loudspeaker, session)

    def run(self) -> None:
        """Converse."""
        if not self.as_json and isinstance(self.device, SoundDevices):
            typer.echo("Speak; Ctrl-C ends the conversation.")
        try:
            talk(
                self.session,
                self.device,
                settings=self.settings,
                style=self.style,
                images=self.images,
                threaded=isinstance(self.device, SoundDevices),
                notice=self._notice,
            )
        except KeyboardInterrupt:
            typer.echo("", err=True)
        if isinstance(self.device, Recordings) and self.loudspeaker:
            typer.echo(f"written to {self.device.played.save(self.loudspeaker)}", err=self.as_json)

    def _notice(self, event: LiveEvent) -> None:
        match event:
            case AnswerFinished():
                self._tell(event.turn, interrupted=False)
            case Interrupted() if event.turn is not None:
                if event.heard_s > 0:
                    self._tell(event.turn, interrupted=True)
            case AnswerFailed() | EndOfTurnFailed():
                error = event.error
                hint = f"\nhint: {error.hint}" if isinstance(error, EmovaError) and error.hint else ""
                typer.echo(f"error: {getattr(error, 'message', error)}{hint}", err=True)
            case UserStyle() | Transcript() | ToolCall() | ToolResult() if not self.as_json:
                typer.echo(line_of(event))
            case UserTurn() if not self.as_json:
                typer.echo(f"  (you spoke for {event.audio.duration_s:.1f} s)")
            case FalseInterruption() if not self.as_json:
                typer.echo("  (not an interruption)")
            case _:
                pass

    def _tell(self, turn: Turn, *, interrupted: bool) -> None:
        if self.as_json:
            for one in self.session.history[-2:]:
                print_json(one.to_dict())
            return
        typer.echo(f"emova: {turn.heard_text}{' [interrupted]' if interrupted else ''}")
        told = [describe_style(turn.style), describe_timings(turn.timings or Timings())]
        typer.echo(f"  ({', '.join(told)})")
        if self.trace and turn.timings is not None:
            print_trace(turn.timings)


def print_devices(*, as_json: bool) -> None:
    """List microphones and loudspeakers."""
    devices = list_devices()
    if as_json:
        print_json({"devices": devices})
        return
    rows = [(str(one["number"]), one["name"], *_counts(one), "yes" if one["default"] else "") for one in devices]
    print_table(("number", "name", "microphones", "loudspeakers", "rate", "default"), rows)


def _counts(device: dict[str, Any]) -> tuple[str, str, str]:
    return str(device["inputs"]), str(device["outputs"]), f"{device['sample_rate']} Hz"


def _device(microphone: str | None, loudspeaker: str | None, session: Session) -> Device:
    if microphone is None or not Path(microphone).suffix:
        return SoundDevices(microphone=microphone, loudspeaker=loudspeaker)
    if loudspeaker is not None and Path(loudspeaker).suffix.lower() != ".wav":
        raise InputError(f"`{loudspeaker}` does not end in .wav", "with a file as the microphone, name a file to write")
    vocoder = session.pipeline.vocoder
    return Recordings(Audio.open(microphone), sample_rate=vocoder.sample_rate if vocoder is not None else 24_000)
