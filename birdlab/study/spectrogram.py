"""A plain spectrogram to look at: no front-end of any run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform
from birdlab.study.sounds import decode_short

N_FFT, HOP, N_BANDS = 2048, 1024, 96
LOW_HZ, RANGE_DB = 100.0, 60.0
MOST_FRAMES = 1200
"""Columns of the image at most: in a long file each is the mean of several frames."""
_BLOCK_FRAMES = 4096
PLAIN = (
    f"A plain spectrogram: {N_BANDS} mel bands, the upper ones raised by 6 dB an octave, down to "
    f"{RANGE_DB:.0f} dB under the loudest point. It is not the front-end of the run."
)


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """levels: [bands, frames] 0..255, 255 the loudest point; frame_s: [frames] their centres;
    bands_hz: [bands] the centre of each band."""

    levels: npt.NDArray[np.uint8]
    frame_s: npt.NDArray[np.float64]
    bands_hz: npt.NDArray[np.float64]


def draw_spectrogram(wave: Waveform) -> Spectrogram:
    """The mel spectrogram of a waveform of any length, 1,200 frames at most.

    Power of Hann windows of 2,048 samples, every 1,024, averaged over bands of equal width on the
    mel scale and over the frames of a column, times the square of a band's frequency: wind and
    traffic fall by about as much and would hide what sings above them. Silence gives zeros.
    Source of the mel scale: 2595 · log10(1 + f / 700) (O'Shaughnessy, 1987).
    """
    edges = _band_edges(wave.sample_rate_hz)
    n_frames = 1 + max(0, len(wave.samples) - N_FFT) // HOP
    per_column = -(-n_frames // MOST_FRAMES)
    n_columns = -(-n_frames // per_column)
    power = np.zeros((N_BANDS, n_columns))
    window = np.hanning(N_FFT)
    for first in range(0, n_frames, _BLOCK_FRAMES):
        frames = np.arange(first, min(first + _BLOCK_FRAMES, n_frames))
        spectrum = np.abs(np.fft.rfft(_cut(wave.samples, frames) * window, axis=1)) ** 2
        bands = np.add.reduceat(spectrum[:, : edges[-1]], edges[:-1], axis=1) / np.diff(edges)
        np.add.at(power.T, frames // per_column, bands)
    power /= np.minimum(per_column, n_frames - per_column * np.arange(n_columns))
    hz_per_bin = wave.sample_rate_hz / N_FFT
    step_s = per_column * HOP / wave.sample_rate_hz
    first_s = (N_FFT + (per_column - 1) * HOP) / 2 / wave.sample_rate_hz
    bands_hz = (edges[:-1] + edges[1:] - 1) / 2 * hz_per_bin
    return Spectrogram(
        _levels(power * bands_hz[:, None] ** 2),
        np.asarray(step_s * np.arange(n_columns) + first_s, np.float64),
        bands_hz,
    )


def _cut(samples: npt.NDArray[np.int16], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[frames, N_FFT] float64 of the frames in a row; zeros beyond the end."""
    start = int(frames[0]) * HOP
    part = np.zeros((len(frames) - 1) * HOP + N_FFT)
    there = samples[start : start + len(part)]
    part[: len(there)] = there
    return np.lib.stride_tricks.sliding_window_view(part, N_FFT)[::HOP]


def _band_edges(sample_rate_hz: int) -> npt.NDArray[np.int64]:
    """[bands + 1] the first bin of each band, rising: equal widths in mel, at least one bin."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOW_HZ, sample_rate_hz / 2))
    hz = 700 * (10 ** (np.linspace(low, high, N_BANDS + 1) / 2595) - 1)
    bins = np.round(hz * N_FFT / sample_rate_hz).astype(np.int64)
    return np.asarray(np.maximum(bins, bins[0] + np.arange(N_BANDS + 1)))


def _levels(power: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    loudest = power.max(initial=0)
    if loudest <= 0:
        return np.zeros(power.shape, np.uint8)
    db = 10 * np.log10(np.maximum(power / loudest, 10 ** (-RANGE_DB / 10)))
    return np.asarray(np.rint(255 * (1 + db / RANGE_DB)), np.uint8)


def see_sound(path: Path) -> Spectrogram:
    """The spectrogram of a file; AudioError for one that is gone, no audio, or over an hour."""
    return draw_spectrogram(decode_short(path))
