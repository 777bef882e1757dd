"""The config of nano's language model, and what holds for all of them; torch is not needed to read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.language import Language
from emova_sdk.errors import LoadError

FEATURES = 128
"""Dimensions of a vision feature."""
LONGEST = 1024
"""Most tokens of a sequence."""


class Decoder(Protocol):
    """The language model's layers, for one conversation at a time, whatever computes them. Safe to share between threads."""

    def embed(self, ids: Sequence[int], features: NDArray[np.float32] | None) -> Any:
        """Embed token ids; rows of ``features`` (rows, 128) take the places of the ``<image>`` tokens in order."""
        ...

    def new_cache(self) -> Any:
        """What a conversation that has read nothing remembers."""
        ...

    def run(self, embeds: Any, cache: Any) -> NDArray[np.float32]:
        """Read on, and return the logits (vocabulary,) of what comes next; the cache remembers what was read."""
        ...


def read_config(folder: Path) -> tuple[Language, dict[str, int], dict[str, Any]]:
    """Read tokens, sizes and other facts.

    Raises:
        LoadError: If the file is missing or broken.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        language = Language(tuple(config.pop("words")), int(config.pop("units")))
        return language, dict(config.pop("sizes")), config
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"`{path}` is not the config of a nano language model: {error}", "train or install it again") from error
