"""What people say to emova-nano and what it answers: the closed domain as templates with slots.

`sentences(split)` lists everything that can be said, by either side, as text that can be rendered to speech: lowercase
words, no digits. Which split a sentence belongs to is decided by a hash of its template and the values in its slots, so
that whole combinations are unseen in training. Which answer fits a question is decided in `nano_recipe.dialogue_data`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from zlib import crc32

from emova_sdk.components.nano.number_words import number_words as number
from emova_sdk.components.nano.scene_qa import COLORS, SHAPES, SIZES
from emova_sdk.types import Emotion, Pitch
from nano_recipe.corpus import Split

Side = Literal["user", "assistant"]

TEST_SHARE = 8
"""One combination of slot values in this many belongs to the test split."""
FEW = 8
"""A single slot with fewer values than this is not held out from."""

RELATIONS = ("left of", "right of", "above", "below")
SMALL = ("no", "one", "two", "three", "four", "five")
OPERATIONS = ("plus", "minus", "times", "divided by")

PITCH_OF: Mapping[Emotion, Pitch] = {"happy": "high", "sad": "low"}
"""How high an emotion is spoken; normal for the others."""


SLOTS: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "shape": SHAPES,
    "size": SIZES,
    "relation": RELATIONS,
    "few": SMALL,
    "count": ("two", "three", "four", "five"),
    "digit": tuple(map(number, range(1, 10))),
    "number": tuple(number(value) for value in range(100)),
    "operation": OPERATIONS,
    "duration": tuple(number(value) for value in (*range(2, 21), 25, 30, 35, 40, 45, 50, 55, 60, 90)),
    "hour": tuple(number(value) for value in range(1, 13)),
    "minute": ("o'clock", *(f"oh {number(value)}" for value in range(1, 10)), *(number(v) for v in range(10, 60))),
    "half": ("in the morning", "in the afternoon", "in the evening", "at night"),
    "unit": ("seconds", "minutes", "hours"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "pet": ("dog", "cat", "bird", "horse", "rabbit", "fish"),
    "thing": ("keys", "phone", "wallet", "bag", "book", "ring", "bike", "umbrella", "ticket", "coat", "camera", "guitar"),
    "person": ("mother", "father", "sister", "brother", "friend", "boss", "teacher", "neighbor", "son", "daughter"),
    "event": ("race", "game", "contest", "exam", "match", "test"),
    "topic": ("music", "food", "books", "movies", "sports", "school", "work", "the garden", "the weather", "the news"),
    "name": ("anna", "peter", "mary", "john", "lisa", "david", "emma", "tom", "sarah", "paul"),
    "emotion": ("neutral", "happy", "sad", "angry"),
}  # fmt: skip

QUESTIONS: dict[str, tuple[str, ...]] = {
    # about a drawing
    "count_all": ("how many shapes are there", "how many shapes do you see"),
    "count_shape": ("how many {shape}s are there", "how many {shape}s do you see"),
    "count_color": ("how many {color} shapes are there", "how many {color} shapes do you see"),
    "color_of": ("what color is the {shape}", "what color is the {size} {shape}"),
    "shape_of": ("what shape is {color}", "what is the {color} shape"),
    "size_of": ("how big is the {color} {shape}", "is the {color} {shape} big or small"),
    "exists": ("is there a {color} {shape}", "can you see a {color} {shape}", "do you see a {size} {color} {shape}"),
    "is_relation": ("is the {color} {shape} {relation} the {color2} {shape2}",),
    "what_relation": ("what is {relation} the {color} {shape}", "which shape is {relation} the {color} {shape}"),
    "describe": ("what do you see", "what is in the picture", "describe the picture", "what can you see in the picture"),
    # tools
    "calculate": ("what is {number} {operation} {number2}", "how much is {number} {operation} {number2}"),
    "time": ("what time is it", "what is the time", "tell me the time please"),
    "date": ("what day is it", "what day is it today"),
    "timer": ("set a timer for {duration} {unit}", "start a timer for {duration} {unit}", "wake me in {duration} {unit}"),
    # remarks with a feeling
    "sad_pet": ("my {pet} died", "my {pet} is very sick", "i lost my {pet}"),
    "sad_thing": ("i lost my {thing}", "i broke my {thing}"),
    "sad_event": ("i failed the {event}", "i lost the {event}"),
    "sad_person": ("i miss my {person}", "my {person} is very sick", "my {person} forgot my birthday"),
    "sad_plain": ("i am so sad today", "i feel so alone", "i had a very bad day", "nobody likes me"),
    "happy_event": ("i won the {event}", "i passed the {event}", "my {person} won the {event}"),
    "happy_thing": ("i found my {thing}", "i got a new {thing}", "my {person} gave me a new {thing}"),
    "happy_person": ("my {person} is coming home", "i am going to see my {person}"),
    "happy_plain": ("i am so happy today", "this is the best day of my life", "i got the job", "i had a great day"),
    "angry_thing": ("someone stole my {thing}", "they broke my {thing} again", "my {person} broke my {thing}"),
    "angry_person": ("my {person} lied to me", "i am so angry with my {person}", "i am very angry at my {person}"),
    "angry_plain": ("i am so angry", "nobody listens to me", "this makes me so angry", "the bus is late again"),
    # small talk
    "hello": ("hello", "hello there", "good morning", "good evening", "hi emova"),
    "how_are_you": ("how are you", "how are you today", "hello how are you"),
    "sound": ("how do i sound", "can you hear how i feel", "guess how i feel"),
    "who": ("who are you", "what is your name"),
    "ability": ("what can you do", "can you help me", "help me please"),
    "thanks": ("thank you", "thank you very much", "thanks a lot"),
    "goodbye": ("goodbye", "see you later", "good night"),
    "name": ("my name is {name}", "hello i am {name}", "call me {name}"),
    "topic": ("i like {topic}", "let us talk about {topic}", "do you like {topic}"),
    "joke": ("tell me a joke", "make me laugh"),
}  # fmt: skip

ANSWERS: dict[str, tuple[str, ...]] = {
    "count_all": ("i see one shape", "i see {count} shapes"),
    "count_shape": ("there is one {shape}", "there are {count} {shape}s", "there are no {shape}s"),
    "count_color": ("there is one {color} shape", "there are {count} {color} shapes", "there are no {color} shapes"),
    "color_of": ("the {shape} is {color}", "the {size} {shape} is {color}"),
    "shape_of": ("it is a {size} {shape}",),
    "size_of": ("the {color} {shape} is {size}",),
    "exists": ("yes there is a {color} {shape}", "yes there is a {size} {color} {shape}", "no there is no {color} {shape}",
               "no there is no {size} {color} {shape}"),
    "is_relation": ("yes it is {relation} the {shape}", "no it is {relation} the {shape}", "i see no {color} {shape}"),
    "what_relation": ("the {color} {shape}", "i see no {color} {shape}", "there is nothing {relation} it",
                      "there are {count} shapes {relation} it"),
    "describe": ("i see a {color} {shape}", "i see a {color} {shape} and a {color2} {shape2}",
                 "i see a {color} {shape} a {color2} {shape2} and a {color3} {shape3}",
                 "i see a {color} {shape} a {color2} {shape2} and more"),
    "no_picture": ("please show me a picture",),
    "unclear": ("there is more than one", "i do not see it in the picture"),
    "calculate": ("it is {number}", "it is minus {number}", "it is {digit} hundred {number}",
                  "it is {digit} thousand {digit2} hundred {number}",
                  "it is {number} point {digit}", "it is {number} point {digit} {digit2}"),
    "time": ("it is {hour} {minute}",),
    "date": ("today is {day}",),
    "timer": ("your timer is set for {duration} {unit}",),
    "failed": ("i am sorry that did not work",),
    "no_tool": ("i have no tool for that",),
    "sad_pet": ("i am so sorry about your {pet}",),
    "sad_thing": ("i am sorry about your {thing}",),
    "sad_event": ("i am sorry about the {event} you can try again",),
    "sad_person": ("i am sorry that must be hard for you",),
    "sad_plain": ("i am so sorry to hear that i am here for you",),
    "happy_event": ("congratulations on the {event}", "congratulations to your {person}"),
    "happy_thing": ("i am so happy about your {thing}", "what a wonderful gift"),
    "happy_person": ("that is wonderful say hello to your {person}",),
    "happy_plain": ("that is wonderful i am so happy for you",),
    "angry_thing": ("that is not fair i am sorry about your {thing}",),
    "angry_person": ("take a deep breath and talk to your {person}",),
    "angry_plain": ("take a deep breath i am listening",),
    "hello": ("hello nice to hear you", "hello you sound sad what happened", "hello you sound happy today",
              "hello you sound angry what happened"),
    "how_are_you": ("i am fine thank you",),
    "sound": ("you sound {emotion}",),
    "who": ("my name is emova i can see hear and speak",),
    "ability": ("ask me about shapes numbers or the time",),
    "thanks": ("you are welcome",),
    "goodbye": ("goodbye see you soon",),
    "name": ("nice to meet you {name}",),
    "topic": ("tell me more about {topic}",),
    "joke": ("why did the star go to school to get brighter",),
    "unknown": ("i did not catch that",),
}  # fmt: skip

PICTURE_INTENTS = frozenset(itertools.takewhile(lambda intent: intent != "calculate", QUESTIONS))
"""Intents that ask about the picture."""
TOOL_OF: Mapping[str, str] = {"calculate": "calculator", "time": "clock", "date": "clock", "timer": "timer"}
"""The tool that an intent needs."""

_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")
_MANY = 2_000


@dataclass(frozen=True)
class Sentence:
    """One thing that can be said.

    Attributes:
        text: Lowercase words.
        intent: What it is about, a key of `QUESTIONS` or `ANSWERS`.
        template_key: Intent, side and number of the template, e.g. ``user/color_of/0``.
        slots: Slot name to value, e.g. ``{"color": "red"}``.
        emotion: How it would be said; None when any emotion fits.
        side: Who says it.
        novel: Whether its split was decided by its slots; the others belong to both splits, see `split_of`.
    """

    text: str
    intent: str
    template_key: str
    slots: Mapping[str, str] = field(default_factory=dict[str, str])
    emotion: Emotion | None = None
    side: Side = "user"
    novel: bool = True


def emotion_of(intent: str) -> Emotion | None:
    """The emotion that a remark carries by its words, None for those said in any mood."""
    first = intent.partition("_")[0]
    return {"sad": "sad", "happy": "happy", "angry": "angry"}.get(first)  # type: ignore[return-value] - values are emotions


def reply_emotion(intent: str, heard: Emotion = "neutral") -> Emotion:
    """The emotion that fits an answer: sympathy for sorrow and anger, joy for joy."""
    if intent in ("hello", "sound"):
        return {"happy": "happy", "sad": "sad", "angry": "sad"}.get(heard, "neutral")  # type: ignore[return-value] - values are emotions
    if intent in ("joke", "thanks", "name", "how_are_you"):
        return "happy"
    return {"sad": "sad", "happy": "happy", "angry": "sad"}.get(intent.partition("_")[0], "neutral")  # type: ignore[return-value] - values are emotions


def is_test(key: str) -> bool:
    """Whether a filled template is reserved for the test split."""
    return crc32(f"dialogue/{key}".encode()) % TEST_SHARE == 0


def slot_names(template: str) -> list[str]:
    """Names of the slots in order, e.g. ``["color", "shape", "color2"]``."""
    return [name + digit for name, digit in _SLOT.findall(template)]


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Put values in the slots."""
    return _SLOT.sub(lambda match: slots[match[1] + match[2]], template).replace(" a orange", " an orange")


