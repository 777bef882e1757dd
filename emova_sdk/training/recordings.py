"""Training data from recordings and what is said in them: a table of files and texts becomes conversations with speech units.

Each row of the table gives a conversation for each task it has the parts of::

    transcribe   speech, text                          write down what is said
    speak        text, speech                          say a text
    chat         text, answer                          answer in writing
    dialogue     speech, text, emotion, pitch,         answer aloud: what was heard and how, the answer, its style, its
                 answer, answer_audio                  units
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from emova_sdk.components.base import SpeechTokenizer
from emova_sdk.components.emova.language.prompts import IMAGE_MARK, PUBLISHED
from emova_sdk.components.emova.language.reply_format import format_reply
from emova_sdk.errors import InputError
from emova_sdk.files import exists, open_file, write_atomically
from emova_sdk.types import EMOTIONS, PITCHES, Audio, SpeechUnits

Task = Literal["transcribe", "speak", "chat", "dialogue"]
TASKS: tuple[Task, ...] = ("transcribe", "speak", "chat", "dialogue")
COLUMNS = ("audio", "text", "emotion", "pitch", "speaker", "answer", "answer_audio", "answer_emotion", "answer_pitch")
_CHOICES: Mapping[str, tuple[str, ...]] = {"emotion": EMOTIONS, "pitch": PITCHES}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Recording:
    """One row of the table.

    Attributes:
        row: Its line in the file, counted from 1.
        audio: The recording.
        text: What is said in it.
        emotion: How it is said; empty where that is not known, as are ``pitch`` and ``speaker``.
        pitch: See ``emotion``.
        speaker: Who says it.
        answer: What is to be answered, or empty.
        answer_audio: A recording of the answer, or None.
        answer_emotion: How the answer is said.
        answer_pitch: How the answer is said.
    """

    row: int
    audio: Path
    text: str
    emotion: str = ""
    pitch: str = ""
    speaker: str = ""
    answer: str = ""
    answer_audio: Path | None = None
    answer_emotion: str = "neutral"
    answer_pitch: str = "normal"

    @property
    def labels(self) -> dict[str, str]:
        """What is known of how the recording is spoken."""
        known = {"emotion": self.emotion, "pitch": self.pitch, "speaker": self.speaker}
        return {axis: value for axis, value in known.items() if value}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    Attributes:
        row: Its line in the file.
        error: Why; the message names row and file.
    """

    row: int
    error: InputError


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        recordings: Those that can be used, as far as can be said without opening the recordings.
        bad: The others.
        unused: Columns that mean nothing here.
    """

    recordings: tuple[Recording, ...]
    bad: tuple[BadRow, ...]
    unused: tuple[str, ...]


@dataclass
class Built:
    """What was written.

    Attributes:
        recordings: Rows used.
        tasks: Conversations written, by task.
        units: Speech units of the recordings.
        seconds: Length of the recordings.
        bad: Rows left out.
        unused: Columns of the table that mean nothing here.
    """

    recordings: int = 0
    tasks: Counter[str] = field(default_factory=Counter[str])
    units: int = 0
    seconds: float = 0.0
    bad: list[BadRow] = field(default_factory=list[BadRow])
    unused: tuple[str, ...] = ()


# --- the table


def read_table(path: str | Path) -> Table:
    """Read a table of recordings: CSV or TSV with a heading, or one JSON object per line (``.jsonl``).

    Raises:
        InputError: The file cannot be read, is of another kind, has no column ``audio`` or ``text``, or no rows.
    """
    path = Path(path)
    recordings: list[Recording] = []
    bad: list[BadRow] = []
    columns: dict[str, None] = {}
    for number, values in _rows(path):
        columns |= dict.fromkeys(str(name) for name in values if name is not None)
        try:
            recordings.append(_recording(number, values, path.parent))
        except InputError as error:
            bad.append(_bad_row(number, path, error))
    if not recordings and not bad:
        raise InputError(f"`{path}` has no rows", "give each recording a row of its path and its text")
    return Table(tuple(recordings), tuple(bad), tuple(name for name in columns if name not in COLUMNS))


def _bad_row(number: int, path: Path, error: InputError) -> BadRow:
    return BadRow(number, InputError(f"row {number} of `{path}`: {error.message}", error.hint))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    """Yield the rows of a file by column, with their line."""
    suffix = path.suffix.lower()
    if suffix not in {*_DELIMITERS, ".jsonl"}:
        raise InputError(f"`{path}` does not end in .csv, .tsv or .jsonl", "write the table as one of these")
    with open_file(path, "table of recordings") as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"`{path}` is not UTF-8: {error}", "save the table as UTF-8") from error
    if suffix == ".jsonl":
        yield from _json_rows(text, path)
    else:
        yield from _table_rows(text, path, _DELIMITERS[suffix])


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"row {number} of `{path}` is not JSON: {error}", "write one object per line") from error
            if not isinstance(values, dict):
                raise InputError(f"row {number} of `{path}` is not an object", "write one object per line")
            yield number, cast("dict[Any, Any]", values)


def _table_rows(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, Mapping[Any, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = list(reader.fieldnames or ())
        missing = [name for name in ("audio", "text") if name not in names]
        if missing:
            found = ", ".join(names)
            raise InputError(
                f"`{path}` has no column `{missing[0]}`, only {found[:200]}", "begin with a line of names: audio,text"
            )
        for values in reader:
            yield reader.line_num, values
    except csv.Error as error:
        raise InputError(f"`{path}` cannot be read at line {reader.line_num}: {error}", "mend its quotes") from error


def _recording(number: int, values: Mapping[Any, Any], folder: Path) -> Recording:
    if None in values:
        raise InputError("there are more cells than columns", "put cells that hold the delimiter in quotes")
    cells = {name: _cell(name, values.get(name)) for name in COLUMNS}
    for name in ("audio", "text"):
        if not cells[name]:
            raise InputError(f"`{name}` is empty", "give the path of the recording and what is said in it")
    if cells["answer_audio"] and not cells["answer"]:
        raise InputError("`answer_audio` has no `answer`", "write down what is said in it")
    if cells["answer_audio"] and not (cells["emotion"] and cells["pitch"]):
        raise InputError("`answer_audio` needs `emotion` and `pitch`", "label how the question is spoken: the reply tells it")
    for name in ("emotion", "pitch", "answer_emotion", "answer_pitch"):
        cells[name] = _choice(name, cells[name])
    audio = _file(folder, cells.pop("audio"))
    answer_audio = cells.pop("answer_audio")
    rest = {name: value for name, value in cells.items() if value}
    return Recording(number, audio, answer_audio=_file(folder, answer_audio) if answer_audio else None, **rest)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not exists(path):
        raise InputError(f"`{path}` does not exist", "paths are relative to the folder of the table")
    return path


def _cell(name: str, value: object) -> str:
    """Return a cell with its white space made single blanks, so that no line end gets into a conversation."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"`{name}` is not a text", "put it in quotes")
    text = " ".join(value.split())
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"`{name}` holds half a character", "write it as UTF-8")
    if IMAGE_MARK in text or "<|" in text:
        raise InputError(f"`{name}` holds a mark of the format: `{text[:60]}`", f"leave out `{IMAGE_MARK}` and `<|...|>`")
    return text


