"""What the language model of emova-nano is taught with: sequences drawn at random, and speech from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.components.nano.g2p import phones as phones_of
from emova_sdk.components.nano.language import (
    ANSWER,
    IMAGE_TOKENS,
    QUESTION,
    RESULT,
    Language,
    reply_style,
    tool_call,
    user_style,
)
from emova_sdk.errors import InputError
from emova_sdk.types import Emotion, Pitch
from nano_recipe import dialogue
from nano_recipe.dialogue import PICTURE_INTENTS, Sentence, Split
from nano_recipe.dialogue_data import TALK_INTENTS, TOOL_INTENTS, Dialogue, random_mood, random_question, reply_to
from nano_recipe.scenes import Scene, Shape, random_scene

NEEDS = {"caption": "image", "look": "image", "talk": None, "transcribe": "speech", "speak": "speech", "hear": "speech"}
"""The modality that each kind of example needs beside text."""
_CLOSED_SLOTS = ("thing", "person", "pet", "event", "topic", "name")


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence as units.

    Attributes:
        text: What is said.
        units: Ids, repeats collapsed.
        emotion: How it is said, as is ``pitch``.
        voice: Who says it.
        speakable: Whether the reply voices said it, so that it may teach speaking.
    """

    text: str
    units: tuple[int, ...]
    emotion: Emotion = "neutral"
    pitch: Pitch = "normal"
    voice: str = ""
    speakable: bool = True


@dataclass
class Example:
    """One training sequence: ids, which of them are learnt, and the features of a picture if one is shown."""

    ids: list[int] = field(default_factory=list[int])
    learnt: list[bool] = field(default_factory=list[bool])
    scene: Scene | None = None

    def add(self, ids: list[int], learnt: bool) -> None:
        """Append tokens."""
        self.ids += ids
        self.learnt += [learnt] * len(ids)


