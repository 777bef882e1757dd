"""Style policy: rules on how answers are spoken, whatever a model would choose.

A policy stands between the style that was *requested* (by the caller, by the model, or the session's default) and the style
that is *applied*. A turn records both, so that nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from emova_sdk.errors import InputError
from emova_sdk.types import EMOTIONS, Emotion, PerceivedStyle, Style
from emova_sdk.types.style import require_one_of

__all__ = ["CHEERFUL", "EMOTION_FALLBACK", "Rule", "StylePolicy", "fall_back"]

Rule = Literal["model", "fixed", "mirror", "soothe"]

EMOTION_FALLBACK: dict[Emotion, Emotion] = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}
"""Where a voice cannot speak an emotion, the one it speaks instead (EMOVA's own folding); else neutral."""

CHEERFUL: tuple[Emotion, ...] = ("happy", "surprised")
"""What a policy with ``never_cheerful_to`` keeps from users who feel bad."""

DISTRESSED: tuple[Emotion, ...] = ("sad", "angry", "fearful", "disgusted")
"""What the rule ``soothe`` answers calmly."""


@dataclass(frozen=True)
class StylePolicy:
    """Rules of a session, the ``[style]`` table of a config.

    ``rule`` decides where the caller did not ask for a style; ``allowed`` and ``never_cheerful_to`` bind in any case.

    Attributes:
        rule: ``model``: emotion and pitch are the model's choice. ``fixed``: always the session's default style. ``mirror``:
            the user's emotion and pitch. ``soothe``: a sad, angry, fearful or disgusted user is answered neutrally, low
            and slowly; others as by ``model``, but one whose emotion is not known never cheerfully.
        allowed: Emotions that may be spoken.
        never_cheerful_to: Emotions of the user that are never answered with a happy or surprised voice; nor is speech
            whose emotion is not known, since it may be one of them.
        fallbacks: What is spoken in place of an emotion that may not or cannot be spoken; before `EMOTION_FALLBACK`.
        min_score: A perceived emotion with a lower score counts as not known.

    Raises:
        InputError: If a value is unknown, or the rules leave no emotion to speak in.
    """

    rule: Rule = "model"
    allowed: tuple[Emotion, ...] = EMOTIONS
    never_cheerful_to: tuple[Emotion, ...] = ()
    fallbacks: Mapping[Emotion, Emotion] = field(default_factory=dict[Emotion, Emotion])
    min_score: float = 0.5

    def __post_init__(self) -> None:
        require_one_of("rule", self.rule, get_args(Rule))
        for emotion in (*self.allowed, *self.never_cheerful_to, *self.fallbacks, *self.fallbacks.values()):
            require_one_of("emotion", emotion, EMOTIONS)
        if not 0.0 <= self.min_score <= 1.0:
            raise InputError(f"`min_score` is `{self.min_score}`, not in [0, 1]", "scores are probabilities")
        if not self.allowed or (self.never_cheerful_to and set(self.allowed) <= set(CHEERFUL)):
            raise InputError("the style policy leaves no emotion to speak in", "add `neutral` to `allowed`")

    def choose(
        self, requested: Style, *, default: Style, perceived: PerceivedStyle | None = None, asked: bool = False
    ) -> Style:
        """Return the style to speak in.

        Args:
            requested: What the caller or the model wants.
            default: The session's style.
            perceived: How the user spoke.
            asked: Whether ``requested`` is the caller's wish: the rule then leaves it alone.
        """
        style = requested if asked else self._by_rule(requested, default, self.felt(perceived), perceived)
        permitted = self.permitted(perceived)
        return replace(style, emotion=nearest_emotion(style.emotion, permitted, self.fallbacks))

    def permitted(self, perceived: PerceivedStyle | None) -> tuple[Emotion, ...]:
        """Return the emotions that may be spoken to a user who sounds like that."""
        felt = self.felt(perceived)
        guarded = felt in self.never_cheerful_to or (bool(self.never_cheerful_to) and _unsure(perceived, felt))
        return tuple(emotion for emotion in self.allowed if not (guarded and emotion in CHEERFUL))

    def felt(self, perceived: PerceivedStyle | None) -> Emotion | None:
        """Return the user's emotion; None if it was not heard clearly enough, or nothing was said aloud."""
        if perceived is None or perceived.scores.get("emotion", 1.0) < self.min_score:
            return None
        return perceived.emotion

    def _by_rule(self, requested: Style, default: Style, felt: Emotion | None, perceived: PerceivedStyle | None) -> Style:
        if self.rule == "fixed":
            return default
        if self.rule == "mirror" and felt is not None and perceived is not None:
            return replace(requested, emotion=felt, pitch=perceived.style.pitch)
        if self.rule == "soothe" and felt in DISTRESSED:
            return replace(requested, emotion="neutral", pitch="low", speed="slow")
        if self.rule == "soothe" and _unsure(perceived, felt) and requested.emotion in CHEERFUL:
            return replace(requested, emotion="neutral")
        return requested


def _unsure(perceived: PerceivedStyle | None, felt: Emotion | None) -> bool:
    """Whether there was a voice to hear, but its emotion is not known: then it is not known to be a good one."""
    return perceived is not None and felt is None


def nearest_emotion(
    wanted: Emotion, available: Sequence[Emotion], fallbacks: Mapping[Emotion, Emotion] | None = None
) -> Emotion:
    """Return the emotion nearest to ``wanted`` of those available: itself, its fallback, neutral, or the first."""
    instead = (fallbacks or {}).get(wanted, wanted)
    candidates: list[Emotion] = [wanted, instead, EMOTION_FALLBACK.get(wanted, wanted), "neutral", *available]
    for emotion in candidates:
        if emotion in available:
            return emotion
    return wanted


def fall_back(
    style: Style,
    choices: Mapping[str, Sequence[str]],
    *,
    permitted: Sequence[Emotion] = EMOTIONS,
    fallbacks: Mapping[Emotion, Emotion] | None = None,
) -> Style:
    """Return the style nearest to ``style`` of those that can be spoken.

    Args:
        style: What is wanted.
        choices: Values that can be spoken for each axis; an axis left out is free.
        permitted: Emotions that may be spoken; they yield only where the voice has none of them.
        fallbacks: Emotions to speak instead, before `EMOTION_FALLBACK`.
    """

    def nearest(axis: str, *candidates: str) -> Any:
        available = choices.get(axis, candidates)
        return next((value for value in (*candidates, *available) if value in available), candidates[0])

    spoken: Any = choices.get("emotion", EMOTIONS)
    return Style(
        speaker=nearest("speaker", style.speaker),
        emotion=nearest_emotion(style.emotion, [one for one in spoken if one in permitted] or spoken, fallbacks),
        pitch=nearest("pitch", style.pitch, "normal"),
        speed=nearest("speed", style.speed, "normal"),
    )
