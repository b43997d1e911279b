"""From what a model says of windows: the deployed probability, and that of a whole recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.probabilities import HIGHEST_PROB

Floats = npt.NDArray[np.float32]


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
