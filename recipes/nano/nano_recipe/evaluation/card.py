"""The figures of nano's model card in one table: every measurement there is, run on what there is to measure.

What lacks its weights, its data or a program is left out and said to be, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emova_sdk.errors import EmovaError, InputError
from emova_sdk.evaluation.figures import Card, Figure

if TYPE_CHECKING:
    from emova_sdk.components.nano.llm import NanoLLM
    from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder
    from nano_recipe.evaluation.dialogue import Score
    from nano_recipe.examples import Utterance
    from nano_recipe.speech_data import RecordedUtterance


CEILINGS = {
    "word_error_neutral": "word_error_teacher",
    "word_error_styled": "word_error_teacher",
    "reply_emotion": "teacher_emotion",
}
"""Figures whose ceiling is the teacher's own audio, by the beginning of their names."""


def measure(
    *, preset: Path | None = None, work: Path | None = None, cases: int = 300, begin: Callable[[str], None] | None = None
) -> Card:
    """Measure everything that can be measured here.

    Args:
        preset: Folder with the parts of a trained nano; the shipped ones by default.
        work: Work folder with rendered speech, for all that is heard and spoken.
        cases: Questions for each kind of turn; at most a third as many texts are spoken.
        begin: Called with the name of each measurement before it starts.
    """
    card = Card()
    llm, eyes = _parts(preset, card)
    if llm is not None and eyes is not None:
        from nano_recipe.evaluation import dialogue as nano_dialogue

        dialogues: dict[str, Callable[[], Mapping[str, Score]]] = {
            "pictures": lambda: nano_dialogue.picture_questions(llm, eyes, n=cases),
            "typed turns": lambda: nano_dialogue.typed_turns(llm, n=cases),
        }
        for name, kind in (("spoken turns", "seen"), ("unseen voices", "unseen")):
            dialogues[name] = lambda kind=kind: nano_dialogue.spoken_turns(
                llm, eyes, heard_questions(require_speech(work), preset, unseen=kind == "unseen"), n=cases
            )
        alone = _alone(preset)
        dialogues["pictures, model alone"] = lambda: nano_dialogue.picture_questions(alone, eyes, n=cases)
        dialogues["unseen voices, model alone"] = lambda: nano_dialogue.transcripts(
            alone, heard_questions(require_speech(work), preset, unseen=True), n=cases
        )
        for name, scores in dialogues.items():
            _attempt(card, name, lambda name=name, scores=scores: _add_scores(card, name, scores()), begin)
    _attempt(card, "latency", lambda: _add_latency(card, preset, require_speech(work)), begin)
    _attempt(card, "speech", lambda: _add_speech(card, preset, require_speech(work), max(1, cases // 3)), begin)
    return card


def _attempt(card: Card, name: str, work: Callable[[], None], begin: Callable[[str], None] | None) -> None:
    if begin is not None:
        begin(name)
    try:
        work()
    except EmovaError as error:
        card.left_out[name] = f"{error.message}; {error.hint}" if error.hint else error.message


def _parts(preset: Path | None, card: Card) -> tuple[NanoLLM | None, NanoVisionEncoder | None]:
    from emova_sdk.components.nano.llm import NanoLLM
    from emova_sdk.components.nano.vision_encoder import NanoVisionEncoder

    def folder(name: str) -> str | None:
        return None if preset is None else str(preset / name)

    try:
        llm = NanoLLM(path=folder("llm_core"), text_to_units=folder("text_to_units"))
        llm.load()
        return llm, NanoVisionEncoder(path=folder("vision_encoder"))
    except EmovaError as error:
        card.left_out["pictures and turns"] = error.message
        return None, None


def _alone(preset: Path | None) -> NanoLLM:
    """The language model without the checks that stand behind it."""
    from emova_sdk.components.nano.llm import NanoLLM

    path = None if preset is None else str(preset / "llm_core")
    return NanoLLM(path=path, hearing="language_model", check_pictures=False, min_confidence=0.0)


def require_speech(work: Path | None) -> Path:
    """Return the work folder if speech was rendered there."""
    hint = "render it with `emova train nano --stage data --budget-s 600 --out FOLDER`, then pass `--work FOLDER`"
    if work is None:
        raise InputError("no rendered speech was given", hint)
    if not any((work / "speech").glob("shard-*.npz")):
        raise InputError(f"there is no rendered speech in `{work}`", hint)
    return work


def rendered_questions(work: Path, *, unseen: bool) -> list[RecordedUtterance]:
    """Read the rendered test questions, in voices that were trained on or in the others.

    Raises:
        InputError: If there are none.
    """
    from nano_recipe.speech_data import load_all
    from nano_recipe.voices import TEST_VOICES

    asked = [
        said
        for said in load_all(work)
        if said.plan.split == "test" and "question" in said.plan.id and (said.plan.voice in TEST_VOICES) == unseen
    ]
    if not asked:
        raise InputError(f"there are no test questions in `{work}`", "render more with a bigger `--budget-s`")
    return asked


def heard_questions(work: Path, preset: Path | None, *, unseen: bool) -> list[Utterance]:
    """Hear the rendered test questions."""
    from emova_sdk.components.nano.speech_tokenizer import NanoSpeechTokenizer
    from emova_sdk.types import Audio
    from nano_recipe.evaluation.report import sound_of
    from nano_recipe.examples import utterance_from

    asked = rendered_questions(work, unseen=unseen)
    ear = NanoSpeechTokenizer(path=None if preset is None else str(preset / "speech_tokenizer"))
    heard = ear.encode([Audio(sound_of(said), 16000) for said in asked])
    return [
        utterance_from(
            {
                "text": said.plan.text,
                "units": units.ids.tolist(),
                "emotion": said.plan.emotion,
                "pitch": said.plan.pitch,
                "voice": said.plan.voice,
            }
        )
        for said, units in zip(asked, heard, strict=True)
    ]


def _add_scores(card: Card, group: str, scores: Mapping[str, Score]) -> None:
    for name, score in scores.items():
        guess = None if name == "declined" else score.guess  # whether to decline is no question with a right answer
        card.figures.append(Figure(group, name, score.share, score.low, score.high, score.n, guess))


def _add_latency(card: Card, preset: Path | None, work: Path) -> None:
    from nano_recipe.evaluation.latency import judge_turns

    measured = judge_turns(rendered_questions(work, unseen=False), preset=preset)
    card.facts |= {f"turns.{name}": value for name, value in measured.items()}


def _add_speech(card: Card, preset: Path | None, work: Path, texts: int) -> None:
    from nano_recipe.evaluation.report import evaluate_speech
    from nano_recipe.voices import require_programs

    require_programs()  # the teacher speaks too
    _require_tests(work)
    figures, facts = speech_figures(evaluate_speech(work, preset=preset, texts=min(100, texts)))
    card.figures += figures
    card.facts |= facts


def _require_tests(work: Path) -> None:
    """Check that speech was rendered for every kind of test."""
    from nano_recipe.evaluation.report import groups
    from nano_recipe.speech_data import load_all

    tests = groups(said for said in load_all(work) if said.plan.split == "test")
    lacking = [name for name, utterances in tests.items() if not utterances]
    if lacking:
        raise InputError(
            f"there is no test speech in `{work}` of the kinds {', '.join(lacking)}", "render more with a bigger `--budget-s`"
        )


def speech_figures(report: Mapping[str, Any]) -> tuple[list[Figure], dict[str, Any]]:
    """Flatten the report of the speech half into lines of the table and other facts."""
    measured: dict[tuple[str, str], Mapping[str, Any]] = {}
    facts: dict[str, Any] = {}
    for group, name, value in _leaves(report):
        if isinstance(value, Mapping) and "interval" in value:
            measured[group, name] = value
        else:
            facts[f"{group}.{name}"] = value
    figures: list[Figure] = []
    for (group, name), found in measured.items():
        low, high = found["interval"]
        ceiling = _ceiling(group, name, measured)
        figures.append(Figure(group, name, found["value"], low, high, found["n"], found.get("majority"), ceiling))
    return figures, facts


def _leaves(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for group, found in report.items():
        if isinstance(found, Mapping):
            for name, value in found.items():
                yield group, str(name), value
        else:
            yield "speech", group, found


def _ceiling(group: str, name: str, measured: Mapping[tuple[str, str], Mapping[str, Any]]) -> float | None:
    for start, teacher in CEILINGS.items():
        if name.startswith(start):
            found = measured.get((group, teacher + name.removeprefix(start)))
            return None if found is None else found["value"]
    return None
