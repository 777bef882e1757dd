"""The words that decide in a live conversation, in several languages, and how they are found beside it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from emova_sdk.types import Audio
from emova_sdk.wiring import Wiring


class WordLists(NamedTuple):
    """Words that interrupt an answer, and words after which more is to come."""

    stop: tuple[str, ...]
    unfinished: tuple[str, ...]


def _lists(stop: str, unfinished: str) -> WordLists:
    return WordLists(tuple(stop.split(", ")), tuple(unfinished.split()))


WORDS = {
    "en": _lists("stop, wait, no, hold, pause, enough, quiet", "and or but because so the a an of to with um uh if when"),
    "de": _lists(
        "stopp, stop, halt, warte, warten sie, nein, moment, pause, genug, ruhe",
        "und oder aber weil denn also der die das ein eine einen dem den mit von zu äh ähm wenn dass",
    ),
    "fr": _lists(
        "stop, arrête, arrêtez, attends, attendez, non, pause, assez, silence",
        "et ou mais parce donc le la les un une des de du à avec euh quand si que",
    ),
    "es": _lists(
        "para, pare, alto, espera, espere, no, pausa, basta, silencio",
        "y o pero porque entonces el la los las un una de del a con eh cuando si que",
    ),
    "it": _lists(
        "stop, ferma, fermati, aspetta, aspetti, no, pausa, basta, silenzio",
        "e o ma perché quindi il lo la i gli le un una di a con ehm quando se che",
    ),
    "pt": _lists(
        "pare, para, espera, espere, não, pausa, chega, silêncio",
        "e ou mas porque então o a os as um uma de do da com hum quando se que",
    ),
    "nl": _lists(
        "stop, wacht, nee, pauze, genoeg, stil",
        "en of maar omdat dus de het een van naar met eh uh als wanneer dat",
    ),
}
"""By language code. Any other language has none until `LiveSettings` is given some: nothing is transcribed then."""


def words_for(language: str) -> WordLists:
    """Return the lists of a language tag such as ``de`` or ``de-AT``; empty ones for a language that has none here."""
    return WORDS.get(re.split(r"[-_]", language.lower())[0], WordLists((), ()))


def holds(text: str, phrases: Iterable[str]) -> bool:
    """Whether any of the words or phrases is in the text; case and punctuation aside."""
    return any(f" {plain} " in f" {_plain(text)} " for phrase in phrases if (plain := _plain(phrase)))


def ends_in(text: str, phrases: Iterable[str]) -> bool:
    """Whether the text ends in any of the words or phrases; case and punctuation aside."""
    return any(f" {_plain(text)}".endswith(f" {plain}") for phrase in phrases if (plain := _plain(phrase)))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


class SpokenWords:
    """Finds out what was just said, beside the conversation.

    Args:
        pipeline: What transcribes.
        threaded: Whether a thread of its own does; otherwise the caller waits for the words.
    """

    def __init__(self, pipeline: Wiring, *, threaded: bool) -> None:
        self._pipeline = pipeline
        self._threaded = threaded
        self._thread: threading.Thread | None = None
        self._text = ""

    def of(self, captured: Callable[[], Audio]) -> str | None:
        """Return the words, or None while they are looked for; the first call takes the sound and begins to look."""
        if not self._threaded:
            self._look(captured())
            return self._text
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, args=(captured(),), name="emova-live-words", daemon=True)
            self._thread.start()
        if self._thread.is_alive():
            return None
        self._thread = None
        return self._text

    def wait(self) -> None:
        """Wait until nothing is looked for any more."""
        if self._thread is not None:
            self._thread.join()

    def _look(self, audio: Audio) -> None:
        self._text = ""
        with suppress(Exception):  # what cannot be understood neither interrupts nor calls for more
            self._text = self._pipeline.transcribe(audio).text
