"""Speech tokenizer of emova-nano: 16 kHz speech to phone-like units, 25 a second, repeats collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import CollectingStream, Space, SpeechTokenizer, Stream
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.dictionary import PHONES
from emova_sdk.components.nano.graph_files import NanoPart
from emova_sdk.components.nano.trials import tokenizer_trials
from emova_sdk.components.nano.voice_activity import speech_in
from emova_sdk.components.nano.weights import read_config
from emova_sdk.components.trials import Trial
from emova_sdk.errors import LoadError
from emova_sdk.types import Audio, SpeechUnits

CONFIDENT = 0.71
"""Confidence below which it is better to ask again than to answer."""

_WINDOW_S = 30.0
"""Longer sounds are heard in equal parts of at most this length."""


class NanoSpeechTokenizer(NanoPart, SpeechTokenizer):
    """Speech to discrete units with nano's small conformer and FSQ code book.

    An utterance is normalised as a whole, so that a stream collects it and works in `finish`.

    Args:
        exported: The graphs of an export.
        path: Folder with `config.json`, graphs and weights; the shipped one when not given.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    place, needs = "speech_tokenizer", ("hearing", "reading")

    def _configure(self) -> None:
        self._config = read_config(self.folder, kind="nano-speech-tokenizer")
        try:
            self.units = Space(str(self._config["units"]["name"]), int(self._config["units"]["size"]))
            self.sample_rate = int(self._config["sample_rate"])
            self.unit_rate = float(self._config["unit_rate"])
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"`{self.folder}/config.json` lacks {error}", "train or install emova-nano again") from error

    def encode(self, clips: Sequence[Audio]) -> list[SpeechUnits]:
        """Encode what is spoken in each clip; where nobody speaks, see `speech_in`, there are no units.

        Raises:
            InputError: If a clip has another rate than `sample_rate`.
        """
        found: list[SpeechUnits] = []
        for clip in clips:
            self.check_rate(clip)
            parts = [self.networks.run("hearing", audio=part)["units"] for part in self._parts(clip)]
            found.append(SpeechUnits(np.concatenate([np.zeros(0, np.int64), *parts])).reduced())
        return found

    def confidence(self, clips: Sequence[Audio]) -> list[float]:
        """How sure the phones of each clip are, 0 to 1: the mean probability of the likeliest phone where one is heard.

        Low for foreign speech and voices unlike those it learnt from; 0 where nobody speaks or no phone is heard. Of 80 test
        utterances all were above 0.72; see `CONFIDENT`.
        """
        found: list[float] = []
        for odds in map(self._phones, clips):
            top = odds.max(1)[odds.argmax(1) > 0]
            found.append(float(top.mean()) if len(top) else 0.0)
        return found

    def phones(self, clips: Sequence[Audio]) -> list[list[str]]:
        """The phones read from each clip's units (ARPAbet-39), greedily: what was understood, for people to see."""
        found: list[list[str]] = []
        for odds in map(self._phones, clips):
            best = odds.argmax(1).tolist()
            found.append([PHONES[p - 1] for i, p in enumerate(best) if p and (i == 0 or p != best[i - 1])])
        return found

    def _phones(self, clip: Audio) -> NDArray[np.float32]:
        """Probabilities of silence and the 39 phones, (units before repeats are collapsed, 40)."""
        self.check_rate(clip)
        heard = [self.networks.run("hearing", audio=part)["units"] for part in self._parts(clip)]
        odds = [self.networks.run("reading", units=units)["phones"] for units in heard if len(units)]
        return np.concatenate([np.zeros((0, len(PHONES) + 1), np.float32), *odds])

    def stream(self) -> Stream[Audio, SpeechUnits]:
        """Collect the sound; encode it in `finish`."""

        def work(clips: list[Audio]) -> list[SpeechUnits]:
            return self.encode([Audio.concat(clips, sample_rate=self.sample_rate)]) if clips else []

        return _CheckedStream(self, work)

    def _graphs(self) -> list[Graph]:
        """``hearing``: samples to units; ``reading``: units to probabilities of phones."""
        from emova_sdk.components.nano.graphs import tokenizer_graphs

        facts = {"space": self.units.name, "sample_rate": str(self.sample_rate), "unit_rate": str(self.unit_rate)}
        return tokenizer_graphs(self.folder, levels=self._config["network"]["levels"], metadata=facts)

    def trials(self) -> list[Trial]:
        """Units that are heard in recorded speech."""
        return tokenizer_trials()

    def _parts(self, clip: Audio) -> list[NDArray[np.float32]]:
        samples = speech_in(clip.samples)
        if not len(samples):
            return []
        return [part.copy() for part in np.array_split(samples, int(np.ceil(len(samples) / self.sample_rate / _WINDOW_S)))]


class _CheckedStream(CollectingStream[Audio, SpeechUnits]):
    """Collects, and refuses a wrong rate at once."""

    def __init__(self, owner: NanoSpeechTokenizer, work: Any) -> None:
        super().__init__(work)
        self._owner = owner

    def push(self, chunk: Audio) -> list[SpeechUnits]:
        self._owner.check_rate(chunk)
        return super().push(chunk)
