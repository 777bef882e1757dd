"""Options that several commands share, and the pipeline they ask for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emova_sdk.cli.output import working

if TYPE_CHECKING:
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.types import Audio, Image, Style

# the values of emova_sdk.types, written again because importing those takes longer than showing the help
EmotionName = Literal["neutral", "happy", "sad", "angry", "surprised", "disgusted", "fearful"]
PitchName = Literal["low", "normal", "high"]
SpeedName = Literal["slow", "normal", "fast"]

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        envvar="EMOVA_CONFIG",
        help="A preset, a TOML file or a folder with one.  [default: emova-nano]",
        show_envvar=True,
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the config, e.g. vocoder.type=onnx.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
EmotionOption = Annotated[EmotionName | None, typer.Option("--emotion", help="Emotion to speak with.")]
PitchOption = Annotated[PitchName | None, typer.Option("--pitch", help="Pitch to speak with, relative to the voice.")]
SpeedOption = Annotated[SpeedName | None, typer.Option("--speed", help="Speed to speak with.")]
SpeakerOption = Annotated[str | None, typer.Option("--speaker", metavar="NAME", help="Voice to speak with: female, male, ...")]


def default_config() -> str:
    """Return the preset used when none is named: the embedded one, or where it is not installed the weightless fakes."""
    from emova_sdk.presets import presets

    return "emova-nano" if "emova-nano" in presets() else "fake"


@contextmanager
def open_pipeline(config: str | None, overrides: list[str] | None = None) -> Generator[Pipeline, None, None]:
    """Build the pipeline of ``--config`` and ``--set``, load its weights, and free them afterwards."""
    from emova_sdk.pipeline import Pipeline

    name = config or default_config()
    with Pipeline.from_config(name, overrides=overrides or ()) as pipeline:
        with working(f"loading {name}"):
            pipeline.load()
        yield pipeline


def open_audio(path: Path, pipeline: Pipeline) -> Audio:
    """Read a sound file, no longer than the config allows."""
    from emova_sdk.types import Audio

    return Audio.open(path, max_duration_s=pipeline.limits.max_audio_s)


def open_image(path: Path, pipeline: Pipeline) -> Image:
    """Read a picture, no larger than the config allows."""
    from emova_sdk.types import Image

    return Image.open(path, max_pixels=pipeline.limits.max_image_pixels)


def style_of(
    default: Style,
    *,
    emotion: EmotionName | None = None,
    pitch: PitchName | None = None,
    speed: SpeedName | None = None,
    speaker: str | None = None,
) -> Style:
    """Return ``default`` with the axes that were named replaced."""
    from dataclasses import replace

    named = {"emotion": emotion, "pitch": pitch, "speed": speed, "speaker": speaker}
    return replace(default, **{axis: value for axis, value in named.items() if value is not None})  # type: ignore[arg-type]


def require_writable(path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, before the work rather than after it."""
    from emova_sdk.errors import InputError

    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"`{path}` does not end in {' or '.join(suffixes)}", "choose one of these suffixes for the output")
    if not path.parent.is_dir():
        raise InputError(f"the folder `{path.parent}` does not exist", "create it, or choose another for the output")
