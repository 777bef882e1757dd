"""The rules of end-of-turn detectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emova_sdk.components.end_of_turn import EndOfTurn, Pause
from emova_sdk.testing.conformance import CheckResult
from emova_sdk.testing.subject import CheckFailed, in_threads, require
from emova_sdk.types import Audio, Turn

RATE = 16_000
_HISTORY = (Turn("user", "what is left of the star"), Turn("assistant", "A red circle."))


def check_end_of_turn(make: Callable[[], EndOfTurn]) -> list[CheckResult]:
    """Run all rules on an `EndOfTurn`, and report each.

    Args:
        make: Makes one; a class will do.
    """
    return [_checked(rule, make) for rule in RULES]


def _checked(rule: Callable[[EndOfTurn], None], make: Callable[[], EndOfTurn]) -> CheckResult:
    name, told = rule.__name__, (rule.__doc__ or "").partition("\n")[0]
    try:
        rule(make())
    except CheckFailed as error:
        return CheckResult(name, told, passed=False, message=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it raises is reported
        return CheckResult(name, told, passed=False, message=f"it raised {type(error).__name__}: {error}")
    return CheckResult(name, told, passed=True)


def pause(*, seconds: float = 2.0, silence_s: float = 0.7, words: str = "tell me about the", history: bool = True) -> Pause:
    """Make up a pause after a voiced sound."""
    at = np.arange(round(seconds * RATE)) / RATE
    samples = (0.3 * np.sin(2 * np.pi * 160 * at) * (at < seconds - silence_s)).astype(np.float32)
    return Pause(Audio(samples, RATE), silence_s, _HISTORY if history else (), "en", lambda: words)


def facts_are_declared(detector: EndOfTurn) -> None:
    """`after_s` is a number of seconds, and `slow` is True or False."""
    require(isinstance(detector.after_s, float | int) and 0 <= detector.after_s < 10, f"`after_s` is {detector.after_s!r}")
    require(isinstance(detector.slow, bool), f"`slow` is {detector.slow!r}")


def waits_are_seconds(detector: EndOfTurn) -> None:
    """`wait_s` is a finite number of seconds, whatever was said."""
    for words in ("", "hello", "tell me about the", "stop", "止めて", "a " * 500):
        found = detector.wait_s(pause(words=words))
        require(isinstance(found, float | int) and 0 <= found < float("inf"), f"`wait_s` is {found!r} after `{words[:20]}`")


def any_length_will_do(detector: EndOfTurn) -> None:
    """A turn may be as short as a frame and as long as a minute, and the first of its conversation."""
    for seconds, silence_s in ((0.032, 0.0), (0.3, 0.2), (60.0, 0.7)):
        detector.wait_s(pause(seconds=seconds, silence_s=silence_s, history=False))


def equal_pauses_have_equal_answers(detector: EndOfTurn) -> None:
    """The same pause has the same answer, after others as well: a detector keeps nothing of a conversation."""
    first = detector.wait_s(pause())
    detector.wait_s(pause(words="yes", seconds=1.0))
    again = detector.wait_s(pause())
    require(first == again, f"`wait_s` is {first} and then {again} for the same pause")


def sound_is_left_as_it_is(detector: EndOfTurn) -> None:
    """The sound of the pause is not changed."""
    given = pause()
    before = given.audio.samples.copy()
    detector.wait_s(given)
    require(np.array_equal(before, given.audio.samples), "the samples were changed")


def words_that_fail_are_none(detector: EndOfTurn) -> None:
    """Where the words cannot be found out, something is answered all the same."""

    def fail() -> str:
        raise RuntimeError("nothing was understood")

    detector.wait_s(Pause(pause().audio, 0.7, (), "en", fail))


def several_threads_may_ask(detector: EndOfTurn) -> None:
    """It is asked in a thread of its own, and may be shared by conversations."""
    found = in_threads([lambda: detector.wait_s(pause())] * 4)
    require(len(set(found)) == 1, f"four threads were told {sorted(set(found))}")


RULES = (
    facts_are_declared,
    waits_are_seconds,
    any_length_will_do,
    equal_pauses_have_equal_answers,
    sound_is_left_as_it_is,
    words_that_fail_are_none,
    several_threads_may_ask,
)
