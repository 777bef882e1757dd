"""When somebody's turn begins and ends, and what interrupts an answer: the ``[live]`` table of a config."""

from __future__ import annotations

from dataclasses import dataclass

from emova_sdk.errors import InputError
from emova_sdk.types.turn_words import WordLists, words_for


@dataclass(frozen=True)
class LiveSettings:
    """Times are in seconds of the recorded sound.

    Attributes:
        threshold: Probability from which a frame counts as speech.
        start_s: Speech must last this long to count as begun; an answer being played pauses then.
        interrupt_s: Speech this long interrupts an answer for good. Shorter speech does only if it holds a stop word;
            otherwise (a cough, an "mhm") the answer goes on where it paused.
        resume_s: Silence after such short speech before the answer goes on.
        end_s: Silence that ends a turn.
        unfinished_end_s: Silence that ends a turn whose last word (see ``unfinished``) calls for more.
        prefix_s: Sound kept from before speech was noticed.
        shortest_s: Speech shorter than this is no turn.
        longest_s: A turn is taken after this long, whether it ended or not.
        end_of_turn: Name of a detector that an installed package offers, see `emova_sdk.live.EndOfTurn`; None is the built-in
            one, which goes by ``end_s``, ``unfinished_end_s`` and ``unfinished``.
        language: What is spoken, e.g. ``en`` or ``de-AT``: chooses the two lists below, see `emova_sdk.types.turn_words`.
        stop_words: Words or phrases that interrupt however short they are; None takes the language's, and an empty tuple
            (or a language without any) switches the transcribing of short speech off.
        unfinished: Last words after which a speaker is given more time; None takes the language's, and an empty tuple
            switches the transcribing at a pause off.
        ahead_s: How far an answer is made ahead of its playback.
        interruptible: Whether speech interrupts an answer. Without, what is recorded while an answer is heard is ignored: for
            a microphone that hears the loudspeaker, where nothing takes the echo out.
    """

    threshold: float = 0.5
    start_s: float = 0.064
    interrupt_s: float = 0.6
    resume_s: float = 0.3
    end_s: float = 0.7
    unfinished_end_s: float = 1.5
    prefix_s: float = 0.3
    shortest_s: float = 0.15
    longest_s: float = 60.0
    end_of_turn: str | None = None
    language: str = "en"
    stop_words: tuple[str, ...] | None = None
    unfinished: tuple[str, ...] | None = None
    ahead_s: float = 3.0
    interruptible: bool = True
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, and no field

    @property
    def words(self) -> WordLists:
        """The words that decide: those given, or the language's."""
        known = words_for(self.language)
        return WordLists(
            known.stop if self.stop_words is None else self.stop_words,
            known.unfinished if self.unfinished is None else self.unfinished,
        )

    def __post_init__(self) -> None:
        for name in ("stop_words", "unfinished"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"`{name}` is one text, not several words", f'pass a tuple, e.g. {name}=("stop",)')
        if not 0.0 < self.threshold < 1.0:
            raise InputError(f"threshold `{self.threshold}` is not between 0 and 1", "0.5 is usual")
        times = (self.start_s, self.interrupt_s, self.resume_s, self.end_s, self.prefix_s, self.longest_s, self.ahead_s)
        ordered = self.start_s <= self.interrupt_s and self.end_s <= self.unfinished_end_s
        if not ordered or not all(seconds >= 0 for seconds in times):  # neither is NaN
            raise InputError(
                "the times of a live session contradict each other",
                "none is negative, start_s <= interrupt_s, end_s <= unfinished_end_s",
            )
