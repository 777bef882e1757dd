"""How well emova-nano understands and answers: pictures, typed turns, spoken questions. Held-out combinations throughout.

Each figure comes with its number of cases, the score of the best constant guess, and a 95 % interval.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from emova_sdk.components.base import LLMCore, VisionEncoder
from emova_sdk.components.nano.tools import TOOLS
from emova_sdk.evaluation.intervals import wilson
from emova_sdk.evaluation.text_metrics import edit_distance
from emova_sdk.types import (
    LLMEvent,
    Message,
    Part,
    PerceivedStyle,
    SpeechUnits,
    Style,
    StyleChosen,
    TextDelta,
    ToolCall,
    ToolResult,
    Transcript,
    UnitsDelta,
)
from nano_recipe import dialogue
from nano_recipe.dialogue import PICTURE_INTENTS
from nano_recipe.dialogue_data import TALK_INTENTS, TOOL_INTENTS, random_question, reply_to
from nano_recipe.examples import Utterance
from nano_recipe.scenes import draw, random_scene


@dataclass(frozen=True)
class Score:
    """A share of right answers.

    Attributes:
        share: Right among all.
        low: Lower end of the 95 % interval, as is ``high`` the upper.
        n: Cases.
        guess: Share that the best constant answer would get.
    """

    share: float
    low: float
    high: float
    n: int
    guess: float

    @classmethod
    def of(cls, right: Sequence[bool], truths: Sequence[str], *, seed: int = 0) -> Score:
        """Score cases with the true answer of each."""
        values = np.asarray(right, dtype=float)
        if not len(values):
            return cls(0.0, 0.0, 0.0, 0, 0.0)
        draws = np.random.default_rng(seed).choice(values, size=(1000, len(values))).mean(1)
        guess = max(Counter(truths).values()) / len(truths)
        low, high = np.quantile(draws, [0.025, 0.975]) if draws.min() < draws.max() else wilson(float(values[0]), len(values))
        return cls(float(values.mean()), float(low), float(high), len(values), guess)

    def to_dict(self) -> dict[str, float]:
        """Return a JSON object."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def plain(text: str) -> str:
    """A text without capitals and punctuation."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def intent_of(text: str) -> str | None:
    """Intent of a question of the closed domain, None when no template fits."""
    question = dialogue.parse_question(text)
    return question.intent if question else None


def answer(
    llm: LLMCore, parts: Sequence[Part], *, style: PerceivedStyle | None = None, result: str | None = None
) -> list[LLMEvent]:
    """Let a model answer; a tool that is called gets ``result``; the speech itself is not waited for."""
    messages = [Message("user", tuple(parts), style)]
    events: list[LLMEvent] = []
    for _ in range(2):
        call = None
        stream = llm.generate(messages, tools=TOOLS)
        for event in stream:
            if isinstance(event, UnitsDelta):
                stream.close()
                break
            events.append(event)
            call = event if isinstance(event, ToolCall) else call
        if call is None or result is None:
            break
        content, failed = ("it failed", True) if result == "failed" else (result, False)
        messages += [Message("assistant", (call,)), Message("tool", (ToolResult(call.id, call.name, content, failed),))]
    return events


def said(events: Sequence[LLMEvent]) -> str:
    """Text of an answer, plain."""
    return plain("".join(event.text for event in events if isinstance(event, TextDelta)))


def picture_questions(llm: LLMCore, eyes: VisionEncoder, *, n: int = 500, seed: int = 11_000_003) -> dict[str, Score]:
    """Ask typed questions, of held-out combinations, about scenes never trained on; by intent and over ``all``."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, bool, str]] = []
    for place in range(n):
        intent = sorted(PICTURE_INTENTS)[place % len(PICTURE_INTENTS)]
        scene = random_scene(rng)
        question = random_question(rng, "test", intent, scene)
        truth = reply_to(rng, question, scene, heard=None, offered=True).answer
        features = eyes.encode([draw(scene, rng=rng)])[0]
        rows.append((intent, said(answer(llm, (features, question.text))) == truth, truth))
    return _by_intent(rows)


