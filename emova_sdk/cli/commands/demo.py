"""``emova demo``: a short spoken conversation on shipped input."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.json_records import reply_record
from emova_sdk.cli.options import (
    ConfigOption,
    ForceOption,
    JsonOption,
    SetOption,
    default_config,
    open_pipeline,
    require_writable,
    unused,
)
from emova_sdk.cli.output import describe_perceived, describe_style, describe_timings, describe_transcript, print_json, working

if TYPE_CHECKING:
    from emova_sdk.picture import Panel
    from emova_sdk.pipeline import Pipeline
    from emova_sdk.response import Reply
    from emova_sdk.types import Audio, Image


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder.  [default: demo, or demo-2, ...]")
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option("--input", metavar="FOLDER", help="Only write the input to this folder, and exit."),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run three spoken turns on input that comes with the package.

    Prints each turn, and writes each answer, all answers as reply.wav, and the conversation as conversation.png.
    """
    from emova_sdk.picture import draw_turns

    if given is not None:
        typer.echo(f"written: {', '.join(map(str, _write_input(given, force=force)))}", err=as_json)
        return
    out = out or unused(Path("demo"))
    _make_room(out, ("reply.wav", "conversation.png", *(f"reply-{number}.wav" for number in range(1, 4))), force=force)
    name = config or default_config()
    panels: list[Panel] = []
    records: list[dict[str, Any]] = []
    replies: list[Reply] = []
    with open_pipeline(name, overrides, load=True) as pipeline:
        for number, (turn, audio, reply) in enumerate(_turns(pipeline), start=1):
            path = reply.audio.save(out / f"reply-{number}.wav") if reply.audio else None
            records.append(reply_record(reply, path))
            replies.append(reply)
            panels += _panels(turn, audio, reply)
            if not as_json:
                _print_turn(number, turn, reply)
    written = [Path(record["audio"]["path"]) for record in records if record["audio"]]
    written += _whole_reply(replies, out)
    written.append(draw_turns(panels, title=f"emova demo, {name}").save(out / "conversation.png"))
    if as_json:
        print_json({"config": name, "turns": records, "files": [str(path) for path in written]})
    else:
        typer.echo(f"written: {', '.join(map(str, written))}")


def _make_room(folder: Path, names: Iterable[str], *, force: bool) -> None:
    """Make the folder, unless files in it would be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        require_writable(folder / name, (Path(name).suffix,), force=force)


def _write_input(folder: Path, *, force: bool) -> list[Path]:
    from emova_sdk.files import EXAMPLES
    from emova_sdk.types import Audio, Image

    recordings = sorted(EXAMPLES.glob("*.flac"))
    _make_room(folder, ("scene.png", *(f"{path.stem}.wav" for path in recordings)), force=force)
    sounds = [Audio.open(path).save(folder / f"{path.stem}.wav") for path in recordings]
    return [*sounds, Image.example().save(folder / "scene.png")]


def _turns(pipeline: Pipeline) -> Generator[tuple[dict[str, str], Audio, Reply], None, None]:
    import tomllib

    from emova_sdk.files import EXAMPLES
    from emova_sdk.types import Audio, Image

    session = pipeline.session()
    script: list[dict[str, str]] = tomllib.loads((EXAMPLES / "turns.toml").read_text("utf-8"))["turn"]
    for turn in script:
        audio = Audio.open(EXAMPLES / turn["audio"])
        shown: list[Image] = []
        if "image" in turn and pipeline.vision_encoder is not None:
            shown.append(Image.open(EXAMPLES / turn["image"]))
        with working("answering"):
            reply = session.ask(audio, *shown)
        yield turn, audio, reply


def _print_turn(number: int, turn: dict[str, str], reply: Reply) -> None:
    shows = f", shows {turn['image']}" if "image" in turn else ""
    typer.echo(f'turn {number}: {turn["audio"]}{shows} (says "{turn["said"]}", {turn["emotion"]})')
    typer.echo(f"  heard    {describe_transcript(reply.transcript)}  ({describe_perceived(reply.user_style)})")
    typer.echo(f"  answers  {reply.text}  ({describe_style(reply.style)})")
    typer.echo(f"           {describe_timings(reply.timings)}\n")


def _panels(turn: dict[str, str], audio: Audio, reply: Reply) -> list[Panel]:
    from emova_sdk.picture import Panel

    perceived = (reply.user_style.emotion if reply.user_style else None) or ""
    heard = describe_transcript(reply.transcript) if reply.transcript else turn["said"]
    return [
        Panel("you", heard, perceived, describe_perceived(reply.user_style), audio),
        Panel("emova", reply.text, reply.style.emotion if reply.style else "", describe_style(reply.style), reply.audio),
    ]


def _whole_reply(replies: list[Reply], out: Path) -> list[Path]:
    """Write all answers one after the other, half a second between them."""
    from emova_sdk.types import Audio

    parts: list[Audio] = []
    for reply in replies:
        if reply.audio:
            parts += [reply.audio, Audio.silence(0.5, reply.audio.sample_rate)]
    return [Audio.concat(parts[:-1]).save(out / "reply.wav")] if parts else []
