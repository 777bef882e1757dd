"""Sound from voice features: pulses through minimum-phase filters for the voice, filtered noise for the breath.

The source-filter model of WORLD (Morise et al., IEICE Trans. 2016), written so that it keeps its state between calls:
however the frames are cut, the samples are the same.
"""

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.prosody import Float

_FFT = 1024
BINS = _FFT // 2 + 1
"""Frequencies of an envelope, from 0 to half the sample rate."""
_CEILING = 0.75
"""Level above which samples are bent softly towards 1."""


def minimum_phase(log_amplitude: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Spectra (rows, 513) of the causal filters of these natural-log amplitudes (Oppenheim and Schafer)."""
    cepstrum = np.fft.irfft(log_amplitude, _FFT)
    cepstrum[:, 1 : _FFT // 2] *= 2
    cepstrum[:, _FFT // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, _FFT))


class Synthesizer:
    """Frames every 10 ms to samples, with state.

    Args:
        sample_rate: Hz.
        seed: Of the noise.
    """

    def __init__(self, *, sample_rate: int = 16000, seed: int = 0) -> None:
        self._rate = sample_rate
        self._hop = sample_rate // 100
        self._noise = np.random.default_rng(seed)
        self._last: tuple[Float, Float, Float] | None = None
        self._phase = 0.0
        self._tail = np.zeros(0)
        window = np.sin(np.pi * (np.arange(2 * self._hop) + 0.5) / (2 * self._hop))
        self._window = window

    def push(self, f0: Float, log_power: Float, aperiodicity: Float) -> Float:
        """Take the next frames; return the samples they complete.

        Args:
            f0: Hz, 0 where unvoiced, (frames,).
            log_power: Natural log of the power envelope, (frames, 513).
            aperiodicity: 0 to 1, (frames, 513).

        Returns:
            float32 samples, one hop for each frame (one hop fewer for the first call, more with `finish`).
        """
        if not len(f0):
            return np.zeros(0, np.float32)
        fresh = self._last is None
        if self._last is not None:
            before = self._last
            f0, log_power, aperiodicity = (
                np.concatenate([old[None], new]) for old, new in zip(before, (f0, log_power, aperiodicity), strict=True)
            )
        self._last = (f0[-1], log_power[-1], aperiodicity[-1])
        frames = len(f0)
        sound = np.zeros((frames - 1) * self._hop + _FFT + 2 * self._hop)
        sound[: len(self._tail)] += self._tail
        self._add_noise(sound, f0, log_power, aperiodicity, skip=0 if fresh else 1)
        if frames > 1:
            self._add_pulses(sound, f0, log_power, aperiodicity)
        done = (frames - 1) * self._hop
        self._tail = sound[done:]
        return _soft(sound[:done])

    def finish(self) -> Float:
        """Return what rings on after the last frame, one hop long."""
        rest, self._tail = self._tail[: self._hop], np.zeros(0)
        fade = np.linspace(1, 0, len(rest))
        return _soft(rest * fade)

    def _add_noise(self, sound: NDArray[np.float64], f0: Float, log_power: Float, noise: Float, *, skip: int) -> None:
        share = np.where(f0[skip:, None] > 0, np.clip(noise[skip:], 1e-3, 1), 1.0).astype(np.float64)
        if not len(share):
            return
        filters = minimum_phase(log_power[skip:] / 2 + np.log(share))
        grains = np.zeros((len(share), _FFT))
        grains[:, : 2 * self._hop] = self._noise.standard_normal((len(share), 2 * self._hop)) * self._window
        # Longer than the transform wraps around: the filters ring for a fraction of it, so that this is inaudible.
        made = np.fft.irfft(np.fft.rfft(grains, _FFT) * filters, _FFT)
        for row, start in enumerate(range(skip, len(f0))):
            # Frame 0 would start one hop before the sound: everything is one hop late instead.
            sound[start * self._hop : start * self._hop + _FFT] += made[row]

    def _add_pulses(self, sound: NDArray[np.float64], f0: Float, log_power: Float, noise: Float) -> None:
        places = self._pulses(f0)
        if not len(places):
            return
        frame = np.minimum((places / self._hop).astype(np.int64), len(f0) - 2)
        share = (places / self._hop - frame)[:, None]
        power = log_power[frame] * (1 - share) + log_power[frame + 1] * share
        voiced = 1 - np.square(noise[frame] * (1 - share) + noise[frame + 1] * share)
        near = np.where(f0[frame] > 0, f0[frame], f0[frame + 1])
        spectrum = minimum_phase(power / 2 + 0.5 * np.log(np.clip(voiced, 1e-6, 1)))
        starts = np.floor(places).astype(np.int64)
        turn = -2 * np.pi * np.arange(BINS) / _FFT
        shifted = spectrum * np.exp(1j * turn * (places - starts)[:, None])
        grains = np.fft.irfft(shifted, _FFT) * np.sqrt(self._rate / near)[:, None]
        for start, grain in zip(starts + self._hop, grains, strict=True):
            sound[start : start + _FFT] += grain

    def _pulses(self, f0: Float) -> NDArray[np.float64]:
        """Times (samples after the first frame) at which the running phase completes a period."""
        here, after = f0[:-1].astype(np.float64), f0[1:].astype(np.float64)
        # Between a voiced and an unvoiced frame the voiced pitch holds for the voiced half.
        grid = (np.arange(self._hop) + 1.0) / self._hop
        both = (here > 0) & (after > 0)
        line = here[:, None] * (1 - grid) + after[:, None] * grid
        half = np.where(grid[None] <= 0.5, here[:, None], after[:, None])
        hertz = np.where(both[:, None], line, half).reshape(-1)
        phase = self._phase + np.cumsum(hertz / self._rate)
        turns = np.floor(phase)
        crossed = np.flatnonzero(np.diff(turns, prepend=np.floor(self._phase)) > 0)
        self._phase = float(phase[-1] % 1.0)
        over = (phase[crossed] - turns[crossed]) / (np.maximum(hertz[crossed], 1.0) / self._rate)
        return crossed + 1.0 - np.clip(over, 0, 1)


def _soft(samples: NDArray[np.float64]) -> Float:
    """Leave samples up to the ceiling as they are and bend what is above it below 1."""
    size = np.abs(samples)
    room = 1 - _CEILING
    bent = np.sign(samples) * (_CEILING + room * np.tanh((size - _CEILING) / room))
    return np.where(size > _CEILING, bent, samples).astype(np.float32)
