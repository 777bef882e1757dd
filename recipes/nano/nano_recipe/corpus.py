"""What the synthetic speakers say: domain sentences from templates, and word salad for phone coverage.

Everything is a pure function of `(split, index)`: the same sentence comes back whoever asks, in whatever order. A sentence
belongs to the test split by a hash of the values in its slots (colour, shape, relation, numbers), so that whole
combinations, not only surface strings, are unseen in training.
"""

import re
from importlib.resources import files
from typing import Literal
from zlib import crc32

import numpy as np

Split = Literal["train", "test"]

RECIPE_VERSION = 1
"""Changes whenever the texts, voices or styles change; part of every seed."""

TEST_SHARE = 12
"""One slot combination in this many belongs to the test split."""

_SLOTS: dict[str, tuple[str, ...]] = {
    "color": ("red", "green", "blue", "yellow", "purple", "orange", "black", "white", "gray", "brown", "pink"),
    "shape": ("circle", "square", "triangle", "star", "ball", "box", "diamond", "cross"),
    "size": ("big", "small", "large", "little"),
    "relation": ("left of", "right of", "above", "below", "next to", "on top of", "under"),
    "number": (
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
        "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty",
        "sixty", "seventy", "eighty", "ninety",
    ),
    "few": ("no", "one", "two", "three", "four", "five"),
    "operation": ("plus", "minus", "times", "divided by"),
    "unit": ("seconds", "minutes", "hours"),
    "name": ("anna", "peter", "mary", "john", "lisa", "david", "emma", "tom", "sarah", "paul"),
    "person": ("mother", "father", "sister", "brother", "friend", "boss", "teacher", "neighbor", "son", "daughter"),
    "pet": ("dog", "cat", "bird", "horse", "rabbit", "fish"),
    "thing": ("keys", "phone", "wallet", "bag", "book", "ring", "car", "bike", "umbrella", "glasses", "ticket", "coat"),
    "event": ("exam", "race", "game", "contest", "interview", "meeting", "party", "concert", "wedding", "trip"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow"),
    "task": ("call my mother", "water the plants", "buy some milk", "take my medicine", "feed the cat", "pay the bill",
             "go for a walk", "clean the kitchen", "send the letter", "lock the door"),
    "topic": ("music", "the weather", "my work", "school", "the news", "food", "books", "movies", "sports",
    "the garden"),
}  # fmt: skip

_TEMPLATES: tuple[str, ...] = (
    # questions about drawings
    "what color is the {size} {shape}", "what color is the {shape}", "what shape is {color}",
    "what is the {color} shape",
    "how many {color} {shape}s are there", "how many {shape}s are there", "how many shapes are there",
    "is there a {color} {shape}", "is the {color} {shape} {relation} the {color2} {shape2}",
    "where is the {color} {shape}",
    "what is {relation} the {color} {shape}", "which shape is {relation} the {color} {shape}",
    "what do you see in the picture",
    "describe the picture", "is the {shape} {color}", "can you see a {color} {shape}", "how big is the {color} {shape}",
    # answers about drawings
    "the {shape} is {color}", "the {size} {shape} is {color}", "there are {few} {color} {shape}s",
    "there is one {color} {shape}",
    "i see a {color} {shape} and a {color2} {shape2}", "the {color} {shape} is {relation} the {color2} {shape2}",
    "yes it is", "no it is not", "yes there is a {color} {shape}", "no there is no {color} {shape}",
    "it is a {color} {shape}", "there are {number} shapes in the picture", "the picture shows {few} {shape}s",
    # remarks with a feeling
    "i lost my {thing} today", "someone stole my {thing}", "my {pet} died last night", "i feel so alone",
    "i miss my {person}",
    "i got the job", "i won the {event}", "i passed the {event}", "my {person} is coming home", "i am so happy today",
    "i am so sad today", "i am very angry with my {person}", "my {person} lied to me", "they broke my {thing} again",
    "i found my {thing}", "we are having a {event} on {day}", "my {person} forgot my birthday", "i failed the {event}",
    "nobody came to my {event}", "my {person} gave me a new {thing}", "the {event} was great",
    "i hate waiting for the bus",
    "this is the best day of my life", "why does nobody listen to me", "i am tired of {topic}",
    "let us talk about {topic}",
    # replies to them
    "i am so sorry to hear that", "i am sorry about your {thing}", "that is wonderful news",
    "congratulations you did it",
    "that must be hard for you", "i am very happy for you", "take a deep breath", "you have every right to be angry",
    "do you want to talk about it", "i am here for you", "that sounds like a great {event}",
    "i hope you find your {thing} soon",
    "how is your {person} doing", "i understand how you feel", "that is not fair at all", "tell me more about {topic}",
    # tools
    "what is {number} {operation} {number2}", "how much is {number} {operation} {number2}", "what time is it",
    "set a timer for {number} {unit}", "start a timer for {number} {unit}", "what day is it today",
    "remind me to {task} in {number} {unit}", "remind me to {task} on {day}",
    "{number} {operation} {number2} is {number3}",
    "it is {number} o'clock", "your timer for {number} {unit} is set", "i will remind you to {task}", "today is {day}",
    "cancel the timer", "it is {number} past {number2}",
    # small talk
    "hello how are you", "what is your name", "my name is {name}", "good morning {name}", "good night {name}",
    "thank you very much",
    "can you help me", "what can you do", "i can hear see and speak", "see you on {day}", "how old are you",
    "tell me a story",
    "say it again please", "please speak more slowly", "i did not catch that", "could you say that again",
    "goodbye {name}",
    "nice to meet you {name}", "do you like {topic}", "i like {topic} very much", "what did you say",
    "that is a good question",
)  # fmt: skip

COMMON_WORDS: tuple[str, ...] = tuple(files("nano_recipe").joinpath("common_words.txt").read_text("ascii").split())
"""Ordinary words for the word salad."""

_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")


def _seed(*parts: str | int) -> np.random.Generator:
    words = [crc32(str(part).encode()) for part in (RECIPE_VERSION, *parts)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def is_test(key: str) -> bool:
    """Whether a slot combination (or, without slots, a text) is reserved for the test split."""
    return crc32(key.encode()) % TEST_SHARE == 0


def domain_sentence(rng: np.random.Generator, split: Split) -> str:
    """One template filled with values whose combination belongs to `split`."""
    while True:
        template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        values: list[str] = []

        def fill(match: re.Match[str], values: list[str] = values) -> str:
            choices = _SLOTS[match[1]]
            values.append(choices[int(rng.integers(len(choices)))])
            return values[-1]

        text = _SLOT.sub(fill, template)
        # Sentences with at most one slot are too few to hold out: they are learnt as they are.
        held_out = len(values) > 1 and is_test(" ".join(values))
        if held_out == (split == "test"):
            return text


def salad_sentence(rng: np.random.Generator, split: Split, rare: tuple[str, ...] = ()) -> str:
    """Three to eight random words; `rare` words (a dictionary) take a third of the places when given."""
    words: list[str] = []
    for _ in range(int(rng.integers(3, 9))):
        pool = rare if rare and rng.random() < 0.33 else COMMON_WORDS
        words.append(pool[int(rng.integers(len(pool)))])
    text = " ".join(words)
    return text if split == "train" or len(text) < 60 else " ".join(words[:6])


def sentence(split: Split, index: int, *, rare: tuple[str, ...] = (), salad: float = 0.4) -> str:
    """The `index`-th sentence of a split.

    Args:
        split: "train" or "test"; the two never share a filled slot combination.
        index: Position, any non-negative integer.
        rare: Dictionary words that may appear in the word salad.
        salad: Share of random-word sentences.
    """
    rng = _seed("text", split, index)
    return salad_sentence(rng, split, rare) if rng.random() < salad else domain_sentence(rng, split)
