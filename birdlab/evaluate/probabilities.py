"""What may be scored: tables of labels and of probabilities, checked. numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError

HIGHEST_PROB = np.nextafter(np.float32(1), np.float32(0))
"""The largest float32 below 1: what a saturated score becomes."""

ROUNDING = 1e-6
"""How far a blend of float32 probabilities may leave [0, 1] by rounding alone."""


def clamp_probs(probs: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The same scores as float32 in [0, 1): 1.0 becomes the largest float32 below 1.

    A float32 sigmoid reaches 1.0 at logit 17. Any shape. NaN, or a value outside [0, 1] by more
    than rounding, is not a probability and raises OutputsError.
    """
    scores = np.asarray(probs)
    fits = (scores >= -ROUNDING) & (scores <= 1 + ROUNDING)
    if not fits.all():
        place = tuple(int(i) for i in np.argwhere(~fits)[0])
        raise OutputsError(
            "a score is not a probability",
            where=f"column {place[-1]} (index {place})" if place else None,
            got=float(scores[place]),
            expected="0 to 1",
            fix="apply the sigmoid before storing; look for NaN in the training curve",
        )
    return np.clip(scores.astype(np.float32), np.float32(0), HIGHEST_PROB)


def check_tables(
    targets: npt.ArrayLike, probs: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
    """Both as arrays [N, C]; OutputsError where they differ in shape, or as of each alone."""
    truth, scores = check_targets(targets), check_probs(probs)
    if truth.shape != scores.shape:
        raise OutputsError(
            "targets and scores differ in shape", got=scores.shape, expected=str(truth.shape)
        )
    return truth, scores


def check_targets(targets: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Labels [N, C] as bool; OutputsError for what is no table or is neither 0 nor 1."""
    table = _check_shape(np.asarray(targets), "targets")
    wrong = (table != 0) & (table != 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise OutputsError(
            "a target is neither 0 nor 1",
            where=f"column {column}, row {row}",
            got=table[row, column],
            fix="score against hard labels; soft labels are for training",
        )
    return table.astype(np.bool_)


def check_probs(probs: npt.ArrayLike) -> npt.NDArray[Any]:
    """Scores [N, C] as they are; OutputsError for what is no table or lies outside [0, 1)."""
    table = _check_shape(np.asarray(probs), "scores")
    wrong = ~((table >= 0) & (table < 1))
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise OutputsError(
            "a score lies outside [0, 1)",
            where=f"column {column}, row {row}",
            got=table[row, column],
            expected="0 <= score < 1: at 1.0 it would tie with the padding rows",
            fix="store scores through clamp_probs",
        )
    return table


def _check_shape(table: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if table.ndim != 2 or 0 in table.shape or table.dtype.kind not in "biuf":
        raise OutputsError(
            f"{name} are not a table of numbers",
            got=f"{table.dtype} of shape {table.shape}",
            expected="numbers [rows, classes], at least one of each",
        )
    return table
