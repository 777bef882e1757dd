"""Closed-domain hearing: which sentence of a grammar do these units say?

A hidden Markov model whose states are the phones of every sentence of the grammar (templates with slots share their parts)
and whose emissions say how likely each unit is for each phone. The best path through it (Viterbi) is the best sentence; how
much worse it is than free phones tells how sure that is. It is the second opinion where the language model is unsure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.lexicon import PHONES, SILENCE, Lexicon
from emova_sdk.errors import LoadError

STAY, SKIP = -1.0, -2.5
"""Log-scores of a phone that takes another unit, and of a phone that is left out."""
_NUMBER = {phone: place for place, phone in enumerate((SILENCE, *PHONES))}
_SLOT = re.compile(r"\{([a-z]+)\d?\}")


@dataclass(frozen=True)
class Heard:
    """A sentence of the grammar.

    Attributes:
        text: Its words.
        gap: By how much each unit fits worse, in nats on average, than it would the best phone; 0 is a perfect fit.
    """

    text: str
    gap: float


class Grammar:
    """Sentences as a network of phones.

    Args:
        templates: E.g. ``what color is the {shape}``; a digit after a slot's name tells two of one kind apart.
        slots: Values of each slot.
        emissions: Log-probability of each unit for each phone, silence first, float (40, units).
    """

    def __init__(self, templates: Sequence[str], slots: Mapping[str, Sequence[str]], emissions: NDArray[np.floating]) -> None:
        self._emissions = np.asarray(emissions, np.float32)
        self._phone: list[int] = []
        self._place: list[int] = []
        self._entry: list[int] = []
        self._exits: list[list[tuple[int, float]]] = [[]]
        self._word: dict[int, str] = {}
        self._finals: list[int] = []
        lexicon = Lexicon.shipped()
        for template in templates:
            junction = 0
            for part in self._parts(template, slots):
                after = len(self._exits)
                self._exits.append([])
                for words in part:
                    self._chain(words, [_NUMBER[p] for p in lexicon.phones(words) if p != SILENCE], junction, after)
                junction = after
            self._finals.append(junction)
        self._freeze()

    @staticmethod
    def _parts(template: str, slots: Mapping[str, Sequence[str]]) -> list[Sequence[str]]:
        parts: list[Sequence[str]] = []
        for place, piece in enumerate(_SLOT.split(template)):
            if place % 2:
                plural = template[template.index("{" + piece) :].partition("}")[2][:1] == "s"
                parts.append([f"{value}s" for value in slots[piece]] if plural else list(slots[piece]))
            else:
                words = piece.split()
                words = words[1:] if place and piece[:1] == "s" else words
                parts += [["a", "an"] if word == "a" else [word] for word in words]
        return parts

    def _chain(self, words: str, phones: Sequence[int], before: int, after: int) -> None:
        for place, phone in enumerate(phones):
            self._phone.append(phone)
            self._place.append(place)
            self._entry.append(before)
        last = len(self._phone) - 1
        self._word[last] = words
        self._exits[after].append((last, 0.0))
        if len(phones) > 1:
            self._word[last - 1] = words
            self._exits[after].append((last - 1, SKIP))

    @classmethod
    def load(cls, folder: Path) -> Grammar:
        """Read ``grammar.json`` and ``emissions.safetensors``.

        Raises:
            LoadError: If a file is missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            text = json.loads((folder / "grammar.json").read_text(encoding="utf-8"))
            return cls(text["templates"], text["slots"], load_file(folder / "emissions.safetensors")["emissions"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise LoadError(f"the grammar in `{folder}` cannot be loaded: {error}", "train or install it again") from error

    def _freeze(self) -> None:
        self.phone = np.array(self._phone)
        self.place = np.array(self._place)
        self.entry = np.array(self._entry)
        ends = [(state, cost) for exits in self._exits for state, cost in exits]
        self.end_state = np.array([state for state, _ in ends])
        self.end_cost = np.array([cost for _, cost in ends], np.float32)
        sizes = [len(exits) for exits in self._exits]
        self.bounds = np.concatenate([[0], np.cumsum(sizes)])

    def hear(self, units: Sequence[int]) -> Heard | None:
        """Return the best sentence for units (repeats collapsed), None for none."""
        if not units:
            return None
        table = self._emissions[:, list(units)]
        score = np.where(self.place == 0, table[self.phone, 0], np.float32(-1e9))
        score = np.where((self.place == 1) & (self.entry == 0), SKIP + table[self.phone, 0], score)
        score[(self.place == 0) & (self.entry != 0)] = -1e9
        moves: list[NDArray[np.int8]] = []
        joints: list[NDArray[np.int64]] = []
        for time in range(1, len(units)):
            best, where = self._junctions(score)
            previous = np.concatenate([[-1e9], score[:-1]]).astype(np.float32)
            before = np.concatenate([[-1e9, -1e9], score[:-2]]).astype(np.float32)
            enter = best[self.entry]
            step = np.where(self.place == 0, enter, previous)
            skip = np.where(self.place == 0, np.float32(-1e9), np.where(self.place == 1, enter, before)) + SKIP
            options = np.stack([score + STAY, step, skip])
            move = options.argmax(0)
            moves.append(move.astype(np.int8))
            joints.append(where)
            score = options.max(0) + table[self.phone, time]
        best, where = self._junctions(score)
        final = max(self._finals, key=lambda junction: best[junction])
        if best[final] < -1e8:
            return None
        gap = float(table.max(0).sum() - best[final]) / len(units)
        return Heard(self._trace(int(where[final]), moves, joints), gap)

    def _junctions(self, score: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Best score that arrives at each junction, and the state it comes from; the start is reached at no time."""
        values = score[self.end_state] + self.end_cost
        best = np.full(len(self.bounds) - 1, -1e9, np.float32)
        where = np.zeros(len(best), np.int64)
        for junction in range(1, len(best)):
            low, high = self.bounds[junction], self.bounds[junction + 1]
            place = low + int(values[low:high].argmax())
            best[junction], where[junction] = values[place], self.end_state[place]
        return best, where

    def _trace(self, state: int, moves: list[NDArray[np.int8]], joints: list[NDArray[np.int64]]) -> str:
        words = [self._word[state]]
        for move, where in zip(reversed(moves), reversed(joints), strict=True):
            kind, place = int(move[state]), int(self.place[state])
            if kind == 0:
                continue
            if place - kind < 0:
                state = int(where[self.entry[state]])
                words.append(self._word[state])
            else:
                state -= kind
        return re.sub(r"\ban (?![aeiou])", "a ", " ".join(reversed(words)))


def sureness(gap: float, *, middle: float = 2.25, width: float = 0.25) -> float:
    """Turn a gap into a number from 0 to 1, one half at ``middle``."""
    return 1.0 / (1.0 + math.exp((gap - middle) / width))


def save_grammar(
    folder: Path, *, templates: Sequence[str], slots: Mapping[str, Sequence[str]], emissions: NDArray[np.floating]
) -> None:
    """Write what `Grammar.load` reads."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "grammar.json.tmp"
    part.write_text(json.dumps({"templates": list(templates), "slots": {k: list(v) for k, v in slots.items()}}) + "\n")
    part.replace(folder / "grammar.json")
    part = folder / "emissions.safetensors.tmp"
    save_file({"emissions": np.ascontiguousarray(emissions, np.float16)}, part)
    part.replace(folder / "emissions.safetensors")
