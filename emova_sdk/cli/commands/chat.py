"""``emova chat``: one turn from the command line, or a conversation line by line."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.json_records import reply_record
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
    open_audio,
    open_image,
    open_pipeline,
    read_config,
    read_text,
    require_free_stdout,
    require_one_stdin,
    require_writable,
    save_audio,
    style_of,
)
from emova_sdk.cli.output import print_json, working

if TYPE_CHECKING:
    from emova_sdk.memory import SessionStore
    from emova_sdk.response import Reply


@app.command()
def chat(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Text to send, - for stdin. Without any input: a conversation.")
    ] = None,
    *,
    audio: Annotated[
        Path | None, typer.Option("--audio", "-a", metavar="FILE", help="Audio file to send, - for stdin.")
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option("--image", "-i", metavar="FILE", help="Image file to send; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the answer to this .wav or .flac file, - for stdout."),
    ] = None,
    emotion: EmotionOption = None,
    pitch: PitchOption = None,
    speed: SpeedOption = None,
    speaker: SpeakerOption = None,
    system: Annotated[str, typer.Option("--system", metavar="TEXT", help="Instructions for the model.")] = "",
    db: Annotated[
        str | None, typer.Option("--db", metavar="FILE", help="Store the conversation in this SQLite file or SQLAlchemy URL.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--session", metavar="NAME", help="Start or resume this session.  [default: chat]")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Hold a conversation by microphone and loudspeaker.")] = False,
    microphone: Annotated[
        str | None,
        typer.Option("--microphone", metavar="DEVICE", help="Device name or number, or an audio file to use instead."),
    ] = None,
    loudspeaker: Annotated[
        str | None, typer.Option("--loudspeaker", metavar="DEVICE", help="Device name or number, or a .wav file to write.")
    ] = None,
    half_duplex: Annotated[
        bool,
        typer.Option("--half-duplex", help="Do not listen while speaking: for a microphone that picks up the loudspeaker."),
    ] = False,
    devices: Annotated[bool, typer.Option("--list-devices", help="List microphones and loudspeakers, and exit.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Show how long each step of an answer took.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send text, audio or images and get an answer.

    Without input it is a conversation: line by line, or by voice with --live.

    The model chooses emotion and pitch unless they are given.
    """
    from emova_sdk.cli.keyboard import KeyboardConversation
    from emova_sdk.tools import builtin_tools

    require_writable(out, (".wav", ".flac"), force=force or not (text or audio or images), stdout=True)
    require_free_stdout(out, as_json=as_json)
    require_one_stdin(text, audio, *(images or []))
    if devices:
        from emova_sdk.cli.voice import print_devices

        print_devices(as_json=as_json)
        return
    spoken = _spoken(live, text is not None or audio is not None, microphone, loudspeaker, half_duplex)
    if spoken is not None:
        _require_played(loudspeaker, microphone, force=force)
    settings = read_config(config, overrides)
    heard = [open_audio(audio, settings.limits)] if audio else []
    shown = [open_image(image, settings.limits) for image in images or []]
    written = [read_text(text)] if text is not None else []
    with _store(db, name) as store, open_pipeline(settings, load=True) as pipeline:
        voice = style_of(pipeline.style, speed=speed, speaker=speaker)
        wanted = style_of(voice, emotion=emotion, pitch=pitch) if emotion or pitch else None
        options: dict[str, Any] = {"style": voice, "system": system, "tools": builtin_tools()}
        session = pipeline.session(**options) if store is None else store.session(pipeline, name or "chat", **options)
        if spoken is not None:
            from emova_sdk.cli.voice import VoiceConversation

            VoiceConversation(
                session, images=shown, style=wanted, settings=settings.live, as_json=as_json, trace=trace, **spoken
            ).run()
            return
        if not (heard or shown or written):
            KeyboardConversation(session, style=wanted, out=out, as_json=as_json, trace=trace).run()
            return
        with working("answering"):
            reply = session.ask(*heard, *shown, *written, style=wanted)
    _tell(reply, out, as_json=as_json, trace=trace)


def _tell(reply: Reply, out: Path | None, *, as_json: bool, trace: bool) -> None:
    """Print an answer, and write its sound where that is asked for."""
    from emova_sdk.cli.keyboard import print_reply
    from emova_sdk.cli.trace import print_trace

    path = save_audio(reply.audio, out) if out and reply.audio else None
    if as_json:
        print_json(reply_record(reply, path))
    else:
        with redirect_stdout(sys.stderr) if out == STDIO else nullcontext():
            print_reply(reply, path)
            if trace:
                print_trace(reply.timings)


def _require_played(loudspeaker: str | None, microphone: str | None, *, force: bool) -> None:
    """With a sound file as the microphone, the loudspeaker is a file as well."""
    if microphone is not None and loudspeaker is not None and Path(microphone).suffix:
        require_writable(Path(loudspeaker), (".wav",), force=force)


def _spoken(
    live: bool, has_input: bool, microphone: str | None, loudspeaker: str | None, half_duplex: bool
) -> dict[str, Any] | None:
    """Return what a conversation by voice is told, or None for one at the keyboard."""
    from emova_sdk.errors import InputError

    if live and has_input:
        raise InputError(
            "`--live` listens to the microphone, and there is other input", "leave the text and the sound file out"
        )
    if not live and (microphone or loudspeaker or half_duplex):
        raise InputError("microphone and loudspeaker are for conversations by voice", "add `--live`")
    return {"microphone": microphone, "loudspeaker": loudspeaker, "half_duplex": half_duplex} if live else None


def _store(db: str | None, name: str | None) -> AbstractContextManager[SessionStore | None]:
    """Open what keeps the session, if anything does: before models are loaded, so that what is wrong is said at once."""
    from emova_sdk.errors import InputError

    if db is None:
        if name is not None:
            raise InputError("`--session` names a session of a database", "give the database with `--db FILE`")
        return nullcontext()
    from emova_sdk.memory import SessionStore

    return SessionStore(db)
