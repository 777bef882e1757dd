"""The words that decide when people speak with each other, in several languages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


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
