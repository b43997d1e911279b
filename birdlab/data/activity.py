"""When something sings in a recording: what stands out of its own background, band by band.

A recording says which species it holds and not when. What is found here is loud against the
steady noise of the same recording; faint song, and song that never pauses, is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ACTIVITY_SEMANTICS = 1
"""Raised when the same samples start to give other stretches."""

FRAME_S = 0.016
LOWEST_HZ = 400.0
STAND_OUT_DB = 6.0
STAND_OUT_SD = 4.0
BELOW_LOUDEST_DB = 20.0
BRIDGED_S = 0.25
SHORTEST_S = 0.1

_SMOOTHED = 5
_BLOCK_FRAMES = 2048

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Activity:
    """What stands out of the background of a piece of audio.

    stretches: [K, 2] seconds from its start, in order, none overlaps; powers: [frames, bands];
    active: [frames]; floor: [bands] the power of the background; frame_s: from one frame to the
    next.
    """

    stretches: Float64
    powers: Float64
    active: Bool
    floor: Float64
    frame_s: float

    def song_between(self, start_s: float, end_s: float) -> Float64:
        """The mean power above the floor over the active frames of a part, [bands].

        Zeros where none of them is active.
        """
        part = slice(round(start_s / self.frame_s), max(1, round(end_s / self.frame_s)))
        heard = self.powers[part][self.active[part]]
        if not len(heard):
            return np.zeros(self.powers.shape[1])
        return np.asarray(np.maximum(heard - self.floor, 0).mean(axis=0))


def band_powers(wave: Float32, sample_rate_hz: int) -> Float64:
    """The mean power of a wave in frames and third octaves, [frames, bands].

    `wave` [n] float32. A frame is twice FRAME_S long and begins every FRAME_S; a wave shorter than
    that is one frame, filled up with zeros. Bands go from LOWEST_HZ to just below half the rate.
    """
    hop = _frame_samples(sample_rate_hz)
    size, weights = 2 * hop, _bands(2 * hop, sample_rate_hz)
    if len(wave) < size:
        wave = np.concatenate([wave, np.zeros(size - len(wave), np.float32)])
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]
    window = np.hanning(size).astype(np.float32)
    out = np.empty((len(frames), weights.shape[1]))
    for start in range(0, len(frames), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK_FRAMES] * window, axis=1)
        power = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
        out[start : start + _BLOCK_FRAMES] = power @ weights
    return out


def find_active(wave: Float32, sample_rate_hz: int) -> Activity:
    """When something stands out in a piece of audio: [n] float32 at any level.

    The level of each band over 80 ms is compared with its background, a normal distribution in
    decibels read off the quieter quarter of the frames. A frame is active where some band is
    STAND_OUT_SD standard deviations and STAND_OUT_DB above that, and what stands out is at most
    BELOW_LOUDEST_DB below the loudest. Pauses up to BRIDGED_S are bridged, stretches under
    SHORTEST_S are left out. Silence has none. Source: after Sprengel et al. (2016), LifeCLEF, who
    compare each pixel of a spectrogram with the medians of its row and column.
    """
    powers = band_powers(wave, sample_rate_hz)
    smooth = _smooth(powers)
    level = 10 * np.log10(np.maximum(smooth, np.finfo(np.float64).tiny))
    low, quarter = np.percentile(level, (5, 25), axis=0)
    sd = (quarter - low) / 0.9704  # of a normal distribution: its 25th less its 5th percentile
    middle = quarter + 0.6745 * sd
    above = level > middle + np.maximum(STAND_OUT_DB, STAND_OUT_SD * sd)
    floor = 10 ** (middle / 10)
    extra = (np.maximum(smooth - floor, 0) * above).sum(axis=1)
    loudest = np.percentile(extra[extra > 0], 95) if (extra > 0).any() else 0.0
    heard = (extra > 0) & (extra >= loudest * 10 ** (-BELOW_LOUDEST_DB / 10))
    frame_s = _frame_samples(sample_rate_hz) / sample_rate_hz
    active = _tidy(heard, frame_s)
    stretches = _stretches(active, frame_s, len(wave) / sample_rate_hz)
    return Activity(stretches, powers, active, floor, frame_s)


def _frame_samples(sample_rate_hz: int) -> int:
    return max(1, round(FRAME_S * sample_rate_hz))


def _bands(size: int, sample_rate_hz: int) -> Float64:
    """What each bin of a Fourier transform gives to each third octave, [bins, bands]."""
    hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    n = max(1, int(3 * np.log2(0.49 * sample_rate_hz / LOWEST_HZ)))
    edges = LOWEST_HZ * 2 ** (np.arange(n + 1) / 3)
    inside = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    return np.asarray(inside[:, inside.any(axis=0)], np.float64)


def _smooth(powers: Float64) -> Float64:
    """The running mean over _SMOOTHED frames; at the ends over those that are there."""
    summed = np.cumsum(np.concatenate([np.zeros((1, powers.shape[1])), powers]), axis=0)
    n, half = len(powers), _SMOOTHED // 2
    first = np.maximum(np.arange(n) - half, 0)
    last = np.minimum(np.arange(n) + half + 1, n)
    return np.asarray((summed[last] - summed[first]) / (last - first)[:, None])


def _runs(marks: Bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each run of true values begins, and where it has ended."""
    edges = np.flatnonzero(np.diff(marks.astype(np.int8), prepend=0, append=0))
    return edges[::2], edges[1::2]


def _tidy(heard: Bool, frame_s: float) -> Bool:
    """The frames with short pauses filled and short runs left out."""
    out = heard.copy()
    starts, ends = _runs(heard)
    for end, start in zip(ends[:-1], starts[1:], strict=True):
        if (start - end) * frame_s <= BRIDGED_S:
            out[end:start] = True
    for start, end in zip(*_runs(out), strict=True):
        if (end - start) * frame_s < SHORTEST_S:
            out[start:end] = False
    return out


def _stretches(active: Bool, frame_s: float, duration_s: float) -> Float64:
    starts, ends = _runs(active)
    spans = (np.stack([starts, ends], axis=1) + 0.5) * frame_s  # frames are two steps long
    return np.asarray(np.clip(spans, 0, duration_s))
