"""The kinds of post-processing: what each does to the windows of some files, and its fields.

numpy alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROUNDING_S = 1e-6
"""Ends of windows are decimals, so that they may differ by this where they should not."""


class Windows(NamedTuple):
    """The windows of some files: file [W] from 0 rising, end_s [W] rising within a file.

    starts [F] is the row at which each file begins; codes [C] are the columns.
    """

    file: Ints
    end_s: Floats
    starts: Ints
    codes: tuple[str, ...]

    def spread(self, of_files: Floats) -> Floats:
        """[F, C] as [W, C]: each window gets what its file has."""
        return of_files[self.file]


class Field(NamedTuple):
    """What a field of a step may hold: a test, and the same in words."""

    holds: Callable[[Any], bool]
    expected: str


class Step(NamedTuple):
    """One kind: `change(probs [W, C] float64, windows, **fields) -> [W, C]`, and its fields.

    keeps_order: in each column a higher value stays the higher one, over the rows of all files.
    keeps_maxima: the same for the maxima of files, where a step that has a `top` takes 1.
    """

    change: Callable[..., Floats]
    fields: Mapping[str, Field]
    keeps_order: bool = False
    keeps_maxima: bool = False


def smooth(probs: Floats, windows: Windows, *, weights: Sequence[float]) -> Floats:
    """Σ w_k p_(t+k) / Σ w_k over the windows t+k that the file has; the middle weight is its own.

    At the ends of a file the weights that are left are scaled up; a file of one window stays.
    """
    middle = len(weights) // 2
    total = np.full(len(probs), weights[middle])
    out = weights[middle] * probs
    for far, same in _neighbours(windows, middle):
        before, after = weights[middle - far] * same, weights[middle + far] * same
        out[far:] += before[:, None] * probs[:-far]
        out[:-far] += after[:, None] * probs[far:]
        total[far:] += before
        total[:-far] += after
    return np.asarray(out / total[:, None])


def scale_by_file(probs: Floats, windows: Windows, *, top: int | str, power: float) -> Floats:
    """p · s^power, where s is the mean of the file's `top` highest windows of that class."""
    return probs * windows.spread(_top_mean(probs, windows, top) ** power)


def boost(probs: Floats, windows: Windows, *, amount: float, threshold: float) -> Floats:
    """p + amount in every window of a file whose maximum of that class is above the threshold."""
    highest = np.maximum.reduceat(probs, windows.starts)
    return probs + amount * windows.spread((highest > threshold).astype(np.float64))


def lift_runs(
    probs: Floats, windows: Windows, *, threshold: float, share: float, min_windows: int
) -> Floats:
    """p + share · (peak - p) in runs of neighbouring windows that are all above the threshold.

    A run ends with its file; one shorter than `min_windows` stays as it is.
    """
    flat = np.ascontiguousarray(probs.T).ravel()
    above = flat > threshold
    new_file = np.tile(np.r_[True, windows.file[1:] != windows.file[:-1]], probs.shape[1])
    first = np.flatnonzero(new_file | np.r_[True, above[1:] != above[:-1]])
    length = np.diff(np.r_[first, len(flat)])
    lifted = above[first] & (length >= min_windows)
    peak = np.repeat(np.where(lifted, np.maximum.reduceat(flat, first), -np.inf), length)
    out = np.where(np.isfinite(peak), (1 - share) * flat + share * peak, flat)
    return np.asarray(np.maximum(out, flat).reshape(probs.T.shape).T)


def raise_power(probs: Floats, windows: Windows, *, exponent: float) -> Floats:
    """p^exponent."""
    return np.asarray(probs**exponent)


def mean_with_file(
    probs: Floats, windows: Windows, *, share: float, top: int | str, exponent: float
) -> Floats:
    """((1 - share) · p^a + share · s^a)^(1/a): the power mean, a = exponent, of a window and its
    file, where s is the mean of the file's `top` highest windows of that class."""
    of_file = windows.spread(_top_mean(probs, windows, top) ** exponent)
    return np.asarray(((1 - share) * probs**exponent + share * of_file) ** (1 / exponent))