class Examples:
    """Draws training sequences.

    Args:
        language: Tokens.
        rng: Draws everything.
        split: Whose slot combinations may be used.
        speech: Utterances; kinds that need them are left out without.
    """

    def __init__(
        self, language: Language, rng: np.random.Generator, *, split: Split = "train", speech: tuple[Utterance, ...] = ()
    ):
        self.language, self.rng = language, rng
        self.split: Split = split
        self.speech = speech
        self.speakable = tuple(utterance for utterance in speech if utterance.speakable)
        parsed = ((dialogue.parse_question(said.text), said) for said in speech)
        self.questions = tuple((question, said) for question, said in parsed if question is not None)
        self.within = tuple(said for said in speech if not language.of_words(said.text)[1])
        self.foreign = tuple(said for said in speech if language.of_words(said.text)[1])

    def draw(self, kind: str) -> Example:
        """Draw one example of a kind of `NEEDS`."""
        return getattr(self, kind)()

    def caption(self) -> Example:
        """A picture and a list of what is where."""
        example = self._picture(random_scene(self.rng))
        example.add([self.language.id("<caption>")], False)
        for shape in example.scene.shapes if example.scene else ():
            example.add(described(self.language, shape), True)
        example.add([self.language.id("<end>")], True)
        return example

    def look(self) -> Example:
        """A picture and a few typed questions about it."""
        scene = random_scene(self.rng)
        example = self._picture(scene)
        if self.rng.random() < 0.7:
            example.add([self.language.id("<tools>")], False)
        kinds = sorted(PICTURE_INTENTS)
        weights = np.array([3.0 if "relation" in kind else 1.5 if "count" in kind else 1.0 for kind in kinds])
        for kind in self.rng.choice(kinds, size=3, p=weights / weights.sum()):
            question = random_question(self.rng, self.split, str(kind), scene)
            heard = random_mood(self.rng, question) if self.rng.random() < 0.4 else None
            self._reply(example, reply_to(self.rng, question, scene, heard=heard, offered=True), typed=True)
        return example

    def talk(self) -> Example:
        """One typed remark, question without a picture, or request for a tool."""
        example = Example()
        draw_ = self.rng.random()
        offered = bool(self.rng.random() < 0.9)
        if draw_ < 0.06:
            intents: tuple[str, ...] = tuple(PICTURE_INTENTS)
        else:
            intents = TOOL_INTENTS if draw_ < 0.45 else TALK_INTENTS
        if offered:
            example.add([self.language.id("<tools>")], False)
        if draw_ > 0.92:
            return self._nonsense(example)
        question = random_question(self.rng, self.split, str(self.rng.choice(sorted(intents))))
        if self.rng.random() < 0.2:
            question = self._with_blank(question)
        heard = random_mood(self.rng, question) if self.rng.random() < 0.5 else None
        self._reply(example, reply_to(self.rng, question, None, heard=heard, offered=offered), typed=True)
        return example

    def transcribe(self) -> Example:
        """Speech and its text."""
        said = self._one(self.foreign if self.foreign and self.rng.random() < 0.08 else self.within)
        example = self._speech(said)
        example.add([self.language.id(QUESTION), *self._transcript(said.text)], True)
        example.add([self.language.id(user_style(said.emotion, said.pitch))], True)
        return example

    def hear(self) -> Example:
        """A spoken question, perhaps about a picture, and the whole reply."""
        chosen, sentence = self.rng.random(), None
        if chosen < 0.1 and self.foreign:
            said = self._one(self.foreign)
        elif chosen < 0.2 or not self.questions:
            said = self._one(self.within)
        else:
            sentence, said = self.questions[int(self.rng.integers(len(self.questions)))]
        about_picture = sentence is not None and sentence.intent in PICTURE_INTENTS
        scene = random_scene(self.rng) if self.rng.random() < (0.9 if about_picture else 0.2) else None
        scene = self._worth(scene, sentence) if scene and sentence else scene
        offered = bool(self.rng.random() < 0.9)
        example = self._speech(said, scene)
        if offered:
            example.add([self.language.id("<tools>")], False)
        question = sentence or Sentence(said.text, "unknown", "user/unknown/0")
        turn = reply_to(self.rng, question, scene, heard=(said.emotion, said.pitch), offered=offered)
        self._reply(example, turn, typed=False)
        return example

    def speak(self) -> Example:
        """Phones and the units that say them."""
        return speak_example(self.language, self._one(self.speakable))

    def _one(self, choices: tuple[Utterance, ...]) -> Utterance:
        return choices[int(self.rng.integers(len(choices)))]

    def _worth(self, scene: Scene, sentence: Sentence) -> Scene:
        """Try a few scenes for one that shows what is asked about."""
        for _ in range(6):
            names = {(shape.color, shape.shape) for shape in scene.shapes}
            slots = sentence.slots
            if any(slots.get("color", color) == color and slots.get("shape", shape) == shape for color, shape in names):
                break
            scene = random_scene(self.rng)
        return scene

    def _picture(self, scene: Scene) -> Example:
        example = Example(scene=scene)
        example.add([self.language.id("<image>")] * IMAGE_TOKENS, False)
        return example

    def _speech(self, said: Utterance, scene: Scene | None = None) -> Example:
        example = Example(scene=scene)
        units = self.language.of_units(said.units)
        if self.split == "train":  # a few units are lost or wrong in another voice
            units = [unit for unit in units if self.rng.random() > 0.03]
        example.add([self.language.id("<speech>"), *units, self.language.heard(said.emotion, said.pitch)], False)
        if scene is not None:
            example.add([self.language.id("<image>")] * IMAGE_TOKENS, False)
        return example

    def _transcript(self, text: str) -> list[int]:
        ids, unknown = self.language.of_words(text)
        return [self.language.id("<unknown>")] if unknown else ids

    def _nonsense(self, example: Example) -> Example:
        """Random words, some unknown: nothing to answer."""
        count = int(self.rng.integers(1, 8))
        first, units = self.language.first_word, self.language.first_unit
        words = [int(number) for number in self.rng.integers(first, units, count)]
        blank = 1
        for place in range(count):
            if self.rng.random() < 0.4:
                words[place] = self.language.id(f"<word_{min(blank, 4)}>")
                blank += 1
        example.add([self.language.id(QUESTION), *words], False)
        turn = reply_to(self.rng, Sentence("", "unknown", "user/unknown/0"), None, heard=None, offered=True)
        self._finish(example, turn)
        return example

    def _with_blank(self, question: Sentence) -> Sentence:
        """Replace one free slot by a word that is not known."""
        free = [name for name in question.slots if name in _CLOSED_SLOTS]
        if not free:
            return question
        slots = {**question.slots, free[int(self.rng.integers(len(free)))]: "<word_1>"}
        _, intent, place = question.template_key.split("/")
        text = dialogue.fill(dialogue.QUESTIONS[intent][int(place)], slots)
        return Sentence(text, intent, question.template_key, slots, question.emotion, novel=question.novel)

    def _words(self, text: str) -> list[int]:
        return [self.language.id(word) for word in text.split()]

    def _reply(self, example: Example, turn: Dialogue, *, typed: bool) -> None:
        text = turn.question.text
        words = self._words(text) if typed or turn.question.intent != "unknown" else self._transcript(text)
        example.add([self.language.id(QUESTION), *words], not typed)
        self._finish(example, turn, style_given=typed and turn.heard)

    def _finish(self, example: Example, turn: Dialogue, *, style_given: bool = False) -> None:
        token = self.language.id
        example.add([token(user_style(turn.emotion, turn.pitch))], not style_given)
        if turn.tool is not None:
            example.add([token(tool_call(turn.tool.name)), *self._words(turn.tool.argument), token(RESULT)], True)
            example.add(self._words(turn.tool.result), False)
        example.add([token(ANSWER), *self._words(turn.answer)], True)
        example.add([token(reply_style(turn.reply_emotion, turn.reply_pitch)), token("<end>")], True)


