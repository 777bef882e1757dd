"""``emova history``: the sessions that were kept, to look at, exchange and forget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emova_sdk.cli.app import app
from emova_sdk.cli.options import ForceOption, JsonOption, require_writable
from emova_sdk.cli.output import counted, describe_perceived, describe_style, describe_words, print_json, print_table

if TYPE_CHECKING:
    from emova_sdk.memory import SessionStore
    from emova_sdk.types import Image, Turn

group = typer.Typer(help="List, show, plot, export, import and delete stored sessions.")
app.add_typer(group, name="history")

DbOption = Annotated[str, typer.Option("--db", metavar="FILE", help="The database: an SQLite file, or any SQLAlchemy URL.")]
PictureOption = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: SESSION.png]")]
NameArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Name of the session.")]


@group.command("list")
def list_all(db: DbOption, as_json: JsonOption = False) -> None:
    """List all sessions, the newest first; times are UTC."""
    with _open(db) as store:
        found = store.sessions()
    if as_json:
        records = [
            {"id": one.id, "created_at": _time(one.created_at), "updated_at": _time(one.updated_at), "turns": one.turns}
            for one in found
        ]
        print_json({"sessions": records})
    else:
        rows = [(one.id, str(one.turns), _time(one.created_at), _time(one.updated_at)) for one in found]
        print_table(("session", "turns", "created", "last used"), rows)


@group.command()
def show(name: NameArgument, db: DbOption, as_json: JsonOption = False) -> None:
    """Print what was said in a session, and how."""
    with _open(db) as store:
        turns = _turns(store, name)
    if as_json:
        print_json({"id": name, "turns": [turn.to_dict() for turn in turns]})
        return
    for turn in turns:
        typer.echo(_line(turn))


@group.command()
def export(
    name: NameArgument,
    db: DbOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: SESSION.jsonl]")] = None,
    media: Annotated[bool, typer.Option("--media", help="Include audio and images.")] = False,
    force: ForceOption = False,
) -> None:
    """Write a session as JSON lines; without --media, audio and images stay in the media folder."""
    path = out or Path(f"{name}.jsonl")
    require_writable(path, (".jsonl",), force=force)
    with _open(db) as store:
        store.export(name, path, media=media)
        typer.echo(f"{path}: {counted(len(store.turns(name)), 'turn')} of {name}")


@group.command("import")
def load(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `emova history export`.")],
    db: DbOption,
    name: Annotated[str | None, typer.Option("--session", metavar="NAME", help="New name for the session.")] = None,
) -> None:
    """Read an exported session into a database, which is created if needed."""
    with _open(db, must_exist=False) as store:
        loaded = store.load(path, session_id=name)
        typer.echo(f"{loaded}: {counted(len(store.turns(loaded)), 'turn')}")


@group.command()
def forget(name: NameArgument, db: DbOption) -> None:
    """Delete a session for good: its turns, audio and images."""
    with _open(db) as store:
        store.forget(name)
    typer.echo(f"{name} is forgotten")


@group.command()
def retain(
    db: DbOption,
    days: Annotated[float, typer.Option("--days", min=0.0, help="Delete sessions not used for this many days.")],
) -> None:
    """Delete every session that was not used for some days."""
    with _open(db) as store:
        forgotten = store.retain(days=days)
    typer.echo(f"{len(forgotten)} forgotten" + (f": {', '.join(forgotten)}" if forgotten else ""))


@group.command()
def plot(name: NameArgument, db: DbOption, out: PictureOption = None, force: ForceOption = False) -> None:
    """Plot the emotions of a session over its turns."""
    from emova_sdk.cli.emotion_plot import draw_emotions, emotions_of

    def draw(_: SessionStore, turns: list[Turn]) -> tuple[Image, str]:
        found = emotions_of(turns)
        drawn = draw_emotions(found, turns=len(turns), title=f"emotions of {name}")
        return drawn, f"{counted(len(found), 'emotion')} in {counted(len(turns), 'turn')}"

    _draw(name, db, out or Path(f"{name}.png"), draw, force=force)


@group.command()
def picture(name: NameArgument, db: DbOption, out: PictureOption = None, force: ForceOption = False) -> None:
    """Draw a session: the words, style, waveform and pitch of each turn."""
    from emova_sdk.picture import draw_turns, panels_of

    def draw(store: SessionStore, turns: list[Turn]) -> tuple[Image, str]:
        panels = panels_of(turns, store.load_media)
        heard = sum(panel.audio is not None for panel in panels)
        return draw_turns(panels, title=name), f"{counted(len(panels), 'turn')}, {heard} with sound"

    _draw(name, db, out or Path(f"{name}.png"), draw, force=force)


def _draw(
    name: str, db: str, path: Path, draw: Callable[[SessionStore, list[Turn]], tuple[Image, str]], *, force: bool
) -> None:
    require_writable(path, (".png",), force=force)
    with _open(db) as store:
        drawn, told = draw(store, _turns(store, name))
    drawn.save(path)
    typer.echo(f"{path}: {told}")


def _open(db: str, *, must_exist: bool = True) -> SessionStore:
    from emova_sdk.errors import InputError
    from emova_sdk.memory import SessionStore

    if must_exist and "://" not in db and not Path(db).is_file():
        raise InputError(f"there is no database `{db}`", "check the path; `emova chat --db FILE` creates one")
    return SessionStore(db)


def _turns(store: SessionStore, name: str) -> list[Turn]:
    from emova_sdk.errors import InputError

    names = [one.id for one in store.sessions()]
    if name not in names:
        raise InputError(f"there is no session `{name}`", f"there are {', '.join(names[:10])}" if names else "there are none")
    if not store.is_chat_history(name):
        return store.turns(name)
    from contextlib import closing

    from emova_sdk.langchain import EmovaChatHistory

    with closing(EmovaChatHistory(name, connection=store.database, media_folder=store.media)) as history:
        return history.turns


def _line(turn: Turn) -> str:
    """``you: i lost my dog  (sad (93%), low, female)``."""
    if turn.role == "user":
        who, how = "you", describe_perceived(turn.perceived)
        facts = turn.metadata
        text = describe_words(turn.text, facts.get("transcript_confidence"), str(facts.get("transcript_guess", "")))
    else:
        who, how = "emova", describe_style(turn.style) + (", interrupted" if turn.interrupted else "")
        text = turn.text
    with_it = [counted(len(turn.images), "picture")] if turn.images else []
    with_it += [f"asks {call.name}" for call in turn.tool_calls]
    return f"{who}: {text}  ({', '.join([how, *with_it])})"


def _time(moment: Any) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")
