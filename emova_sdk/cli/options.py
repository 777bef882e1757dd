"""Options that several commands share, and the pipeline they ask for."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from emova_sdk.cli.output import working
from emova_sdk.style_values import Emotion, Pitch, Speed

if TYPE_CHECKING:
    from emova_sdk.config import Limits, PipelineConfig
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.types import Audio, Image, Style

STDIO = Path("-")
"""What stands for stdin or stdout in place of a file."""

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        envvar="EMOVA_CONFIG",
        help="A preset, a TOML file, or a folder with an assistant.toml.  [default: emova-nano]",
        show_envvar=True,
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the config, e.g. vocoder.type=onnx.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace existing files.")]
EmotionOption = Annotated[Emotion | None, typer.Option("--emotion", help="Emotion of the voice.")]
PitchOption = Annotated[Pitch | None, typer.Option("--pitch", help="Pitch, relative to the voice's own.")]
SpeedOption = Annotated[Speed | None, typer.Option("--speed", help="Speed of the speech.")]
SpeakerOption = Annotated[str | None, typer.Option("--speaker", metavar="NAME", help="Voice: female, male, ...")]


def default_config() -> str:
    """Return the preset used when none is named: the embedded one, or where it is not installed the weightless fakes."""
    from emova_sdk.presets import presets

    return "emova-nano" if "emova-nano" in presets() else "fake"


def read_config(config: str | None, overrides: list[str] | None = None) -> PipelineConfig:
    """Read ``--config`` and ``--set``; nothing is loaded yet, so that input can be looked at before."""
    from emova_sdk.config import load_config

    return load_config(config or default_config(), overrides=overrides or ())


@contextmanager
def open_pipeline(
    config: PipelineConfig | str | None, overrides: list[str] | None = None, *, load: bool = False
) -> Generator[Pipeline, None, None]:
    """Build the pipeline of a config, and free its weights afterwards.

    Args:
        config: What to build, as it was typed or read.
        overrides: Values that replace the config's.
        load: Whether to load all weights now, rather than those that are used when they are.
    """
    from emova_sdk.pipeline import Pipeline

    settings = read_config(config, overrides) if config is None or isinstance(config, str) else config
    with working("loading"), Pipeline.from_config(settings) as pipeline:
        if load:
            pipeline.load()
        yield pipeline


def typed_path(text: str | Path) -> Path:
    """Return the path that somebody typed or dropped on the terminal: ``~`` and ``file://`` are understood."""
    from emova_sdk.toml_files import expanded

    written = str(text)
    if written.startswith("file:/"):
        from urllib.request import url2pathname

        return Path(url2pathname(written.removeprefix("file:").removeprefix("//")))
    return expanded(text)


def open_audio(path: Path, limits: Limits) -> Audio:
    """Read a sound file, or stdin for ``-``, no longer than the config allows."""
    from emova_sdk.types import Audio

    return Audio.open(_stdin() if path == STDIO else typed_path(path), max_duration_s=limits.max_audio_s)


def open_image(path: Path, limits: Limits) -> Image:
    """Read a picture, or stdin for ``-``, no larger than the config allows."""
    from emova_sdk.types import Image

    return Image.open(_stdin() if path == STDIO else typed_path(path), max_pixels=limits.max_image_pixels)


def read_text(text: str) -> str:
    """Return what was typed, or what stdin holds for ``-``."""
    from emova_sdk.errors import InputError

    read = _stdin().read().decode("utf-8-sig", "replace").strip() if text == str(STDIO) else text
    if not read.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in read):
        raise InputError("the text is not valid UTF-8", "encode it as UTF-8")
    return read


def require_one_stdin(*given: str | Path | None) -> None:
    """Refuse that two inputs are read from stdin."""
    from emova_sdk.errors import InputError

    if [str(one) for one in given].count(str(STDIO)) > 1:
        raise InputError("only one input can be `-`, which is read from stdin", "name files for the others")


def _stdin() -> BinaryIO:
    return sys.stdin.buffer


def style_of(
    default: Style,
    *,
    emotion: Emotion | None = None,
    pitch: Pitch | None = None,
    speed: Speed | None = None,
    speaker: str | None = None,
) -> Style:
    """Return ``default`` with the axes that were named replaced."""
    from dataclasses import replace

    named = {"emotion": emotion, "pitch": pitch, "speed": speed, "speaker": speaker}
    return replace(default, **{axis: value for axis, value in named.items() if value is not None})  # type: ignore[arg-type] - `Style` checks it


def require_writable(path: Path | None, suffixes: tuple[str, ...], *, force: bool = True, stdout: bool = False) -> None:
    """Refuse an output that could not be written, or would replace a file, before the work rather than after it.

    Args:
        path: Where to; None is no file.
        suffixes: Those that are allowed.
        force: Whether a file that is there may be replaced.
        stdout: Whether ``-`` is allowed, and means stdout.
    """
    from emova_sdk.errors import InputError
    from emova_sdk.files import exists, is_folder

    if path is None or (stdout and path == STDIO):
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"`{path}` does not end in {' or '.join(suffixes)}", "choose one of these suffixes for the output")
    if not is_folder(path.parent):
        raise InputError(f"the folder `{path.parent}` does not exist", "create it, or choose another for the output")
    if not force and exists(path):
        raise InputError(f"`{path}` already exists", "choose another name, or replace it with `--force`")


def unused(path: Path) -> Path:
    """Return a path at which nothing is yet: itself, or ``speech-2.wav``, ``speech-3.wav``, ..."""
    from emova_sdk.files import exists

    names = (path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 10_000)))
    return next(name for name in names if not exists(name))


def save_audio(audio: Audio, path: Path) -> Path:
    """Write a sound to a file, or as WAV to stdout for ``-``."""
    if path != STDIO:
        return audio.save(path)
    from emova_sdk.audio import encode
    from emova_sdk.errors import InputError

    if sys.stdout.isatty():
        raise InputError("the audio would be written to the terminal", "name a file, or pipe it to a player")
    sys.stdout.buffer.write(encode(audio.samples, audio.sample_rate))
    sys.stdout.buffer.flush()
    return path


def require_free_stdout(path: Path | None, *, as_json: bool) -> None:
    """Refuse that both JSON and sound are written to stdout."""
    from emova_sdk.errors import InputError

    if as_json and path == STDIO:
        raise InputError("`--json` and `--out -` both write to stdout", "name a file for the audio")
