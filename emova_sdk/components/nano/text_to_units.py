"""Text to speech units without a language model: the lexicon, then a small network, all at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from emova_sdk.components.base import Space
from emova_sdk.components.nano.lexicon import PHONES, SILENCE, Lexicon
from emova_sdk.components.nano.weights import PRESET, load_weights, read_config
from emova_sdk.errors import LoadError
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
        self._network: NanoTextToUnits | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Bring the weights into memory."""
        from emova_sdk.models.nano_text_to_units import NanoTextToUnits

        with self._lock:
            if self._network is None:
                network = NanoTextToUnits(units=self.units.size, width=int(self._config["network"]["width"]))
                load_weights(network, self._folder)
                self._network = network

    def close(self) -> None:
        """Free the weights."""
        with self._lock:
            self._network = None

    def __call__(self, text: str) -> SpeechUnits:
        """Units of a text; none for a text without words."""
        return self.of_phones(Lexicon.shipped().phones(text))

    def of_phones(self, phones: list[str]) -> SpeechUnits:
        """Units of ARPAbet-39 phones with `sil` for pauses."""
        import torch

        self.load()
        network = self._network
        if network is None:
            raise LoadError("text-to-units was closed while it was used", "keep it open until the call returns")
        classes = [0 if phone == SILENCE else PHONES.index(phone) + 1 for phone in phones]
        found: list[int] = []
        while classes:
            cut = _cut(classes)
            with torch.inference_mode():
                found += network(torch.tensor([classes[:cut]]))[0].tolist()
            classes = classes[cut:]
        return SpeechUnits.of(found).reduced()


def _cut(classes: list[int]) -> int:
    if len(classes) <= _LONGEST:
        return len(classes)
    pauses = [index for index, phone in enumerate(classes[:_LONGEST]) if phone == 0 and index > 0]
    return pauses[-1] + 1 if pauses else _LONGEST
