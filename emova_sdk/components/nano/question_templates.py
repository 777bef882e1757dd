"""What emova-nano was taught to answer: the forms of its questions, by which what lies outside is known and declined."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_SLOT = re.compile(r"\{([a-z]+)\d?\}")
_OPEN = r"[a-z']+(?: [a-z']+){0,2}"
OPEN_SLOTS = ("thing", "person", "pet", "event", "topic", "name")
"""Slots that may be filled by words never seen."""
_NUMBER_SLOTS = ("number", "duration", "digit")
_NUMBER_WORDS = ("hundred", "thousand", "point", "minus", "negative")
_SAME = {
    "colour": "color", "photo": "picture", "image": "picture", "drawing": "picture", "photograph": "picture", "mom": "mother",
    "mum": "mother", "dad": "father", "hey": "hello", "bye": "goodbye",
    "cannot": "can not", "can't": "can not", "won't": "will not", "let's": "let us",
}  # fmt: skip
_SHORT = {"'m": "am", "'re": "are", "'ve": "have", "'ll": "will", "n't": "not"}
_IS = re.compile(r"\b(what|who|how|where|it|that|there|he|she|this)'s\b")


def plain_words(text: str) -> str:
    """Write lower-case words as nano's questions do: contractions in full, one word for those that mean the same."""
    text = _IS.sub(r"\1 is", text)
    words = [_SAME.get(word, word) for word in text.split()]
    for ending, full in _SHORT.items():
        words = [f"{word.removesuffix(ending)} {full}" if word.endswith(ending) else word for word in words]
    return " ".join(words)


class QuestionTemplates:
    """The forms of the closed domain's questions.

    Args:
        templates: E.g. ``my name is {name}``.
        slots: Values of each slot; those of `OPEN_SLOTS` may be other words, and a number any number.
    """

    def __init__(self, templates: Sequence[str], slots: Mapping[str, Sequence[str]]) -> None:
        numbers = {word for name in _NUMBER_SLOTS for value in slots.get(name, ()) for word in value.split()}
        number = "|".join(sorted(numbers | set(_NUMBER_WORDS)))
        values = {name: f"(?:{'|'.join(sorted(some, key=len, reverse=True))})" for name, some in slots.items()}
        values |= dict.fromkeys(OPEN_SLOTS, _OPEN) | dict.fromkeys(_NUMBER_SLOTS, f"(?:{number})(?: (?:{number}))*")
        pieces = (_SLOT.split(template.replace(" a ", " an? ")) for template in templates)
        forms = ("".join(values[p] if place % 2 else p for place, p in enumerate(form)) for form in pieces)
        self._forms = re.compile("|".join(f"(?:{form})" for form in forms))

    def has(self, question: str) -> bool:
        """Whether a question, as lower-case words, has one of the forms."""
        return self._forms.fullmatch(question) is not None

    @classmethod
    def load(cls, folder: Path) -> QuestionTemplates | None:
        """Read the templates of ``grammar.json``; None where there is none: then every question is tried."""
        path = folder / "grammar.json"
        if not path.exists():
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(told["templates"], told["slots"])
