"""The form of EMOVA's replies: a JSON object with the keys `KEYS`, in that order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from emova_sdk.types import EMOTIONS, PITCHES, SPEEDS, SpeechUnits

USER_TEXT, USER_EMOTION, USER_PITCH = "user question text", "user question emotion", "user question pitch"
TEXT, EMOTION, PITCH = "assistant response text", "assistant response emotion", "assistant response pitch"
SPEED, SPEECH = "assistant response speed", "assistant response speech"
KEYS = (USER_TEXT, USER_EMOTION, USER_PITCH, TEXT, EMOTION, PITCH, SPEECH)
"""Keys of a reply in the order they are written; `SPEED` is read where a model adds it."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    USER_EMOTION: EMOTIONS,
    USER_PITCH: PITCHES,
    EMOTION: EMOTIONS,
    PITCH: PITCHES,
    SPEED: SPEEDS,
}
"""Keys whose values are of a closed list."""


def format_reply(
    *,
    text: str,
    emotion: str,
    pitch: str,
    units: Sequence[int],
    user_text: str | None = None,
    user_emotion: str | None = None,
    user_pitch: str | None = None,
) -> str:
    """Write a reply as the checkpoints were trained to; user keys that are None are left out."""
    speech = SpeechUnits.of(list(units)).to_text()
    values = zip(KEYS, (user_text, user_emotion, user_pitch, text, emotion, pitch, speech), strict=True)
    return json.dumps({key: value for key, value in values if value is not None}, ensure_ascii=False)


def canonical_key(key: str) -> str:
    """Return a key as it is compared: in lower case, its words parted by single spaces."""
    return " ".join(key.casefold().replace("_", " ").split())
