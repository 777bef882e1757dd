"""Style vectors by name: EMOVA's table of styles and voices that are added to it; nothing here needs torch."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.base import StyleModule
from emova_sdk.components.emova.trials import style_trials
from emova_sdk.components.trials import Trial
from emova_sdk.errors import InputError
from emova_sdk.types import Audio, Style

Vectors = NDArray[np.float32]


class StyleVectors(StyleModule):
    """Styles that are rows of a table, and voices of recordings beside them. A subclass says ``style``.

    Args:
        names: Of the rows, as `Style.condition` writes them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._table: dict[str, Vectors] | None = None
        self._voices: dict[str, Vectors] = {}
        self._lock = threading.Lock()
        self.choices = self._choices()

    def trials(self) -> list[Trial]:
        """Vectors of recordings."""
        return style_trials()

    @abstractmethod
    def embed_recordings(self, clips: Sequence[Audio]) -> Vectors:
        """Return the style vector of each recording, of any rate: float32 (clips, ``style.size``), each of length 1."""

    def embed(self, styles: Sequence[Style]) -> Vectors:
        """Return one vector for each style, float32 (styles, ``style.size``).

        Raises:
            InputError: If there is no such style.
        """
        self.load()
        rows = [self._vector(style) for style in styles]
        return np.stack(rows) if rows else np.zeros((0, self.style.size), np.float32)

    def add_voice(self, name: str, recording: Audio, *, like: Style | None = None) -> None:
        """Make the voice of a recording a speaker that styles can name.

        One recording is one manner of speaking: without `like` it stands for every emotion, pitch and speed of the new
        speaker; with it, for that emotion, pitch and speed alone. Call again to add more manners.

        Raises:
            InputError: If the name is a released speaker's or no name of a speaker, or the recording is too short.
        """
        key = Style(name).condition if like is None else Style(name, like.emotion, like.pitch, like.speed).condition
        if any(Style.from_condition(known).speaker == name for known in self._names):
            raise InputError(f"`{name}` is a speaker of the model already", "choose another name")
        vector = self.embed_recordings([recording])[0]
        with self._lock:
            self._voices[name if like is None else key] = vector
            self.choices = self._choices()

    def _vector(self, style: Style) -> Vectors:
        table = self._table or {}
        for key in (style.condition, style.speaker):
            for vectors in (table, self._voices):
                if key in vectors:
                    return vectors[key]
        offered = "; ".join(f"{axis}: {', '.join(values)}" for axis, values in self.choices.items())
        raise InputError(f"there is no style `{style.condition}`", f"choose from {offered}")

    def _choices(self) -> Mapping[str, tuple[str, ...]]:
        """Values of each axis, as the released names and the added voices have them."""
        known = [Style.from_condition(name) for name in self._names]
        added = [Style.from_condition(name) if "_" in name else Style(name) for name in self._voices]
        axes = ("speaker", "emotion", "pitch", "speed")
        return {axis: tuple(dict.fromkeys(getattr(style, axis) for style in known + added)) for axis in axes}
