"""The token language of emova-nano: few tokens that spell out EMOVA's reply format exactly.

One token is a whole word of the closed domain, a phone, a speech unit, or a recurring piece of the JSON reply, e.g.
``", "assistant response text": "``. Joined, the tokens of a reply are the JSON object that the big models write. Every
sequence has one of two forms (square brackets: may be missing)::

    [<speech> units <heard>] [16 x <image>] [<tools>]
        {question} {user style} [{tool} argument {result} words] {answer} {style} <end>
    <speak> phones <units> units <end>

A typed question is the same as a heard one with the transcript already filled in, and a tool's result is filled in likewise:
what the model writes is always the rest of one reply. Words it does not know become ``<word_1>`` ... and are put back in the
answer, so that a name it never saw can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from emova_sdk.components.nano.dictionary import PHONES, SILENCE
from emova_sdk.components.nano.tools import ARGUMENT_OF, spoken
from emova_sdk.types import EMOTIONS, PITCHES, Emotion, Pitch

IMAGE_TOKENS = 16
"""Features of a picture."""
BLANKS = 4
"""Different unknown words kept apart in one question."""
HEARD_AS: dict[str, Emotion] = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}
"""Emotions the model was not trained to hear, and the nearest one it was."""

QUESTION = '{"user question text": "'
ANSWER = ', "assistant response text": "'
RESULT = '"}, "tool result": "'
SPECIAL = (
    "<pad>", "<end>", "<image>", "<unknown>", "<speech>", "<tools>", "<speak>", "<units>", "<caption>",
    *(f"<word_{place}>" for place in range(1, BLANKS + 1)),
    *(f"<{line}_{place}>" for line in ("row", "column") for place in range(1, 5)),
)  # fmt: skip


def user_style(emotion: str, pitch: str) -> str:
    """The piece after the question's text."""
    return f'", "user question emotion": "{emotion}", "user question pitch": "{pitch}"'


def reply_style(emotion: str, pitch: str) -> str:
    """The piece after the answer's text."""
    return f'", "assistant response emotion": "{emotion}", "assistant response pitch": "{pitch}"'


def tool_call(name: str) -> str:
    """The piece that begins a call."""
    return f', "tool call": {{"name": "{name}", "{ARGUMENT_OF[name]}": "'


@dataclass(frozen=True)
class Language:
    """Tokens and ids.

    Attributes:
        words: Known words.
        units: Number of speech units.
    """

    words: tuple[str, ...]
    units: int
    tokens: tuple[str, ...] = field(init=False)
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        styles = [(emotion, pitch) for emotion in EMOTIONS for pitch in PITCHES]
        tokens = (
            *SPECIAL,
            QUESTION,
            ANSWER,
            RESULT,
            *(f"<heard {emotion} {pitch}>" for emotion, pitch in styles),
            *(user_style(*style) for style in styles),
            *(reply_style(*style) for style in styles),
            *(tool_call(name) for name in ARGUMENT_OF),
            *(f"/{phone}/" for phone in (SILENCE, *PHONES)),
            *self.words,
            *(f"<|speech_{unit}|>" for unit in range(self.units)),
        )
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "ids", {token: number for number, token in enumerate(tokens)})

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """Id of one token."""
        return self.ids[token]

    @property
    def first_unit(self) -> int:
        """Id of unit 0; the units are the last ids."""
        return len(self.tokens) - self.units

    @property
    def first_word(self) -> int:
        """Id of the first word; words end where the units begin."""
        return self.first_unit - len(self.words)

    def of_words(self, text: str) -> tuple[list[int], list[str]]:
        """Ids of a text's words, and the unknown words that became ``<word_1>``, ``<word_2>``, ... in order."""
        ids: list[int] = []
        unknown: list[str] = []
        for word in spoken(text).split():
            if word in self.ids:
                ids.append(self.ids[word])
                continue
            if word not in unknown:
                unknown.append(word)
            ids.append(self.ids[f"<word_{min(unknown.index(word) + 1, BLANKS)}>"])
        return ids, unknown

    def of_phones(self, phones: Iterable[str]) -> list[int]:
        """Ids of phones; silence is left out at the ends."""
        return [self.ids[f"/{phone}/"] for phone in phones]

    def of_units(self, units: Iterable[int]) -> list[int]:
        """Ids of speech units."""
        return [self.first_unit + int(unit) for unit in units]

    def heard(self, emotion: str, pitch: str) -> int:
        """Token of how a question sounds."""
        return self.ids[f"<heard {HEARD_AS.get(emotion, emotion)} {pitch}>"]

    def decode(self, ids: Sequence[int], unknown: Sequence[str] = ()) -> str:
        """Spell tokens out, a space between words; unknown words are put back."""
        text, after_word = "", False
        for number in ids:
            piece = self.tokens[number]
            blank = re.fullmatch(r"<word_(\d)>", piece)
            if blank:
                place = int(blank[1]) - 1
                piece = unknown[place] if place < len(unknown) else "..."
            is_word = bool(blank) or piece == "<unknown>" or self.first_word <= number < self.first_unit
            piece = {"<unknown>": "...", "<end>": ""}.get(piece, piece)
            if after_word and piece == ANSWER:  # a tool's result was filled in before: its string ends here
                piece = f'"{ANSWER}'
            text += (" " if is_word and after_word else "") + piece
            after_word = is_word
        return text

    def style_of(self, number: int) -> tuple[Emotion, Pitch] | None:
        """Emotion and pitch that a style token names, None for other tokens."""
        found = re.search(r'emotion": "(\w+)", "[a-z ]+pitch": "(\w+)"', self.tokens[number])
        return (cast("Emotion", found[1]), cast("Pitch", found[2])) if found else None

    def tool_of(self, number: int) -> str | None:
        """Tool whose call a token begins, None for other tokens."""
        found = re.match(r', "tool call": {"name": "(\w+)"', self.tokens[number])
        return found[1] if found else None