def speak_example(language: Language, said: Utterance) -> Example:
    """The sequence that teaches saying an utterance."""
    example = Example()
    phones = [phone for phone in phones_of(said.text) if f"/{phone}/" in language.ids]
    example.add([language.id("<speak>"), *language.of_phones(phones), language.id("<units>")], False)
    example.add([*language.of_units(said.units), language.id("<end>")], True)
    return example


def described(language: Language, shape: Shape) -> list[int]:
    """Tokens of a shape: size, colour, shape, row and column."""
    words = (shape.size, shape.color, shape.shape, f"<row_{shape.row + 1}>", f"<column_{shape.column + 1}>")
    return [language.id(word) for word in words]


def read_speech(path: Path | None, *, split: Split = "train") -> tuple[Utterance, ...]:
    """Read utterances from a JSON-lines file: keys of `Utterance`, unknown keys ignored.

    Lines of the files that the speech recipe writes say ``kind`` in place of ``speakable``: only ``target`` teaches speaking.

    Raises:
        InputError: If a line is not of that form.
    """
    if path is None or not path.exists():
        return ()
    found: list[Utterance] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(utterance_from(json.loads(line)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"line {number} of `{path.name}` ({split}) is not an utterance: {error!r}", "render it again"
            ) from error
    return tuple(found)


def utterance_from(data: Mapping[str, Any]) -> Utterance:
    """Read one utterance."""
    return Utterance(
        text=str(data["text"]),
        units=tuple(int(unit) for unit in data["units"]),
        emotion=data.get("emotion", "neutral"),
        pitch=data.get("pitch", "normal"),
        voice=str(data.get("voice", "")),
        speakable=bool(data.get("speakable", data.get("kind", "target") == "target")),
    )