def split_of(template_key: str, slots: Mapping[str, str]) -> Split | None:
    """The split of a filled template; None (both) for fixed phrases and those with one slot of few values.

    Holding out ``how many stars are there`` would hold out all stars and test no combination.
    """
    if not slots or (len(slots) == 1 and len(SLOTS[next(iter(slots)).rstrip("23")]) < FEW):
        return None
    return "test" if is_test(template_key + "/" + "/".join(slots.values())) else "train"


def _combinations(template_key: str, template: str) -> list[dict[str, str]]:
    """All fillings in an order decided by a hash; a hash-chosen part of them where there are very many."""
    names = slot_names(template)
    values = [SLOTS[name.rstrip("23")] for name in names]
    total = 1
    for choices in values:
        total *= len(choices)
    keep = max(1, total // _MANY)
    found: list[tuple[int, dict[str, str]]] = []
    for filling in itertools.product(*values):
        order = crc32(f"{template_key}|{'|'.join(filling)}".encode())
        slots = dict(zip(names, filling, strict=True))
        if order % keep == 0 and _sensible(slots):
            found.append((order, slots))
    return [slots for _, slots in sorted(found, key=lambda item: item[0])]


def _sensible(slots: Mapping[str, str]) -> bool:
    things = [(slots.get(f"color{i}"), slots.get(f"shape{i}")) for i in ("", "2", "3") if f"shape{i}" in slots]
    return len(set(things)) == len(things) or len(things) < 2


def templates() -> Iterator[tuple[Side, str, str, str]]:
    """Yield side, intent, template key and template of everything that can be said."""
    for side, table in (("user", QUESTIONS), ("assistant", ANSWERS)):
        for intent, options in table.items():
            for place, template in enumerate(options):
                yield side, intent, f"{side}/{intent}/{place}", template  # type: ignore[misc] - keys of the table are sides


@cache
def _listed(split: Split) -> tuple[Sentence, ...]:
    columns: list[list[Sentence]] = []
    for side, intent, key, template in templates():
        mood = emotion_of(intent) if side == "user" else reply_emotion(intent)
        column: list[Sentence] = []
        for slots in _combinations(key, template):
            where = split_of(key, slots)
            if where in (None, split):
                said = mood if side == "user" or intent not in ("hello", "sound") else None
                column.append(Sentence(fill(template, slots), intent, key, slots, said, side, where is not None))
        columns.append(column)
    rounds = itertools.zip_longest(*columns)
    return tuple(sentence for row in rounds for sentence in row if sentence is not None)


def sentences(split: Split) -> Iterator[Sentence]:
    """List what can be said, both sides, one of each template in turn: any beginning of the list is a fair sample.

    Sentences that belong to both splits come with ``novel=False``. The two splits share no filled template otherwise.
    """
    return iter(_listed(split))


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the closed domain, sorted."""
    words: set[str] = set()
    for _, _, _, template in templates():
        words.update(_SLOT.sub(" ", template.replace("{shape}s", " ")).split())
    for choices in SLOTS.values():
        words.update(word for choice in choices for word in choice.split())
    words.update(f"{shape}s" for shape in SHAPES)
    words.update(("an", "hundred", "thousand", "point"))
    return tuple(sorted(words))


@cache
def _patterns() -> tuple[tuple[str, str, list[str], re.Pattern[str]], ...]:
    found: list[tuple[str, str, list[str], re.Pattern[str]]] = []
    for side, intent, key, template in templates():
        if side == "user":
            parts = _SLOT.sub("{}", template.replace(" a ", " an? ")).split("{}")
            names = slot_names(template)
            groups = ["(" + "|".join(sorted(SLOTS[name.rstrip("23")], key=len, reverse=True)) + ")" for name in names]
            pieces = [piece for pair in itertools.zip_longest(parts, groups, fillvalue="") for piece in pair]
            found.append((intent, key, names, re.compile("".join(pieces))))
    return tuple(found)


def parse_question(text: str) -> Sentence | None:
    """The question of the closed domain that a text is, None when no template fits."""
    for intent, key, names, pattern in _patterns():
        match = pattern.fullmatch(text)
        if match:
            slots = dict(zip(names, match.groups(), strict=True))
            return Sentence(text, intent, key, slots, emotion_of(intent), novel=split_of(key, slots) is not None)
    return None
