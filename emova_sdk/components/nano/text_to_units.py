"""Text to speech units without a language model: the lexicon, then a small network, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emova_sdk.components.base import Space
from emova_sdk.components.graph import Graph
from emova_sdk.components.nano.features import expand
from emova_sdk.components.nano.lexicon import PHONES, SILENCE, Lexicon
from emova_sdk.components.nano.networks import Networks, Run, in_torch
from emova_sdk.components.nano.weights import PRESET, load_weights, read_config
from emova_sdk.models.nano_shapes import LONGEST_PHONE
from emova_sdk.types import SpeechUnits

if TYPE_CHECKING:
    from emova_sdk.models.nano_text_to_units import NanoTextToUnits

_LONGEST = 400
"""Phones at a time; longer texts are said in parts, cut at pauses where there are any."""


class TextToUnits:
    """Any English text to the reduced units of nano's space. Safe to call from several threads.

    Args:
        path: Folder with `config.json` and `model.safetensors`; the shipped one when not given.
    """

    def __init__(self, *, path: str | None = None) -> None:
        self._folder = Path(path) if path else PRESET / "text_to_units"
        self._config = read_config(self._folder, kind="nano-text-to-units")
        self.units = Space(str(self._config["units"]["name"]), int(self._config["units"]["size"]))
        self._networks = Networks(self._open, what="text-to-units")

    def load(self) -> None:
        """Bring the weights and the dictionary into memory."""
        Lexicon.shipped()
        self._networks.load()

    def close(self) -> None:
        """Free the weights."""
        self._networks.close()

    def __call__(self, text: str) -> SpeechUnits:
        """Units of a text; none for a text without words."""
        return self.of_phones(Lexicon.shipped().phones(text))

    def of_phones(self, phones: list[str]) -> SpeechUnits:
        """Units of ARPAbet-39 phones with `sil` for pauses."""
        classes = [0 if phone == SILENCE else PHONES.index(phone) + 1 for phone in phones]
        found: list[int] = []
        while classes:
            cut = _cut(classes)
            states, log_durations = self._networks("reader_phones", np.array(classes[:cut]))
            durations = np.clip(np.rint(np.exp(log_durations)), 1, LONGEST_PHONE).astype(np.int64)
            found += self._networks("reader_units", expand(states, durations))[0].tolist()
            classes = classes[cut:]
        return SpeechUnits.of(found).reduced()

    def graphs(self) -> list[Graph]:
        """``reader_phones``: phones to states and log durations; ``reader_units``: spread states to unit ids."""
        from emova_sdk.components.nano.graphs import reader_graphs

        return reader_graphs(self.network(), metadata={"space": self.units.name})

    def assets(self) -> Mapping[str, Path]:
        """The config."""
        return {"config.json": self._folder / "config.json"}

    def network(self) -> NanoTextToUnits:
        """The network in PyTorch, read from its files.

        Raises:
            LoadError: If a file is missing or broken.
        """
        from emova_sdk.models.nano_text_to_units import NanoTextToUnits

        network = NanoTextToUnits(units=self.units.size, width=int(self._config["network"]["width"]))
        load_weights(network, self._folder)
        return network

    def _open(self) -> Mapping[str, Run]:
        return in_torch(self.graphs())


def _cut(classes: list[int]) -> int:
    if len(classes) <= _LONGEST:
        return len(classes)
    pauses = [index for index, phone in enumerate(classes[:_LONGEST]) if phone == 0 and index > 0]
    return pauses[-1] + 1 if pauses else _LONGEST
