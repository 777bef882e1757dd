"""Which answer fits: whole turns of the closed domain, drawn at random or asked about a given scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emova_sdk.components.nano import scene_qa
from emova_sdk.components.nano.tools import calculator, spoken
from emova_sdk.errors import InputError
from emova_sdk.types import Emotion, Pitch
from nano_recipe import dialogue
from nano_recipe.dialogue import ANSWERS, PICTURE_INTENTS, QUESTIONS, SLOTS, Sentence, Split, fill
from nano_recipe.scenes import Scene

TOOL_INTENTS = tuple(dialogue.TOOL_OF)
TALK_INTENTS = tuple(intent for intent in QUESTIONS if intent not in PICTURE_INTENTS and intent not in TOOL_INTENTS)
_HEARD: tuple[Emotion, ...] = ("neutral", "happy", "sad", "angry")


@dataclass(frozen=True)
class ToolUse:
    """A call and what came back: tool name, its one argument and the result, all as words; a failed result is ``failed``."""

    name: str
    argument: str
    result: str


@dataclass(frozen=True)
class Dialogue:
    """A question and its answer.

    Attributes:
        question: What the user says.
        answer: What to answer, empty while a tool is asked for.
        emotion: The user's emotion, as is `pitch` the pitch.
        reply_emotion: Emotion of the answer, as is `reply_pitch` its pitch.
        heard: Whether emotion and pitch were heard; otherwise they are to be told from the words.
        tool: What was asked of a tool and what it said.
        offered: Whether tools are offered.
    """

    question: Sentence
    answer: str
    emotion: Emotion = "neutral"
    pitch: Pitch = "normal"
    reply_emotion: Emotion = "neutral"
    reply_pitch: Pitch = "normal"
    heard: bool = False
    tool: ToolUse | None = None
    offered: bool = True


def random_question(rng: np.random.Generator, split: Split, intent: str, scene: Scene | None = None) -> Sentence:
    """Draw a question; three of four slot values about shapes come from the scene, so that most questions have a point."""
    while True:
        place = int(rng.integers(len(QUESTIONS[intent])))
        template = QUESTIONS[intent][place]
        slots = {name: _pick(rng, SLOTS[name.rstrip("23")]) for name in dialogue.slot_names(template)}
        if scene is not None and scene.shapes:
            for mark in ("", "2"):
                if rng.random() < 0.8:
                    shown = scene.shapes[int(rng.integers(len(scene.shapes)))]
                    about = {"color": shown.color, "shape": shown.shape, "size": shown.size}
                    slots |= {name + mark: value for name, value in about.items() if name + mark in slots}
        if "shape2" in slots and (slots["color"], slots["shape"]) == (slots["color2"], slots["shape2"]):
            continue
        key = f"user/{intent}/{place}"
        where = dialogue.split_of(key, slots)
        if where in (None, split):
            return Sentence(fill(template, slots), intent, key, slots, dialogue.emotion_of(intent), novel=where is not None)


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def answer_talk(intent: str, slots: Mapping[str, str], question_key: str, heard: Emotion) -> str:
    """Answer small talk; a greeting depends on the emotion that is heard in it."""
    options = ANSWERS[intent]
    if intent == "hello":
        return options[("neutral", "sad", "happy", "angry").index(heard)]
    if intent == "sound":
        return fill(options[0], {"emotion": heard})
    if intent in ("happy_event", "happy_thing"):
        return fill(options[question_key.endswith("/2")], slots)
    return fill(options[0], slots)


def use_tool(rng: np.random.Generator, intent: str, slots: Mapping[str, str]) -> ToolUse:
    """What is asked of the tool, and a result it could give."""
    if intent == "calculate":
        expression = fill("{number} {operation} {number2}", slots)
        try:
            return ToolUse("calculator", expression, spoken(calculator(expression)))
        except InputError:
            return ToolUse("calculator", expression, "failed")
    if intent == "timer":
        duration = fill("{duration} {unit}", slots)
        return ToolUse("timer", duration, "failed" if rng.random() < 0.05 else duration)
    names = ("day",) if intent == "date" else ("hour", "minute")
    result = " ".join(_pick(rng, SLOTS[name]) for name in names)
    return ToolUse("clock", "day" if intent == "date" else "time", result)


def answer_tool(tool: ToolUse) -> str:
    """Put a tool's result into words."""
    if tool.result == "failed":
        return ANSWERS["failed"][0]
    lead = {"calculator": "it is", "timer": "your timer is set for"}.get(tool.name)
    return f"{lead or ('today is' if tool.argument == 'day' else 'it is')} {tool.result}"


def reply_to(
    rng: np.random.Generator, question: Sentence, scene: Scene | None, *, heard: tuple[Emotion, Pitch] | None, offered: bool
) -> Dialogue:
    """Make the whole turn that belongs to a question.

    Args:
        rng: Draws results of tools.
        question: What is asked.
        scene: What is shown, if anything.
        heard: The emotion and pitch of the voice; None for typed text.
        offered: Whether tools are offered.
    """
    intent = question.intent
    emotion, pitch = heard or (question.emotion or "neutral", "normal")
    tool: ToolUse | None = None
    if intent in PICTURE_INTENTS:
        answer = scene_qa.answer_question(scene.shapes, intent, question.slots) if scene else scene_qa.NO_PICTURE
    elif intent in TOOL_INTENTS:
        tool = use_tool(rng, intent, question.slots) if offered else None
        answer = answer_tool(tool) if tool else ANSWERS["no_tool"][0]
    elif intent == "unknown":
        answer = ANSWERS["unknown"][0]
    else:
        answer = answer_talk(intent, question.slots, question.template_key, emotion)
    feeling = dialogue.reply_emotion(intent, emotion)
    return Dialogue(
        question, answer, emotion, pitch, feeling, dialogue.PITCH_OF.get(feeling, "normal"), heard is not None, tool, offered
    )


def random_mood(rng: np.random.Generator, question: Sentence) -> tuple[Emotion, Pitch]:
    """How a question may sound: remarks mostly as they mean, others in any mood."""
    pitch: Pitch = ("normal", "low", "high")[int(rng.choice(3, p=(0.6, 0.2, 0.2)))]
    if question.emotion is not None and rng.random() < 0.8:
        return question.emotion, pitch
    return _HEARD[int(rng.integers(4))], pitch
