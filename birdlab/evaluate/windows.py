"""Windows: how a recording is cut for the predictor and how its outputs are put together.

Validation, prediction and the parity check use these functions and no others, so that the
number scored is the number deployed. Numpy alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.metrics import HIGHEST_PROB

Floats = npt.NDArray[np.float32]

PEAK_EPS = 1e-6
"""A clip whose peak is below this is divided by it instead, so silence stays silence."""


def count_windows(n_samples: int, window_samples: int, hop_samples: int | None = None) -> int:
    """How many windows cover a recording of `n_samples`; 1 for one shorter than a window."""
    hop = window_samples if hop_samples is None else hop_samples
    if n_samples < 0 or window_samples < 1 or not 1 <= hop <= window_samples:
        raise OutputsError(
            "a recording cannot be cut like this",
            got=f"{n_samples} samples, windows of {window_samples}, hop {hop}",
            expected="n_samples >= 0 and 1 <= hop_samples <= window_samples",
        )
    return 1 + max(0, -(-(n_samples - window_samples) // hop))


def cut_windows(wave: npt.ArrayLike, window_samples: int, hop_samples: int | None = None) -> Floats:
    """The windows of one recording, each peak-normalised: [k, window_samples] float32.

    `wave: [n] float32` of any scale. Windows start at 0 and every `hop_samples` (default: one
    after the other); what is left for the last is padded with zeros on the LEFT, as the crops
    in training are. An empty recording gives one window of zeros.
    """
    samples = np.asarray(wave, dtype=np.float32)
    if samples.ndim != 1:
        raise OutputsError("a waveform needs one axis", got=f"shape {samples.shape}")
    hop = window_samples if hop_samples is None else hop_samples
    n_windows = count_windows(len(samples), window_samples, hop)
    windows = np.zeros((n_windows, window_samples), dtype=np.float32)
    for row, start in zip(windows, range(0, n_windows * hop, hop), strict=True):
        content = samples[start : start + window_samples]
        row[window_samples - len(content) :] = content
    return peak_normalise(windows)


def peak_normalise(waves: Floats) -> Floats:
    """Each wave over its largest absolute sample: [..., samples] float32, peak 1.

    A wave whose peak is under 1e-6 is divided by 1e-6, so silence stays zero. Raises
    OutputsError when a sample is not finite.
    """
    peaks = np.abs(waves).max(axis=-1, keepdims=True, initial=0.0)
    if not np.isfinite(peaks).all():
        raise OutputsError("a waveform holds samples that are not finite numbers")
    return np.asarray(waves / np.maximum(peaks, np.float32(PEAK_EPS)), dtype=np.float32)


def end_seconds(
    n_windows: int, window_s: float, hop_s: float | None = None
) -> list[int] | list[float]:
    """When each window ends, in seconds: 5, 10, 15 …; integers where all of them are."""
    hop = window_s if hop_s is None else hop_s
    ends = [round(window_s + i * hop, 6) for i in range(n_windows)]
    whole = [int(end) for end in ends]
    return whole if whole == ends else ends


def pool_recordings(window_probs: npt.ArrayLike, recording_index: npt.ArrayLike) -> Floats:
    """Per recording and class the maximum over its windows: [R, C] float32.

    `window_probs: [W, C]`; `recording_index: [W]` int, the row of each window's recording,
    0..R-1 in any order. Raises OutputsError when a recording has no window.
    """
    probs = np.asarray(window_probs, dtype=np.float32)
    index = np.asarray(recording_index, dtype=np.int64)
    if probs.ndim != 2 or index.shape != probs.shape[:1] or not len(index) or index.min() < 0:
        raise OutputsError(
            "window outputs and their recordings do not fit",
            got=f"probs {probs.shape}, index {index.shape}",
            expected="[W, C] and [W] of rows >= 0, W >= 1",
        )
    order = np.argsort(index, kind="stable")
    rows, starts = np.unique(index[order], return_index=True)
    if len(rows) != rows[-1] + 1:
        missing = int(np.setdiff1d(np.arange(rows[-1]), rows)[0])
        raise OutputsError("a recording has no window", where=f"recording {missing}")
    return np.asarray(np.maximum.reduceat(probs[order], starts, axis=0), dtype=np.float32)


def blend(probs: npt.ArrayLike, max_probs: npt.ArrayLike, clip: float, time_max: float) -> Floats:
    """The deployed probability clip · P + time_max · M: float32, 0 ≤ p < 1.

    `probs` are clip probabilities P, `max_probs` time maxima M, of equal shape; `clip` and
    `time_max` their weights. Clamped to the largest float32 below 1, since a score of 1 would
    tie with the padding of the padded cmAP.
    """
    mixed = np.float32(clip) * np.asarray(probs, dtype=np.float32)
    mixed = mixed + np.float32(time_max) * np.asarray(max_probs, dtype=np.float32)
    return np.asarray(np.clip(mixed, np.float32(0), HIGHEST_PROB), dtype=np.float32)
