"""Sound from voice features: pulses through minimum-phase filters for the voice, filtered noise for the breath.

The source-filter model of WORLD (Morise et al., IEICE Trans. 2016), written so that it keeps its state between calls:
however the frames are cut, the samples are the same.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from emova_sdk.components.nano.prosody import Float

_FFT = 1024
_ROWS = 64
BINS = _FFT // 2 + 1
"""Frequencies of an envelope, from 0 to half the sample rate."""
_TURN = (2 * np.pi * np.arange(BINS) / _FFT).astype(np.float32)
"""Phase of each frequency after a sample."""
_CEILING = 0.75
"""Level above which samples are bent softly towards 1."""


def minimum_phase(log_amplitude: NDArray[np.floating], delay: Float | None = None) -> NDArray[np.complex64]:
    """Spectra (rows, 513) of the causal filters of these natural-log amplitudes (Oppenheim and Schafer).

    Args:
        log_amplitude: (rows, 513).
        delay: Samples by which each filter is late, float32 (rows, 1).
    """
    cepstrum = np.fft.irfft(log_amplitude, _FFT)
    cepstrum[:, 1 : _FFT // 2] *= 2
    cepstrum[:, _FFT // 2 + 1 :] = 0
    phase = np.fft.rfft(cepstrum, _FFT).imag
    if delay is not None:
        phase = phase - delay * _TURN
    # Three real functions: NumPy's complex exponential takes ten times as long.
    spectrum = np.empty(phase.shape, np.complex64)
    amplitude = np.exp(log_amplitude)
    np.multiply(amplitude, np.cos(phase), out=spectrum.real)
    np.multiply(amplitude, np.sin(phase), out=spectrum.imag)
    return spectrum


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
        self._tail = np.zeros(0, np.float32)
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
        sound = np.zeros((frames + 1) * self._hop + _FFT, np.float32)
        sound[: len(self._tail)] += self._tail
        self._add_noise(sound, f0, log_power, aperiodicity, skip=0 if fresh else 1)
        if frames > 1:
            self._add_pulses(sound, f0, log_power, aperiodicity)
        done = (frames - 1) * self._hop
        self._tail = sound[done:]
        return _soft(sound[:done])

    def finish(self) -> Float:
        """Return what rings on after the last frame, one hop long."""
        rest, self._tail = self._tail[: self._hop], np.zeros(0, np.float32)
        fade = np.linspace(1, 0, len(rest), dtype=np.float32)
        return _soft(rest * fade)

    def _add_noise(self, sound: Float, f0: Float, log_power: Float, noise: Float, *, skip: int) -> None:
        for rows in _blocks(skip, len(f0)):
            share = np.where(f0[rows, None] > 0, np.clip(noise[rows], 1e-3, 1), np.float32(1))
            filters = minimum_phase(log_power[rows] / 2 + np.log(share))
            grains = (self._noise.standard_normal((len(share), 2 * self._hop)) * self._window).astype(np.float32)
            # Longer than the transform wraps around: the filters ring for a fraction of it, so that this is inaudible.
            made = np.fft.irfft(np.fft.rfft(grains, _FFT) * filters, _FFT)
            # Frame 0 would start one hop before the sound: everything is one hop late instead.
            _add(sound, range(rows.start * self._hop, rows.stop * self._hop, self._hop), made)

    def _add_pulses(self, sound: Float, f0: Float, log_power: Float, noise: Float) -> None:
        all_places = self._pulses(f0)
        for rows in _blocks(0, len(all_places)):
            places = all_places[rows]
            frame = np.minimum((places / self._hop).astype(np.int64), len(f0) - 2)
            share = (places / self._hop - frame)[:, None].astype(np.float32)
            voiced = 1 - np.square(_between(noise, frame, share))
            starts = np.floor(places).astype(np.int64)
            delay = (places - starts)[:, None].astype(np.float32)
            amplitude = (_between(log_power, frame, share) + np.log(np.clip(voiced, 1e-6, 1))) / 2
            near = np.where(f0[frame] > 0, f0[frame], f0[frame + 1])
            grains = np.fft.irfft(minimum_phase(amplitude, delay), _FFT) * np.sqrt(np.float32(self._rate) / near)[:, None]
            _add(sound, (starts + self._hop).tolist(), grains)

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


def _blocks(start: int, stop: int) -> list[slice]:
    """A few rows at a time: what they take stays in the cache, and is not asked of the system anew."""
    return [slice(at, min(at + _ROWS, stop)) for at in range(start, stop, _ROWS)]


def _add(sound: Float, starts: Iterable[int], grains: NDArray[np.floating]) -> None:
    """Add each grain to the sound where it starts."""
    for start, grain in zip(starts, grains, strict=True):
        sound[start : start + _FFT] += grain


def _between(rows: Float, first: NDArray[np.int64], share: Float) -> Float:
    """Values on the way from a row to the next one."""
    before, after = rows[first], rows[first + 1]
    return (before + share * (after - before)).astype(np.float32, copy=False)


def _soft(samples: Float) -> Float:
    """Leave samples up to the ceiling as they are and bend what is above it below 1."""
    size = np.abs(samples)
    room = 1 - _CEILING
    bent = np.sign(samples) * (_CEILING + room * np.tanh((size - _CEILING) / room))
    return np.where(size > _CEILING, bent, samples).astype(np.float32)
