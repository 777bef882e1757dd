"""Style and speaker changes on recorded speech, through the WORLD analysis and synthesis (training only).

WORLD: Morise et al., IEICE Trans. 2016; the `pyworld` package (MIT). Nothing of it is needed at run time.
"""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.prosody import FRAME_RATE, Float, Prosody, shape_pitch, shape_spectrum, warp_frequency
from emova_sdk.errors import MissingDependencyError

SAMPLE_RATE = 16000
FFT_SIZE = 1024
"""513 bins."""


@dataclass(frozen=True)
class Analysis:
    """A voice frame by frame, every 10 ms.

    Attributes:
        f0: Hz, 0 where unvoiced, float32 of shape (frames,).
        log_power: Natural log of the power envelope, float32 of shape (frames, 513).
        aperiodicity: 0 to 1, float32 of shape (frames, 513).
    """

    f0: Float
    log_power: Float
    aperiodicity: Float

    @property
    def median(self) -> float:
        """Median pitch of the voiced frames, Hz."""
        voiced = self.f0[self.f0 > 0]
        return float(np.median(voiced)) if len(voiced) else 150.0


def _world() -> Any:
    try:
        with warnings.catch_warnings():  # it still asks setuptools for its version
            warnings.simplefilter("ignore")
            return import_module("pyworld")
    except ImportError as error:
        raise MissingDependencyError(
            "training data needs `pyworld`", "install emova-sdk[speech-data]", package="pyworld"
        ) from error


def analyse(samples: NDArray[np.float32]) -> Analysis:
    """Describe speech at 16 kHz, float32 of shape (samples,), frame by frame."""
    world = _world()
    wave = samples.astype(np.float64)
    coarse, times = world.dio(wave, SAMPLE_RATE, f0_floor=60, f0_ceil=420, frame_period=1000 / FRAME_RATE)
    f0 = world.stonemask(wave, coarse, times, SAMPLE_RATE)
    envelope = world.cheaptrick(wave, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    aperiodicity = world.d4c(wave, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    return Analysis(f0.astype(np.float32), np.log(envelope + 1e-12).astype(np.float32), aperiodicity.astype(np.float32))


def synthesise(analysis: Analysis) -> NDArray[np.float32]:
    """The sound of a description, float32 at 16 kHz."""
    wave = _world().synthesize(
        analysis.f0.astype(np.float64),
        np.exp(analysis.log_power.astype(np.float64)),
        analysis.aperiodicity.astype(np.float64),
        SAMPLE_RATE,
        1000 / FRAME_RATE,
    )
    return wave.astype(np.float32)


def other_speaker(analysis: Analysis, *, formant: float, pitch: float) -> Analysis:
    """Another vocal tract length and pitch: both factors."""
    return Analysis(
        analysis.f0 * np.float32(pitch),
        warp_frequency(analysis.log_power, formant),
        warp_frequency(analysis.aperiodicity, formant),
    )


def styled(analysis: Analysis, prosody: Prosody, *, seed: int = 0) -> Analysis:
    """Speak in a manner: rate, pitch and spectrum."""
    analysis = _at_rate(analysis, prosody.rate)
    f0 = shape_pitch(analysis.f0, prosody, median=analysis.median, seed=seed)
    power, aperiodicity = shape_spectrum(analysis.log_power, analysis.aperiodicity, prosody, sample_rate=SAMPLE_RATE, seed=seed)
    return Analysis(f0, power, aperiodicity)


def _at_rate(analysis: Analysis, rate: float) -> Analysis:
    frames = len(analysis.f0)
    source = np.minimum(np.arange(max(1, round(frames / rate))) * rate, frames - 1).astype(np.float32)
    low = np.floor(source).astype(np.int64)
    high = np.minimum(low + 1, frames - 1)
    share = (source - low)[:, None]
    # Pitch is taken from the nearest frame: a mean with an unvoiced frame (0 Hz) would be wrong.
    return Analysis(
        analysis.f0[np.rint(source).astype(np.int64)],
        (analysis.log_power[low] * (1 - share) + analysis.log_power[high] * share).astype(np.float32),
        (analysis.aperiodicity[low] * (1 - share) + analysis.aperiodicity[high] * share).astype(np.float32),
    )
