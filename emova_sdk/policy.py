"""Style policy: rules on how answers are spoken, whatever a model would choose.

A policy stands between the style that was *requested* (by the caller, by the model, or the session's default) and the style
that is *applied*. A turn records both, so that nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

from annotated_types import Ge, Le, Len

from emova_sdk.arguments import checked_fields
from emova_sdk.errors import InputError
from emova_sdk.types import EMOTIONS, Emotion, PerceivedStyle, Style
from emova_sdk.types.style import require_one_of

StyleRule = Literal["model", "fixed", "mirror", "soothe"]

EMOTION_FALLBACK: dict[Emotion, Emotion] = {"surprised": "happy", "fearful": "sad", "disgusted": "angry"}
"""Where a voice cannot speak an emotion, the one it speaks instead (EMOVA's own folding); else neutral."""

CHEERFUL: tuple[Emotion, ...] = ("happy", "surprised")
"""What a policy with ``never_cheerful_to`` keeps from users who feel bad."""

DISTRESSED: tuple[Emotion, ...] = ("sad", "angry", "fearful", "disgusted")
"""What the rule ``soothe`` answers calmly."""


@checked_fields
@dataclass(frozen=True)
class StylePolicy:
    """Rules for the style of a session's answers: the ``[style]`` table of a config.

    ``rule`` applies unless the caller requests a style; ``allowed`` and ``never_cheerful_to`` always apply.

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

    rule: StyleRule = "model"
    allowed: Annotated[tuple[Emotion, ...], Len(1)] = EMOTIONS
    never_cheerful_to: tuple[Emotion, ...] = ()
    fallbacks: Mapping[Emotion, Emotion] = field(default_factory=dict[Emotion, Emotion])
    min_score: Annotated[float, Ge(0), Le(1)] = 0.5

    def __post_init__(self) -> None:
        require_one_of("rule", self.rule, get_args(StyleRule))
        for emotion in (*self.allowed, *self.never_cheerful_to, *self.fallbacks, *self.fallbacks.values()):
            require_one_of("emotion", emotion, EMOTIONS)
        if not 0.0 <= self.min_score <= 1.0:
            raise InputError(f"`min_score` is `{self.min_score}`, not in [0, 1]", "scores are probabilities")
        if not self.allowed or (self.never_cheerful_to and set(self.allowed) <= set(CHEERFUL)):
            raise InputError("the style policy leaves no emotion to speak in", "add `neutral` to `allowed`")

    def permitted(self, perceived: PerceivedStyle | None) -> tuple[Emotion, ...]:
        """Return the emotions that may be spoken to a user who sounds like this."""
        emotion = self.recognized(perceived)
        guarded = emotion in self.never_cheerful_to or (bool(self.never_cheerful_to) and _unsure(perceived, emotion))
        return tuple(one for one in self.allowed if not (guarded and one in CHEERFUL))

    def recognized(self, perceived: PerceivedStyle | None) -> Emotion | None:
        """Return the user's emotion; None if it was not heard clearly enough, or nothing was said aloud."""
        if perceived is None or perceived.scores.get("emotion", 1.0) < self.min_score:
            return None
        return perceived.emotion

    def follow_rule(self, style: Style, *, default: Style, perceived: PerceivedStyle | None) -> Style:
        """Return the style that ``rule`` chooses if the caller requests none."""
        emotion = self.recognized(perceived)
        if self.rule == "fixed":
            return default
        if self.rule == "mirror" and emotion is not None and perceived is not None:
            return replace(style, emotion=emotion, pitch=perceived.style.pitch)
        if self.rule == "soothe" and emotion in DISTRESSED:
            return replace(style, emotion="neutral", pitch="low", speed="slow")
        if self.rule == "soothe" and _unsure(perceived, emotion) and style.emotion in CHEERFUL:
            return replace(style, emotion="neutral")
        return style


class StyleDecision(NamedTuple):
    """How an answer is spoken.

    Attributes:
        requested: The style that the caller, the model or the session's default asks for.
        applied: The style that the policy permits and the voice has.
    """

    requested: Style
    applied: Style


def resolve_style(
    requested: Style | None,
    *,
    default: Style,
    chosen: Style | None = None,
    policy: StylePolicy = StylePolicy(),
    perceived: PerceivedStyle | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> StyleDecision:
    """Decide how an answer is spoken: all that has a say in it comes together here.

    Args:
        requested: The caller's wish, which no rule changes; None leaves it to the model, the rule and the default.
        default: The session's style; its speaker and speed hold where the model chooses the rest.
        chosen: What the model chose: its emotion and pitch count.
        policy: The rules; what it permits yields only where the voice has none of it.
        perceived: How the user spoke.
        choices: Values that the voice has for each axis; an axis left out is free. Pitch and speed fall back to
            ``normal``, else an axis to its first value.
    """
    wanted = requested or (default if chosen is None else replace(default, emotion=chosen.emotion, pitch=chosen.pitch))
    style = wanted if requested else policy.follow_rule(wanted, default=default, perceived=perceived)
    permitted = policy.permitted(perceived)
    voiced: Any = (choices or {}).get("emotion", EMOTIONS)
    available: Sequence[Emotion] = [emotion for emotion in permitted if emotion in voiced] or voiced

    def nearest(axis: str, *candidates: str) -> Any:
        values = (choices or {}).get(axis) or candidates
        return next(one for one in (*candidates, *values) if one in values)

    applied = Style(
        speaker=nearest("speaker", style.speaker),
        emotion=_nearest_emotion(style.emotion, available, policy.fallbacks),
        pitch=nearest("pitch", style.pitch, "normal"),
        speed=nearest("speed", style.speed, "normal"),
    )
    return StyleDecision(wanted, applied)


def _unsure(perceived: PerceivedStyle | None, emotion: Emotion | None) -> bool:
    """Whether there was a voice to hear, but its emotion is not known: then it is not known to be a good one."""
    return perceived is not None and emotion is None


def _nearest_emotion(wanted: Emotion, available: Sequence[Emotion], fallbacks: Mapping[Emotion, Emotion]) -> Emotion:
    """Return the emotion itself, its fallback, neutral, or the first that is available."""
    candidates: list[Emotion] = [wanted, fallbacks.get(wanted, wanted), EMOTION_FALLBACK.get(wanted, wanted), "neutral"]
    for emotion in (*candidates, *available):
        if emotion in available:
            return emotion
    return wanted
