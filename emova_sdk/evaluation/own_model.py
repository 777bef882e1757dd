"""Evaluates a model on the user's own recordings: words, emotions, and the validity of its replies.

Test data are a table of recordings, see `training.recordings`, or conversations in the published format, whose speech is
units already. The former are heard by the pipeline's ears; of the latter the language model alone is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emova_sdk.components.base import LLMCore, SpeechTokenizer
from emova_sdk.config import PipelineConfig, build_component
from emova_sdk.errors import ConfigError, InputError
from emova_sdk.evaluation.figures import Card, Figure
from emova_sdk.evaluation.intervals import interval, wilson
from emova_sdk.evaluation.text_metrics import dialogue_cer, dialogue_wer
from emova_sdk.pipeline import Pipeline
from emova_sdk.types import EMOTIONS, Message, Metadata, PerceivedStyle, SpeechUnits, TextDelta, Transcript, UserStyle

_HAN = re.compile("[\u4e00-\u9fff]")
"""Texts with such characters are compared by character."""


@dataclass(frozen=True)
class SpokenCase:
    """One spoken sentence.

    Attributes:
        id: Its name in the data.
        units: What was spoken.
        text: The right words; None where the data do not tell.
        emotion: The right emotion; None where the data do not tell.
        perceived: What the style module heard; None where there is none, or no sound.
    """

    id: str
    units: SpeechUnits
    text: str | None = None
    emotion: str | None = None
    perceived: PerceivedStyle | None = None


@dataclass(frozen=True)
class HeardCase:
    """What a model made of a case.

    Attributes:
        case: The case.
        transcript: The words it wrote down; None where it was not asked.
        emotion: The emotion it heard; None where it is not known.
        problems: Kinds of what was wrong with its reply, as `ReplyParser` reports them; ``empty`` where it had no words.
    """

    case: SpokenCase
    transcript: str | None
    emotion: str | None
    problems: tuple[str, ...]


def measure_model(
    config: PipelineConfig, data: str | Path, *, cases: int | None = None, step: Callable[[int, int], None] | None = None
) -> Card:
    """Ask a model about each spoken sentence of test data.

    Args:
        config: The model; of its slots only those that are needed are loaded.
        data: A table of recordings (``.csv``, ``.tsv``, ``.jsonl``) or a data file (``.json``, ``.jsonl``).
        cases: Most sentences that are asked about, the first ones; all by default.
        step: Called with the sentences done and the sentences there are.

    Raises:
        InputError: The data cannot be read, or hold no speech.
        ConfigError: The config has no language model, or for recordings no ears.
    """
    dialogue_wer([], [])  # says now that a package is missing, not after all the work
    path, card = Path(data), Card()
    table = is_table(path)
    slots = ("speech_tokenizer", "llm_core", "style_module") if table else ("llm_core",)
    for slot in slots[:2]:
        if slot not in config.slots:
            raise ConfigError(f"the config has no component for `{slot}`", f"name one with --set {slot}.type=NAME")
    stored, skipped = ([], 0) if table else read_units(path)
    if not table:
        card.facts["conversations_without_speech"] = skipped
    parts: dict[str, Any] = {slot: build_component(config, slot) for slot in slots if slot in config.slots}
    with Pipeline(**parts) as pipeline:
        chosen = stored[:cases]
        total, asked = _recordings(path, pipeline, config, cases) if table else (len(chosen), iter(chosen))
        llm = pipeline.require("llm_core", LLMCore, "be measured")
        module = pipeline.style_module
        card.facts["emotion.heard_by"] = "style_module" if module is not None and module.perceives else "llm_core"
        heard: list[HeardCase] = []
        for case in asked:
            heard.append(_hear(llm, case))
            if step is not None:
                step(len(heard), total)
    figures(heard, card)
    return card


# --- test data


def is_table(path: Path) -> bool:
    """Whether a file is a table of recordings rather than conversations in the published format.

    Raises:
        InputError: A ``.jsonl`` file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix != ".jsonl":
        return suffix in {".csv", ".tsv"}
    from emova_sdk.files import open_file

    with open_file(path, "test data") as file:
        lines = (line for line in file if line.strip())
        return b'"conversations"' not in next(lines, b"")


def _recordings(path: Path, pipeline: Pipeline, config: PipelineConfig, cases: int | None) -> tuple[int, Iterator[SpokenCase]]:
    """Return the number of recordings of a table, and each as it is heard."""
    from emova_sdk.training.recordings import open_units, read_table

    table = read_table(path)
    if table.bad:
        raise table.bad[0].error
    chosen = table.recordings[:cases]
    ears = pipeline.require("speech_tokenizer", SpeechTokenizer, "hear")

    def heard() -> Iterator[SpokenCase]:
        for one in chosen:
            audio, units = open_units(one.audio, ears, max_audio_s=config.limits.max_audio_s)
            yield SpokenCase(f"row {one.row}", units, one.text, one.emotion or None, pipeline.perceive(audio))

    return len(chosen), heard()