def average_shifts(probs: Floats, windows: Windows, *, weights: str) -> Floats:
    """The mean over all windows of the file that overlap a window, itself among them.

    `overlap` weighs them by the seconds they share with it, `equal` all alike. Windows are as long
    as a file's first one, which begins with the file. Raises OutputsError when no windows overlap,
    although a file has several, and for files whose windows differ in length.
    """
    window_s = float(windows.end_s[windows.starts[0]])
    if np.ptp(windows.end_s[windows.starts]) > ROUNDING_S:
        raise OutputsError(
            "the first windows of files differ in length",
            got=f"{windows.end_s[windows.starts].min():g} to "
            f"{windows.end_s[windows.starts].max():g} s",
            fix="predict all files with one model, and keep all windows of a file",
        )
    total = np.ones(len(probs))
    out = probs.copy()
    for far, same in _neighbours(windows, len(probs) - 1):
        shared = window_s - (windows.end_s[far:] - windows.end_s[:-far])
        overlapping = same & (shared > ROUNDING_S)
        if not overlapping.any():
            if far == 1 and same.any():
                raise OutputsError(
                    "there are no overlapping windows to average",
                    got=f"windows every {np.min(np.diff(windows.end_s)[same]):g} s",
                    expected=f"less than {window_s:g} s from one to the next",
                    fix="birdlab predict --hop 2.5, or leave shift_average out",
                )
            break
        share = np.where(overlapping, shared / window_s if weights == "overlap" else 1.0, 0.0)
        out[far:] += share[:, None] * probs[:-far]
        out[:-far] += share[:, None] * probs[far:]
        total[far:] += share
        total[:-far] += share
    return np.asarray(out / total[:, None])


def clip_range(probs: Floats, windows: Windows, *, range: Sequence[float]) -> Floats:
    """p, but at least the lower and at most the upper value: what lies outside becomes a tie."""
    low, high = range
    return np.clip(probs, low, high)


def _neighbours(windows: Windows, reach: int) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """How far apart, and for each pair of rows so far apart whether one file has both."""
    for far in range(1, min(reach, len(windows.file) - 1) + 1):
        yield far, windows.file[far:] == windows.file[:-far]


def _top_mean(probs: Floats, windows: Windows, top: int | str) -> Floats:
    """[F, C]: the mean of the `top` highest windows of each file, of all where it has fewer."""
    if top == 1:
        return np.asarray(np.maximum.reduceat(probs, windows.starts))
    counts = np.diff(np.r_[windows.starts, len(probs)])
    if top == "all":
        return np.asarray(np.add.reduceat(probs, windows.starts) / counts[:, None])
    out = np.empty((len(counts), probs.shape[1]))
    for row, (start, count) in enumerate(zip(windows.starts, counts, strict=True)):
        kept = min(int(top), int(count))
        block = probs[start : start + count]
        out[row] = np.partition(block, count - kept, axis=0)[count - kept :].mean(axis=0)
    return out


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that fits a float: JSON has whole numbers of any length."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _between(low: float, high: float, *, above: bool = False) -> Field:
    def holds(value: Any) -> bool:
        return _is_number(value) and (low < value if above else low <= value) and value <= high

    return Field(holds, f"a number {'above' if above else 'from'} {low:g} to {high:g}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_weights(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) % 2 == 0 or not 3 <= len(value) <= 121:
        return False
    return all(_is_number(w) and w >= 0 for w in value) and value[len(value) // 2] > 0


def _is_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(0 <= value[0] < value[1] <= 1)


_EXPONENT = _between(0.1, 10)
_THRESHOLD = Field(lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1")
_SHARE = _between(0, 1, above=True)
_COUNT = Field(_is_count, "a whole number from 1")
_TOP = Field(lambda v: v == "all" or _is_count(v), "a whole number from 1, or all")

STEPS: dict[str, Step] = {
    "smooth": Step(
        smooth,
        {"weights": Field(_are_weights, "3 to 121 weights >= 0, an odd number, the middle > 0")},
    ),
    "file_scale": Step(scale_by_file, {"top": _TOP, "power": _EXPONENT}, keeps_maxima=True),
    "boost": Step(boost, {"amount": _SHARE, "threshold": _THRESHOLD}),
    "lift_runs": Step(
        lift_runs,
        {"threshold": _THRESHOLD, "share": _SHARE, "min_windows": _COUNT},
        keeps_maxima=True,
    ),
    "power": Step(raise_power, {"exponent": _EXPONENT}, keeps_order=True, keeps_maxima=True),
    "power_mean": Step(
        mean_with_file,
        {"share": _SHARE, "top": _TOP, "exponent": _EXPONENT},
        keeps_maxima=True,
    ),
    "shift_average": Step(
        average_shifts,
        {"weights": Field(lambda v: v in ("overlap", "equal"), "overlap or equal")},
    ),
    "clip_range": Step(
        clip_range, {"range": Field(_is_range, "[low, high], 0 <= low < high <= 1")}
    ),
}
"""The kinds that are built in, and those of extensions that this process has loaded."""
