"""How far a voice is from those whose style nano can judge: Mahalanobis distance of an utterance's statistics.

A classifier is as sure of what lies outside its training data as of what lies inside (Hendrycks and Gimpel, ICLR 2017); how far
from that data its input lies tells the two apart (Lee et al., NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emova_sdk.errors import LoadError
from emova_sdk.files import write_atomically

Float = NDArray[np.float32]

FILE = "familiar.safetensors"
FARTHEST = 2.7
"""Distance up to which a voice is familiar: of nano's own clean utterances 95 % are within 2.2, people begin at 2.9."""
_SHRINK = 0.05
"""Share of each variance added to it: 73 statistics of few hundred utterances have directions that hardly vary."""


@dataclass(frozen=True)
class Familiar:
    """The voices that are known.

    Attributes:
        mean: Of each statistic, float32 (73,).
        whitening: Takes the covariance of the statistics to the identity, float32 (73, 73).
    """

    mean: Float
    whitening: Float

    @classmethod
    def of(cls, statistics: Sequence[Float]) -> Familiar:
        """Learn the voices of utterances from their statistics, see `perception_input`."""
        rows = np.stack(statistics).astype(np.float64)
        covariance = np.cov(rows.T)
        covariance += np.diag(_SHRINK * np.diag(covariance) + 1e-6)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return cls(rows.mean(0).astype(np.float32), whitening.astype(np.float32))

    def distance(self, statistics: Float) -> float:
        """Return how far an utterance is from these voices; about 1 within them."""
        return float(np.sqrt(np.mean(np.square(self.whitening @ (statistics - self.mean)))))

    def save(self, folder: Path) -> Path:
        """Write the file that `load` reads."""
        from safetensors.numpy import save

        return write_atomically(folder / FILE, save({"mean": self.mean, "whitening": self.whitening}))

    @classmethod
    def load(cls, folder: Path) -> Familiar | None:
        """Read the file; None where there is none: every voice is then judged.

        Raises:
            LoadError: If it is broken.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / FILE).exists():
            return None
        try:
            found = load_file(folder / FILE)
            return cls(found["mean"], found["whitening"])
        except (OSError, KeyError, SafetensorError) as error:
            raise LoadError(f"`{folder / FILE}` cannot be read: {error}", "train or install emova-nano again") from error