def read_units(path: Path) -> tuple[list[SpokenCase], int]:
    """Read the spoken sentences of a data file, those of several tasks once; count the conversations without any.

    Raises:
        InputError: The file is not of the published format, or holds no speech.
    """
    from emova_sdk.training.data import read_samples

    found: dict[tuple[str, str | None], SpokenCase] = {}
    skipped = 0
    for sample in read_samples(path):
        case = _case(sample.id, sample.turns[0][1] or "", sample.turns[1][1] or "" if len(sample.turns) > 1 else "")
        if case is None or sample.images:
            skipped += 1
            continue
        label = sample.labels.get("emotion")
        known = found.setdefault((case.units.to_text(), case.text), case)
        emotion = known.emotion or case.emotion or (label if label in EMOTIONS else None)
        found[case.units.to_text(), case.text] = replace(known, emotion=emotion)
    if not found:
        raise InputError(f"`{path}` holds no speech", "give transcriptions or spoken dialogues, as `emova data build` writes")
    return list(found.values()), skipped


def _case(name: str, asked: str, answered: str) -> SpokenCase | None:
    """Read a question of the published format that is spoken; None for another."""
    from emova_sdk.components.emova.language.prompts import CORRECTED, PUBLISHED
    from emova_sdk.components.emova.language.reply import parse_reply

    for wording in (PUBLISHED, CORRECTED):
        if asked.startswith(wording.transcribe):
            return SpokenCase(name, SpeechUnits.parse(asked.removeprefix(wording.transcribe)), answered or None)
        if asked.startswith(wording.chat):
            reply = parse_reply(answered)
            emotion = None if reply.user_style is None else reply.user_style.emotion
            return SpokenCase(name, SpeechUnits.parse(asked.removeprefix(wording.chat)), reply.transcript, emotion)
    return None


# --- asking


def _hear(llm: LLMCore, case: SpokenCase) -> HeardCase:
    message = Message("user", (case.units,), style=case.perceived)
    transcript = None if case.text is None else _transcript(llm, message)
    text, guessed, problems = "", case.perceived, list[str]()
    with closing(llm.generate([message])) as events:
        for event in events:
            match event:
                case TextDelta(delta):
                    text += delta
                case UserStyle(perceived):
                    guessed = guessed or perceived
                case Metadata(data):
                    problems += [str(problem["kind"]) for problem in data.get("reply_problems", ())]
                case _:
                    pass
    if not text.strip():
        problems.append("empty")
    return HeardCase(case, transcript, None if guessed is None else guessed.emotion, tuple(dict.fromkeys(problems)))


def _transcript(llm: LLMCore, message: Message) -> str:
    text = ""
    with closing(llm.generate([message], task="transcribe")) as events:
        for event in events:
            if isinstance(event, Transcript):
                return event.text
            text += event.text if isinstance(event, TextDelta) else ""
    return text.strip()


# --- figures


def figures(heard: Sequence[HeardCase], card: Card) -> None:
    """Add what can be said of what was heard to a card."""
    _words([(one.case.text, one.transcript) for one in heard if one.case.text and one.transcript is not None], card)
    _emotions([(one.case.emotion, one.emotion) for one in heard if one.case.emotion], card)
    readable = [not one.problems for one in heard]
    card.figures.append(_share("replies", "valid", readable))
    card.facts["replies.unreadable"] = readable.count(False)
    card.facts["replies.problems"] = dict(Counter(problem for one in heard for problem in one.problems))


def _words(pairs: Sequence[tuple[str, str]], card: Card) -> None:
    if not pairs:
        card.left_out["transcription"] = "the data tell no words"
        return
    chinese = [pair for pair in pairs if _HAN.search(pair[0])]
    english = [pair for pair in pairs if not _HAN.search(pair[0])]
    for unit, rate_of, chosen in (("word", dialogue_wer, english), ("character", dialogue_cer, chinese)):
        if chosen:
            rates = [rate_of([right], [written]) for right, written in chosen]
            wrong, total = [rate.errors for rate in rates], [rate.total for rate in rates]
            share = sum(wrong) / max(sum(total), 1)
            card.figures.append(Figure("transcription", f"{unit}_error", share, *interval(wrong, total), len(chosen)))
            card.facts[f"transcription.{unit}s"] = sum(total)
    card.facts["transcription.empty"] = sum(not written for _, written in pairs)


def _emotions(pairs: Sequence[tuple[str, str | None]], card: Card) -> None:
    if not pairs:
        card.left_out["emotion"] = "the data tell no emotions"
        return
    known = [(right, told) for right, told in pairs if told is not None]
    if known:
        majority = Counter(right for right, _ in known).most_common(1)[0][1] / len(known)
        card.figures.append(_share("emotion", "right_where_known", [right == told for right, told in known], guess=majority))
    card.figures.append(_share("emotion", "unknown", [told is None for _, told in pairs]))
    card.facts["emotion.labelled"] = dict(Counter(right for right, _ in pairs))


def _share(group: str, name: str, hits: Sequence[bool], *, guess: float | None = None) -> Figure:
    share = sum(hits) / len(hits)
    return Figure(group, name, share, *wilson(share, len(hits)), len(hits), guess)
