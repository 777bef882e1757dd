"""EMOVA's styles from an export, without torch: the table, and the voice of a recording by an exported graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emova_sdk.components.base import Space
from emova_sdk.components.emova.speech.style_vectors import StyleVectors, Vectors
from emova_sdk.components.runtimes.export_folder import ExportFolder
from emova_sdk.errors import InputError, LoadError
from emova_sdk.types import Audio


class ExportedStyle(StyleVectors):
    """The styles of the component that was exported, and voices added from recordings.

    Args:
        exported: An export with the graph ``style_encoder``.

    Raises:
        LoadError: If the export lacks its table, or it is broken.
    """

    def __init__(self, exported: ExportFolder) -> None:
        exported.choose("style_encoder")
        self.exported = exported
        self._rate, self._shortest = exported.number("sample_rate"), exported.number("shortest")
        table = _table(exported.assets)
        super().__init__(list(table))
        self._table = table
        self.style = Space(exported.text("style"), len(next(iter(table.values()))))

    def load(self) -> None:
        """Open the graph. Safe to call again and from several threads."""
        self.exported.open("style_encoder")

    def close(self) -> None:
        """Free the graph; the table and added voices stay."""
        self.exported.close()

    def embed_recordings(self, clips: Sequence[Audio]) -> Vectors:
        """Return the style vector of each recording, of any rate: float32 (clips, ``style.size``), each of length 1.

        Raises:
            InputError: If a recording is shorter than one frame.
        """
        rows: list[Vectors] = []
        for clip in clips:
            samples = clip.resample(self._rate).samples
            if len(samples) < self._shortest:
                message = f"a recording of {clip.duration_s:.3f} s is too short to hear a style in it"
                raise InputError(message, "record a few seconds")
            rows.append(self.exported.run("style_encoder", audio=samples[None])["style"][0])
        return np.stack(rows) if rows else np.zeros((0, self.style.size), np.float32)


def _table(folder: Path) -> dict[str, Vectors]:
    """Vectors by name."""
    path = folder / "styles.json"
    try:
        names: list[Any] = json.loads(path.read_text("utf-8"))
        rows: Vectors = np.load(folder / "styles.npy", allow_pickle=False)
        if rows.ndim == 2 and rows.dtype == np.float32 and len(rows):
            return {str(name): row for name, row in zip(names, rows, strict=True)}
        reason = f"the table is {rows.dtype}{rows.shape}"
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = str(error)
    raise LoadError(f"`{folder}` holds no table of styles: {reason}", "export again", path=str(path))