def typed_turns(llm: LLMCore, *, n: int = 300, seed: int = 11_000_007) -> dict[str, Score]:
    """Small talk and requests for tools, typed: answer, and for tools the call too, exactly as expected."""
    rng = np.random.default_rng(seed)
    intents = (*TALK_INTENTS, *TOOL_INTENTS, *TOOL_INTENTS)
    rows: list[tuple[str, bool, str]] = []
    moods: list[tuple[str, bool, str]] = []
    for place in range(n):
        intent = intents[place % len(intents)]
        question = random_question(rng, "test", intent)
        turn = reply_to(rng, question, None, heard=None, offered=True)
        events = answer(llm, (question.text,), result=turn.tool.result if turn.tool else None)
        calls = [event for event in events if isinstance(event, ToolCall)]
        right = said(events) == turn.answer
        if turn.tool:
            right &= [(c.name, *c.arguments.values()) for c in calls] == [(turn.tool.name, turn.tool.argument)]
        kind = "tools" if turn.tool else "talk"
        rows.append((kind, right, turn.answer))
        chosen = [event.style.emotion for event in events if isinstance(event, StyleChosen)]
        moods.append(("emotion", chosen[-1:] == [turn.reply_emotion], turn.reply_emotion))
    return _by_intent(rows) | {"emotion": _by_intent(moods)["all"]}


def spoken_turns(
    llm: LLMCore, eyes: VisionEncoder, utterances: Sequence[Utterance], *, n: int = 300, seed: int = 11_000_009
) -> dict[str, Score]:
    """Ask by speech units: ``intent`` of the transcript, ``words`` all right, ``reply`` as expected, ``declined``."""
    rng = np.random.default_rng(seed)
    parsed = ((dialogue.parse_question(utterance.text), utterance) for utterance in utterances)
    asked = [(question, utterance) for question, utterance in parsed if question is not None]
    rows: list[tuple[str, bool, str]] = []
    declined: list[bool] = []
    for place in rng.permutation(len(asked))[:n]:
        question, utterance = asked[int(place)]
        scene = random_scene(rng) if question.intent in PICTURE_INTENTS else None
        turn = reply_to(rng, question, scene, heard=(utterance.emotion, utterance.pitch), offered=True)
        style = PerceivedStyle(Style(emotion=utterance.emotion, pitch=utterance.pitch))
        units = SpeechUnits.of(utterance.units)
        parts: tuple[Part, ...] = (units, eyes.encode([draw(scene, rng=rng)])[0]) if scene else (units,)
        events = answer(llm, parts, style=style, result=turn.tool.result if turn.tool else None)
        text = next((event.text for event in events if isinstance(event, Transcript)), "")
        rows.append(("intent", intent_of(text) == question.intent, question.intent))
        rows.append(("words", text == question.text, question.text))
        rows.append(("reply", said(events) == turn.answer, turn.answer))
        declined.append(said(events) == "i did not catch that")
    return _by_intent(rows, total=False) | {"declined": Score.of(declined, ["yes"] * len(declined))}


def transcripts(llm: LLMCore, utterances: Sequence[Utterance], *, n: int = 300, seed: int = 11_000_011) -> dict[str, Score]:
    """Let a model write spoken questions down: ``intent`` right, and all ``words`` right."""
    rng = np.random.default_rng(seed)
    parsed = ((dialogue.parse_question(utterance.text), utterance) for utterance in utterances)
    asked = [(question, utterance) for question, utterance in parsed if question is not None]
    rows: list[tuple[str, bool, str]] = []
    for place in rng.permutation(len(asked))[:n]:
        question, utterance = asked[int(place)]
        style = PerceivedStyle(Style(emotion=utterance.emotion, pitch=utterance.pitch))
        heard = llm.generate([Message("user", (SpeechUnits.of(utterance.units),), style)], task="transcribe")
        text = next((event.text for event in heard if isinstance(event, Transcript)), "")
        rows.append(("intent", intent_of(text) == question.intent, question.intent))
        rows.append(("words", text == question.text, question.text))
    return _by_intent(rows, total=False)


def written_units(llm: LLMCore, utterances: Sequence[Utterance], *, n: int = 60) -> Score:
    """Let a model say held-out sentences: share of the teacher's units that it writes too, in order (1 - edit distance)."""
    shares: list[float] = []
    for utterance in [said for said in utterances if said.speakable][:n]:
        events = llm.generate([Message("user", (utterance.text,))], task="speak")
        found = [unit for event in events if isinstance(event, UnitsDelta) for unit in event.units.ids.tolist()]
        shares.append(max(0.0, 1 - edit_distance(found, utterance.units) / max(1, len(utterance.units))))
    draws = np.random.default_rng(0).choice(shares or [0.0], size=(1000, max(1, len(shares)))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(float(np.mean(shares or [0.0])), float(low), float(high), len(shares), 0.0)


def _by_intent(rows: Sequence[tuple[str, bool, str]], *, total: bool = True) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for kind in sorted({kind for kind, _, _ in rows}):
        mine = [row for row in rows if row[0] == kind]
        scores[kind] = Score.of([right for _, right, _ in mine], [truth for _, _, truth in mine])
    if not total:
        return scores
    return scores | {"all": Score.of([right for _, right, _ in rows], [truth for _, _, truth in rows])}
