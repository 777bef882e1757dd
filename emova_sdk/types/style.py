"""Style: speaker, emotion, pitch and speed, chosen or perceived."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from emova_sdk.arguments import checked_fields
from emova_sdk.errors import InputError
from emova_sdk.style_values import EMOTIONS, PITCHES, SPEEDS, Emotion, Pitch, Speed
from emova_sdk.types.text import well_formed


def require_one_of(axis: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not in a closed list."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(
            f"{axis} `{well_formed(str(value))}` is not one of {', '.join(allowed)}", f"choose the {axis} from that list"
        )


@dataclass(frozen=True)
class Style:
    """A speaking style: complete, chosen or perceived.

    Attributes:
        speaker: Name of a voice; EMOVA's are ``female`` and ``male``.
        emotion: One of the seven `EMOTIONS`.
        pitch: ``low``, ``normal`` or ``high``, relative to the voice.
        speed: ``slow``, ``normal`` or ``fast``.
    """

    speaker: str = "female"
    emotion: Emotion = "neutral"
    pitch: Pitch = "normal"
    speed: Speed = "normal"

    def __post_init__(self) -> None:
        speaker: object = self.speaker  # whatever a caller without a type checker passed
        if not isinstance(speaker, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.]*", speaker):
            raise InputError(
                f"speaker `{well_formed(str(speaker))}` is not a name of letters, digits and dots",
                "use female, male or a voice's name",
            )
        require_one_of("emotion", self.emotion, EMOTIONS)
        require_one_of("pitch", self.pitch, PITCHES)
        require_one_of("speed", self.speed, SPEEDS)

    @property
    def condition(self) -> str:
        """EMOVA's name of the style: ``gender-female_emotion-happy_speed-normal_pitch-high``."""
        return f"gender-{self.speaker}_emotion-{self.emotion}_speed-{self.speed}_pitch-{self.pitch}"

    @classmethod
    def from_condition(cls, condition: str) -> Style:
        """Read EMOVA's name of a style, the inverse of `condition`.

        Raises:
            InputError: If the name does not have that form.
        """
        match = re.fullmatch(r"gender-([^_]+)_emotion-([^_]+)_speed-([^_]+)_pitch-([^_]+)", condition)
        if not match:
            raise InputError(
                f"`{condition}` is not a style condition",
                "it looks like gender-female_emotion-sad_speed-normal_pitch-low",
            )
        speaker, emotion, speed, pitch = match.groups()
        return cls(speaker, cast("Emotion", emotion), cast("Pitch", pitch), cast("Speed", speed))

    def to_dict(self) -> dict[str, str]:
        """Return the four axes as a JSON object."""
        return {"speaker": self.speaker, "emotion": self.emotion, "pitch": self.pitch, "speed": self.speed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Style:
        """Read what `to_dict` wrote; missing axes take their defaults.

        Raises:
            InputError: If an axis is unknown or has an unknown value.
        """
        unknown = set(data) - {"speaker", "emotion", "pitch", "speed"}
        if unknown:
            raise InputError(f"`{min(unknown)}` is not an axis of a style", "the axes are speaker, emotion, pitch and speed")
        return cls(**data)


@checked_fields
@dataclass(frozen=True)
class PerceivedStyle:
    """A style perceived in speech.

    Attributes:
        style: The most likely value of each axis; the default for an unknown axis.
        scores: Probability in [0, 1] of that value for each axis that was classified, e.g. ``{"emotion": 0.93}``. 0 means that
            the axis is not known: what was heard is nothing the component can judge.
        source: Slot of the component that classified it, e.g. ``style_module`` or ``llm_core``.
    """

    style: Style
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    source: str = "style_module"

    def __post_init__(self) -> None:
        for axis, score in self.scores.items():
            if not 0.0 <= score <= 1.0:
                raise InputError(f"score `{score}` of `{axis}` is not in [0, 1]", "scores are probabilities")
        defaults = {axis: value for axis, value in Style().to_dict().items() if axis in self.unknown}
        # No guess is left behind for somebody to take as heard.
        object.__setattr__(self, "style", replace(self.style, **cast("dict[str, Any]", defaults)))

    @property
    def unknown(self) -> tuple[str, ...]:
        """The unknown axes."""
        return tuple(axis for axis, score in self.scores.items() if score == 0.0)

    @property
    def emotion(self) -> Emotion | None:
        """The emotion, or None if unknown."""
        return None if "emotion" in self.unknown else self.style.emotion

    @classmethod
    def nothing_known(cls, source: str = "style_module") -> PerceivedStyle:
        """Return a style with every axis unknown."""
        return cls(Style(), dict.fromkeys(Style().to_dict(), 0.0), source)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object, with null for unknown axes."""
        unknown = dict.fromkeys(self.unknown)
        style = {axis: unknown.get(axis, value) for axis, value in self.style.to_dict().items()}
        return {"style": style, "scores": dict(self.scores), "source": self.source}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PerceivedStyle:
        """Read what `to_dict` wrote."""
        known = {axis: value for axis, value in data["style"].items() if value is not None}
        return cls(Style.from_dict(known), {str(k): float(v) for k, v in data["scores"].items()}, str(data["source"]))
