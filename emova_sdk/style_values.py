"""What a style's axes may be: a module of its own, since importing `emova_sdk.types` takes longer than showing help."""

from __future__ import annotations

from typing import Literal, get_args

Emotion = Literal["neutral", "happy", "sad", "angry", "surprised", "disgusted", "fearful"]
Pitch = Literal["low", "normal", "high"]
Speed = Literal["slow", "normal", "fast"]

EMOTIONS: tuple[Emotion, ...] = get_args(Emotion)
PITCHES: tuple[Pitch, ...] = get_args(Pitch)
SPEEDS: tuple[Speed, ...] = get_args(Speed)
