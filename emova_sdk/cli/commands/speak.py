"""``emova speak``: text to speech in a style."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.json_records import audio_record
from emova_sdk.cli.options import (
    STDIO,
    ConfigOption,
    EmotionOption,
    ForceOption,
    JsonOption,
    PitchOption,
    SetOption,
    SpeakerOption,
    SpeedOption,
    open_pipeline,
    read_text,
    require_free_stdout,
    require_writable,
    save_audio,
    style_of,
    unused,
)
from emova_sdk.cli.output import describe_style, print_json, working


@app.command()
def speak(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text to speak, - for stdin.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="A .wav or .flac file, - for stdout.  [default: speech.wav, or -2, ...]"
        ),
    ] = None,
    emotion: EmotionOption = None,
    pitch: PitchOption = None,
    speed: SpeedOption = None,
    speaker: SpeakerOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a text aloud with an emotion, a pitch and a speed."""
    require_writable(out, (".wav", ".flac"), force=force, stdout=True)
    require_free_stdout(out, as_json=as_json)
    out = out or unused(Path("speech.wav"))
    text = read_text(text)
    with open_pipeline(config, overrides) as pipeline:
        requested = style_of(pipeline.style, emotion=emotion, pitch=pitch, speed=speed, speaker=speaker)
        applied = pipeline.resolve_style(requested).applied
        with working("speaking"):
            audio = pipeline.speak(text, style=requested)
        save_audio(audio, out)
    if as_json:
        record = {"text": text, "style": applied.to_dict(), "requested_style": requested.to_dict()}
        print_json({**record, "audio": audio_record(audio, out)})
    else:
        fallen = f" (instead of {describe_style(requested)})" if applied != requested else ""
        typer.echo(f"{out}: {audio.duration_s:.2f} s, {describe_style(applied)}{fallen}", err=out == STDIO)
