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

from emova_sdk.components.nano.dictionary import PHONES, SILENCE
from emova_sdk.components.nano.g2p import phones_of_words
from emova_sdk.errors import LoadError
from emova_sdk.files import write_atomically

STAY, SKIP = -1.0, -2.5
"""Log-scores of a phone that takes another unit, and of a phone that is left out."""
_NEVER = np.float32(-1e9)
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
        self._silent = self._emissions.argmax(0) == 0
        self._phone: list[int] = []
        self._place: list[int] = []
        self._entry: list[int] = []
        self._exits: list[list[tuple[int, float]]] = [[]]
        self._word: dict[int, str] = {}
        self._finals: list[int] = []
        for template in templates:
            junction = 0
            for part in self._parts(template, slots):
                after = len(self._exits)
                self._exits.append([])
                for words in part:
                    self._chain(words, [_NUMBER[p] for p in phones_of_words(words.split()) if p != SILENCE], junction, after)
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
        """Turn the lists into arrays. Where a score comes from is an index into states, then junctions, then what cannot be."""
        self.phone, self.place, self.entry = np.array(self._phone), np.array(self._place), np.array(self._entry)
        states, junctions = len(self.phone), len(self._exits)
        junction, self._nowhere = states + self.entry, states + junctions
        self._begins = np.where(self.entry == 0, self.place, -1)
        self._step = np.where(self.place == 0, junction, np.arange(states) - 1)
        self._skip = np.where(self.place == 0, self._nowhere, np.where(self.place == 1, junction, np.arange(states) - 2))
        ends = [(state, cost) for exits in self._exits for state, cost in exits]
        self._end_state = np.array([state for state, _ in ends])
        self._end_cost = np.array([cost for _, cost in ends], np.float32)
        self._bounds = np.concatenate([[0], np.cumsum([len(exits) for exits in self._exits])])

    def hear(self, units: Sequence[int]) -> Heard | None:
        """Return the best sentence for units (repeats collapsed), None for none.

        Pauses are in no sentence: units that stand for silence are left out.
        """
        units = [unit for unit in units if not self._silent[unit]]
        if not units:
            return None
        table = self._emissions.T[list(units)]
        states = len(self.phone)
        score = np.where(self._begins == 0, table[0][self.phone], _NEVER)
        score = np.where(self._begins == 1, SKIP + table[0][self.phone], score)
        before = np.full((len(units) - 1, self._nowhere + 1), _NEVER)
        arrived, skipped = np.empty_like(score), np.empty_like(score)
        for emitted, scores in zip(table[1:], before, strict=True):
            scores[:states] = score
            scores[states:-1] = self._junctions(score)
            scores.take(self._step, out=arrived, mode="clip")
            scores.take(self._skip, out=skipped, mode="clip")
            skipped += SKIP
            score += STAY
            np.maximum(score, arrived, out=score)
            np.maximum(score, skipped, out=score)
            score += emitted.take(self.phone, out=arrived, mode="clip")
        best = self._junctions(score)
        final = max(self._finals, key=lambda junction: best[junction])
        if best[final] < -1e8:
            return None
        gap = float(table.max(1).sum() - best[final]) / len(units)
        return Heard(self._trace(self._arrival(score, final), before), gap)

    def _junctions(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Best score that arrives at each junction; the start, which is the first one, is reached at no time."""
        values = score[self._end_state] + self._end_cost
        return np.concatenate([[_NEVER], np.maximum.reduceat(values, self._bounds[1:-1])])

    def _arrival(self, score: NDArray[np.float32], junction: int) -> int:
        """The state from which a junction is reached best."""
        low, high = self._bounds[junction], self._bounds[junction + 1]
        states = self._end_state[low:high]
        return int(states[(score[states] + self._end_cost[low:high]).argmax()])

    def _trace(self, state: int, before: NDArray[np.float32]) -> str:
        """Follow the best path back from its last state."""
        words = [self._word[state]]
        for scores in before[::-1]:
            step, skip = int(self._step[state]), int(self._skip[state])
            kind = int(np.argmax([scores[state] + STAY, scores[step], scores[skip] + SKIP]))
            if kind == 0:
                continue
            state = step if kind == 1 else skip
            if state >= len(self.phone):
                state = self._arrival(scores[: len(self.phone)], state - len(self.phone))
                words.append(self._word[state])
        return re.sub(r"\ban (?![aeiou])", "a ", " ".join(reversed(words)))


def confidence(gap: float, *, middle: float = 2.25, width: float = 0.25) -> float:
    """Turn a gap into a number from 0 to 1, one half at ``middle``."""
    return 1.0 / (1.0 + math.exp((gap - middle) / width))


def save_grammar(
    folder: Path, *, templates: Sequence[str], slots: Mapping[str, Sequence[str]], emissions: NDArray[np.floating]
) -> None:
    """Write what `Grammar.load` reads."""
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    text = {"templates": list(templates), "slots": {name: list(words) for name, words in slots.items()}}
    write_atomically(folder / "grammar.json", json.dumps(text) + "\n")
    write_atomically(folder / "emissions.safetensors", save({"emissions": np.ascontiguousarray(emissions, np.float16)}))
