"""Text to speech units without a language model: the dictionary, then a small network, all at once."""

from __future__ import annotations

import numpy as np

from emova_sdk.components.base import Space
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.dictionary import PHONES, SILENCE, Lexicon
from emova_sdk.components.nano.features import length_regulate
from emova_sdk.components.nano.g2p import phones
from emova_sdk.components.nano.graph_files import NanoPart
from emova_sdk.components.nano.shapes import LONGEST_PHONE
from emova_sdk.components.nano.weights import read_config
from emova_sdk.types import SpeechUnits

_LONGEST = 400
"""Phones at a time; longer texts are said in parts, cut at pauses where there are any."""


class TextToUnits(NanoPart):
    """Any English text to the reduced units of nano's space. Safe to call from several threads.

    Args:
        exported: The graphs of an exported language model.
        path: Folder with `config.json`, graphs and weights; the shipped one when not given.
        providers: Execution providers of ONNX Runtime, best first.
        threads: Threads within an operator; 0 takes one.
    """

    place, needs = "text_to_units", ("reader_phones", "reader_units")

    def _configure(self) -> None:
        if self.exported is not None:
            self.folder /= self.place
        self._config = read_config(self.folder, kind="nano-text-to-units")
        self.units = Space(str(self._config["units"]["name"]), int(self._config["units"]["size"]))

    def load(self) -> None:
        """Open the graphs, and read the dictionary."""
        Lexicon.shipped()
        super().load()

    def __call__(self, text: str) -> SpeechUnits:
        """Units of a text; none for a text without words."""
        return self.of_phones(phones(text))

    def of_phones(self, phones: list[str]) -> SpeechUnits:
        """Units of ARPAbet-39 phones with `sil` for pauses."""
        classes = [0 if phone == SILENCE else PHONES.index(phone) + 1 for phone in phones]
        found: list[int] = []
        while classes:
            cut = _cut(classes)
            read = self.networks.run("reader_phones", phones=np.array(classes[:cut]))
            durations = np.clip(np.rint(np.exp(read["log_durations"])), 1, LONGEST_PHONE).astype(np.int64)
            spread = length_regulate(read["states"], durations)
            found += self.networks.run("reader_units", spread=spread)["units"].tolist()
            classes = classes[cut:]
        return SpeechUnits.of(found).reduced()

    def _graphs(self) -> list[Graph]:
        """``reader_phones``: phones to states and log durations; ``reader_units``: spread states to unit ids."""
        from emova_sdk.components.nano.graphs import reader_graphs

        width = int(self._config["network"]["width"])
        return reader_graphs(self.folder, phones=len(PHONES) + 1, width=width, metadata={"space": self.units.name})


def _cut(classes: list[int]) -> int:
    if len(classes) <= _LONGEST:
        return len(classes)
    pauses = [index for index, phone in enumerate(classes[:_LONGEST]) if phone == 0 and index > 0]
    return pauses[-1] + 1 if pauses else _LONGEST
