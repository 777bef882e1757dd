"""Augment speech data by recombining words cut from aligned recordings.

A tokenizer's units are close to phones, so which units belong to which phone can be found without any other labels: a
hidden Markov model whose states are the phones of the sentence and whose emissions count units (Viterbi training, as in
Juang and Rabiner 1990). Words are then cut at phone boundaries and joined so that neighbours fit.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.g2p import phones as phones_of
from emova_sdk.components.nano.grammar import save_grammar
from emova_sdk.files import write_atomically
from nano_recipe import dialogue
from nano_recipe.dialogue_data import random_mood, random_question
from nano_recipe.examples import Utterance
from nano_recipe.scenes import random_scene

ROUNDS = 3
LEARN_FROM = 1500
"""Clips that emissions are learnt from."""


@dataclass(frozen=True)
class Cut:
    """A word as it was said once: its units, and the phones before and after it."""

    units: tuple[int, ...]
    before: str
    after: str


def align(units: Sequence[int], states: Sequence[int], scores: NDArray[np.float64]) -> list[int]:
    """Best monotonic path: the index into ``states`` for each unit; states may be left out, one at a time.

    Args:
        units: Ids.
        states: Phone numbers.
        scores: Log-probability of each unit for each phone, float64 (phones, units).
    """
    time, count = len(units), len(states)
    emit = scores[np.asarray(states)][:, np.asarray(units)]
    best = np.full((time, count), -np.inf)
    back = np.zeros((time, count), np.int64)
    best[0, : min(2, count)] = emit[: min(2, count), 0]
    for t in range(1, time):
        previous = best[t - 1]
        options = np.full((3, count), -np.inf)
        options[0] = previous - 1.0
        options[1, 1:] = previous[:-1]
        options[2, 2:] = previous[:-2] - 3.0
        back[t] = options.argmax(0)
        best[t] = options.max(0) + emit[:, t]
    place = count - 1 if count < 2 or best[-1, -1] >= best[-1, -2] - 3.0 else count - 2
    path = [place]
    for t in range(time - 1, 0, -1):
        place -= int(back[t, place])
        path.append(place)
    return path[::-1]


def learn_emissions(
    clips: Sequence[tuple[Sequence[int], Sequence[int]]], *, phones: int, units: int, rounds: int = ROUNDS
) -> NDArray[np.float64]:
    """Log-probability of each unit for each phone, float64 (phones, units), from clips of units and phone numbers."""
    scores = np.zeros((phones, units))
    for number in range(rounds + 1):
        counts = np.full((phones, units), 0.05)
        for said, states in clips:
            if not said or not states:
                continue
            if number:
                path = align(said, states, scores)
            else:  # begin with equal shares
                path = [min(len(states) - 1, t * len(states) // len(said)) for t in range(len(said))]
            np.add.at(counts, (np.asarray(states)[path], np.asarray(said)), 1.0)
        scores = np.log(counts / counts.sum(1, keepdims=True))
    return scores


class Splicer:
    """Makes unit sequences of sentences from words of one voice's utterances; words it never said come from the others.

    Args:
        clips: Text, units and voice of utterances.
        units: Number of unit ids.
    """

    def __init__(self, clips: Sequence[tuple[str, Sequence[int], str]], *, units: int) -> None:
        from emova_sdk.components.nano.dictionary import PHONES, SILENCE

        names = (SILENCE, *PHONES)
        self._number = {phone: place for place, phone in enumerate(names)}
        prepared = [(text.split(), tuple(said), voice) for text, said, voice in clips if len(said) > 1 and text.strip()]
        states = [self._states(words) for words, _, _ in prepared]
        pairs = [(said, [self._number[p] for p, _ in some]) for (_, said, _), some in zip(prepared, states, strict=True)]
        self.emissions = learn_emissions(pairs[:LEARN_FROM], phones=len(names), units=units)
        self.cuts: dict[str, dict[str, list[Cut]]] = defaultdict(lambda: defaultdict(list))
        self.voices = sorted({voice for _, _, voice in prepared})
        for (words, said, voice), some, (_, numbers) in zip(prepared, states, pairs, strict=True):
            self._cut(words, said, voice, some, align(said, numbers, self.emissions))

    def _states(self, words: Sequence[str]) -> list[tuple[str, int]]:
        """Phones with the word each belongs to; silence at both ends belongs to the outer words."""
        inner = [(phone, place) for place, word in enumerate(words) for phone in phones_of(word) if phone != "sil"]
        return [("sil", 0), *inner, ("sil", len(words) - 1)]

    def _cut(
        self, words: Sequence[str], said: Sequence[int], voice: str, states: list[tuple[str, int]], path: list[int]
    ) -> None:
        owners = [states[place][1] for place in path]
        for place, word in enumerate(words):
            units = tuple(unit for unit, owner in zip(said, owners, strict=True) if owner == place)
            if not units:
                continue
            inside = [number for number, (_, owner) in enumerate(states) if owner == place]
            before = states[inside[0] - 1][0] if inside[0] else "sil"
            after = states[inside[-1] + 1][0] if inside[-1] + 1 < len(states) else "sil"
            at_start, at_end = place == 0, place == len(words) - 1
            cut = Cut(units, "^" if at_start else before, "$" if at_end else after)
            self.cuts[voice][word].append(cut)
            self.cuts[""][word].append(cut)

    def say(self, text: str, voice: str, rng: np.random.Generator) -> tuple[int, ...] | None:
        """Put a sentence together in one voice; None when nobody ever said one of its words."""
        words = text.split()
        known, anyone = self.cuts[voice], self.cuts[""]
        if not words or any(word not in anyone for word in words):
            return None
        ends = [[phone for phone in phones_of(word) if phone != "sil"] or ["sil"] for word in words]
        said: list[int] = []
        for place, word in enumerate(words):
            before = "^" if place == 0 else ends[place - 1][-1]
            after = "$" if place == len(words) - 1 else ends[place + 1][0]
            options = known[word] if word in known else anyone[word]
            fits = np.array([(cut.before == before) + (cut.after == after) for cut in options])
            best = np.flatnonzero(fits == fits.max())
            said += options[int(rng.choice(best))].units
        return tuple(unit for place, unit in enumerate(said) if place == 0 or said[place - 1] != unit)

    def disturbed(self, said: Sequence[int], rng: np.random.Generator, *, share: float = 0.08) -> tuple[int, ...]:
        """Replace a share of the units by others that stand for the same phone: what another voice would make of it."""
        chance = np.exp(self.emissions)
        found: list[int] = []
        for unit in said:
            if rng.random() < share:
                phone = int(rng.choice(len(chance), p=chance[:, unit] / chance[:, unit].sum()))
                unit = int(rng.choice(chance.shape[1], p=chance[phone]))  # noqa: PLW2901 - a unit that means the same
            if not found or found[-1] != unit:
                found.append(unit)
        return tuple(found)


def spliced(splicer: Splicer, *, count: int, seed: int = 0) -> list[Utterance]:
    """Make spoken questions of the training split.

    Args:
        splicer: Made of the utterances to cut up.
        count: How many to try; templates take turns, so that no intent prevails. A few hold words nobody said.
        seed: Of every choice.
    """
    rng = np.random.default_rng(seed)
    intents = sorted(dialogue.QUESTIONS)
    found: list[Utterance] = []
    for place in range(count):
        question = random_question(rng, "train", intents[place % len(intents)], random_scene(rng))
        voice = splicer.voices[int(rng.integers(len(splicer.voices)))]
        said = splicer.say(question.text, voice, rng)
        if said is not None:
            emotion, pitch = random_mood(rng, question)
            found.append(Utterance(question.text, splicer.disturbed(said, rng), emotion, pitch, voice, speakable=False))
    return found


def add_spliced(clips: Sequence[Utterance], splicer: Splicer, path: Path, *, count: int, seed: int = 0) -> Path:
    """Write utterances and spliced ones to a JSON-lines file, unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(said)) for said in (*clips, *spliced(splicer, count=count, seed=seed))]
        write_atomically(path, "\n".join(lines) + "\n")
    return path


def write_grammar(folder: Path, emissions: NDArray[np.float64]) -> None:
    """Write the grammar of questions beside a language model, with the emissions a `Splicer` has learnt."""
    templates = [template for options in dialogue.QUESTIONS.values() for template in options]
    used = {name.rstrip("23") for template in templates for name in dialogue.slot_names(template)}
    slots = {name: values for name, values in dialogue.SLOTS.items() if name in used}
    save_grammar(folder, templates=templates, slots=slots, emissions=emissions)