def _choice(name: str, value: str) -> str:
    allowed = _CHOICES[name.removeprefix("answer_")]
    if value and value.casefold() not in allowed:
        raise InputError(f"`{name}` is `{value[:60]}`", f"use {', '.join(allowed)}, or leave it empty")
    return value.casefold()


# --- conversations


def open_units(path: Path, tokenizer: SpeechTokenizer, *, max_audio_s: float | None = None) -> tuple[Audio, SpeechUnits]:
    """Read a recording and what a speech tokenizer makes of it.

    Raises:
        InputError: The recording cannot be read, is too long, or nothing can be heard in it.
    """
    audio = Audio.open(path, max_duration_s=max_audio_s)
    units = tokenizer.encode([audio.resample(tokenizer.sample_rate)])[0]
    if not len(units):
        raise InputError(f"nothing can be heard in `{path}`", "leave it out, or record it again")
    return audio, units


def conversations(
    recording: Recording, units: SpeechUnits, answer: SpeechUnits | None, tasks: Iterable[str] = TASKS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the task and the record of each conversation that a recording has the parts of, in the order of `TASKS`.

    Args:
        recording: The row.
        units: Of the recording.
        answer: Of the recorded answer; None where there is none.
        tasks: Those that are wanted.
    """
    pairs: dict[str, tuple[str, str]] = {
        "transcribe": (PUBLISHED.transcribe + units.to_text(), recording.text),
        "speak": (PUBLISHED.speak + recording.text, units.to_text()),
    }
    if recording.answer:
        pairs["chat"] = (recording.text, recording.answer)
    if answer is not None:
        pairs["dialogue"] = (PUBLISHED.chat + units.to_text(), _reply(recording, answer))
    for task in TASKS:
        if task in pairs and task in tasks:
            asked, answered = pairs[task]
            turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]
            yield task, {"id": f"{recording.audio.stem}-{recording.row}-{task}", "conversations": turns, **recording.labels}


def _reply(recording: Recording, units: SpeechUnits) -> str:
    return format_reply(
        text=recording.answer,
        emotion=recording.answer_emotion,
        pitch=recording.answer_pitch,
        units=units.ids.tolist(),
        user_text=recording.text,
        user_emotion=recording.emotion,
        user_pitch=recording.pitch,
    )


def build_data(
    path: str | Path,
    tokenizer: SpeechTokenizer,
    *,
    output: str | Path,
    tasks: Sequence[str] = TASKS,
    skip_bad: bool = False,
    force: bool = False,
    max_audio_s: float | None = None,
    step: Callable[[int, int], None] | None = None,
) -> Built:
    """Write the conversations of a table of recordings, one JSON object per line, as `read_samples` reads them.

    The file appears when it is whole; after an error nothing of it is left.

    Args:
        path: The table, see `read_table`; the paths in it are relative to its folder.
        tokenizer: Makes the units; that of the model that is to be trained.
        output: File to write.
        tasks: What is taught, of `TASKS`.
        skip_bad: Leave out rows that cannot be used, rather than end at the first.
        force: Replace an existing file.
        max_audio_s: Longest recording.
        step: Called with the rows done and the rows there are.

    Raises:
        InputError: The table cannot be read, a row cannot be used, none is left, or the output already exists.
    """
    output = Path(output)
    if unknown := [task for task in tasks if task not in TASKS]:
        raise InputError(f"there is no task `{unknown[0]}`", f"choose from {', '.join(TASKS)}")
    if not force and output.exists():
        raise InputError(f"`{output}` already exists", "choose another name, or replace it with `force`")
    table = read_table(path)
    if table.bad and not skip_bad:
        raise table.bad[0].error
    built = Built(bad=list(table.bad), unused=table.unused)

    def write(file: BinaryIO) -> None:
        for done, recording in enumerate(table.recordings, 1):
            try:
                records = _records(recording, tokenizer, tasks, max_audio_s, built)
            except InputError as error:
                built.bad.append(_bad_row(recording.row, Path(path), error))
                if not skip_bad:
                    raise built.bad[-1].error from error
            else:
                file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
            if step is not None:
                step(done, len(table.recordings))
        if not built.tasks:
            first = f"; the first: {built.bad[0].error.message}" if built.bad else ""
            raise InputError(f"no row of `{path}` gives a conversation{first}", "mend the table, or choose other tasks")

    write_atomically(output, write)
    built.bad.sort(key=lambda one: one.row)
    return built


def _records(
    recording: Recording, tokenizer: SpeechTokenizer, tasks: Sequence[str], max_audio_s: float | None, built: Built
) -> list[dict[str, Any]]:
    """Return the records of a row, and count what was made only when all of it was."""
    audio, units = open_units(recording.audio, tokenizer, max_audio_s=max_audio_s)
    answer = None
    if recording.answer_audio is not None:
        _, answer = open_units(recording.answer_audio, tokenizer, max_audio_s=max_audio_s)
    made = list(conversations(recording, units, answer, tasks))
    built.recordings += 1
    built.units += len(units)
    built.seconds += audio.duration_s
    built.tasks.update(task for task, _ in made)
    return [record for _, record in made]
