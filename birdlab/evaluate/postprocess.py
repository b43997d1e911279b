"""Post-processing: what becomes of the probabilities of windows once all of a file are known.

A step is a mapping with its `kind` and all fields of it, as JSON has them; `species` (codes) limits
it to some columns. A step sees whole files, and of each file nothing but its own windows, so that
the same numbers come out for one file or for thousands. `birdlab.spec.postprocess` has the same
kinds with their defaults, `poststeps` what they do. numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.poststeps import ROUNDING_S, STEPS, Field, Floats, Ints, Step, Windows
from birdlab.evaluate.probabilities import HIGHEST_PROB, ROUNDING
from birdlab.evaluate.stepchecks import check_overlap as check_overlap
from birdlab.evaluate.stepchecks import check_steps as check_steps

BLOCK_WINDOWS = 4096
"""About how many windows are worked on at once; a file is never parted."""
RANKED_WITHIN_CLASS = ("padded_cmap", "macro_auc", "cmap_min5")
"""Metrics that look at the order of rows within each class and at nothing else."""


def apply_steps(
    probs: npt.ArrayLike,
    files: npt.ArrayLike,
    end_s: npt.ArrayLike,
    codes: Sequence[str],
    steps: Sequence[Mapping[str, Any]],
) -> npt.NDArray[np.float32]:
    """The probabilities after all steps, one after the other: [W, C] float32 in [0, 1).

    `probs` [W, C] in 0..1; `files` [W] whole numbers that rise, the file of each window; `end_s`
    [W] seconds, which rise within a file. Each step counts in float64 and is clamped to [0, 1).
    Raises SpecError as `check_steps`, OutputsError for tables that do not fit.
    """
    check_steps(steps, codes)
    table, file, ends_s = _check_tables(probs, files, end_s, codes)
    out = np.empty(table.shape, np.float32)
    for first, end in _blocks(file):
        inside = file[first:end]
        starts = np.flatnonzero(np.r_[True, inside[1:] != inside[:-1]])
        renumbered = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(inside)]))
        windows = Windows(renumbered, ends_s[first:end], starts, tuple(codes))
        block = _clamp(table[first:end].astype(np.float64))
        for step in steps:
            block = _apply(step, block, windows)
        out[first:end] = block
    return out


def why_unchanged(
    steps: Sequence[Mapping[str, Any]], metric: str, *, of_maxima: bool = False
) -> str:
    """Why the steps cannot change `metric`, in words; "" where they may.

    What keeps the order of rows within every class changes no metric that looks at nothing else.
    `of_maxima`: rows are the maxima of whole files, so that it is the order of these that counts.
    Rounding to float32 can still make two values that lie close together a tie.
    """
    check_steps(steps)
    if metric not in RANKED_WITHIN_CLASS:
        return ""
    if all(STEPS[step["kind"]].keeps_order for step in steps):
        return f"cannot change {metric}: it keeps the order within every class"
    if of_maxima and all(_keeps_maxima(step) for step in steps):
        return f"cannot change {metric} of whole files: it keeps the order of their maxima"
    return ""


def _keeps_maxima(step: Mapping[str, Any]) -> bool:
    return STEPS[step["kind"]].keeps_maxima and step.get("top", 1) == 1


def add_kind(kind: str, change: Callable[..., Floats], fields: Sequence[str]) -> None:
    """Let this process know a kind of an extension, whose class has checked its fields already."""
    anything = Field(lambda value: True, "anything")
    STEPS[kind] = Step(change, dict.fromkeys(fields, anything))


def deployed_steps(
    steps: Sequence[Mapping[str, Any]], end_s: npt.ArrayLike, window_s: float
) -> list[Mapping[str, Any]]:
    """The steps that windows really go through: where they overlap, they are averaged last.

    A chain that has `shift_average` itself says when; `birdlab predict --hop` does the same.
    """
    overlap = not grid_rows(end_s, window_s).all()
    if overlap and not any(step["kind"] == "shift_average" for step in steps):
        return [*steps, {"kind": "shift_average", "weights": "overlap"}]
    return list(steps)


def finish_rows(
    probs: npt.NDArray[np.float32],
    files: npt.NDArray[np.int64],
    end_s: npt.NDArray[np.float64],
    codes: Sequence[str],
    steps: Sequence[Mapping[str, Any]],
    window_s: float,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Which windows are rows [W], and the probabilities [R, C] of these after all steps.

    What is scored and what is submitted are made here. Tables and errors as those of
    `apply_steps`; without steps and overlap the probabilities stay as they are.
    """
    grid, chain = grid_rows(end_s, window_s), deployed_steps(steps, end_s, window_s)
    if len(probs) and chain:
        probs = apply_steps(probs, files, end_s, codes, chain)
    return grid, probs if grid.all() else probs[grid]


def grid_rows(end_s: npt.ArrayLike, window_s: float) -> npt.NDArray[np.bool_]:
    """Which windows follow each other without overlap, from the start of a file: [W]."""
    parts = np.asarray(end_s, np.float64) / window_s
    return np.asarray(np.abs(parts - np.round(parts)) * window_s < ROUNDING_S * 10)


def _apply(step: Mapping[str, Any], probs: Floats, windows: Windows) -> Floats:
    kind = STEPS[step["kind"]]
    fields = {name: step[name] for name in kind.fields}
    chosen = step.get("species")
    if not chosen:
        changed = kind.change(probs, windows, **fields)
    else:
        place = {code: column for column, code in enumerate(windows.codes)}
        columns = [place[code] for code in chosen]
        own = windows._replace(codes=tuple(chosen))
        changed = probs.copy()
        changed[:, columns] = kind.change(probs[:, columns], own, **fields)
    if changed.shape != probs.shape or np.isnan(changed).any():
        raise OutputsError(
            f"the step {step['kind']} gave something else than probabilities",
            got=f"{changed.shape}, {int(np.isnan(changed).sum())} of them no number",
            expected=f"{probs.shape}, a number each",
        )
    return _clamp(changed)


def _clamp(probs: Floats) -> Floats:
    return np.clip(probs, 0.0, float(HIGHEST_PROB))


def _blocks(file: Ints) -> Iterator[tuple[int, int]]:
    """First row and end of blocks of whole files."""
    ends = np.r_[np.flatnonzero(file[1:] != file[:-1]) + 1, len(file)] if len(file) else []
    first = 0
    for i, end in enumerate(ends):
        if end - first >= BLOCK_WINDOWS or i == len(ends) - 1:
            yield first, int(end)
            first = int(end)


def _check_tables(
    probs: npt.ArrayLike, files: npt.ArrayLike, end_s: npt.ArrayLike, codes: Sequence[str]
) -> tuple[npt.NDArray[Any], Ints, Floats]:
    table, file, ends_s = np.asarray(probs), np.asarray(files), np.asarray(end_s, np.float64)
    if (
        table.ndim != 2
        or table.shape[1] != len(codes)
        or not file.shape == ends_s.shape == (len(table),)
    ):
        raise OutputsError(
            "windows, their files and their classes do not fit",
            got=f"probs {table.shape}, files {file.shape}, ends {ends_s.shape}, {len(codes)} codes",
        )
    if len(table) and file.dtype.kind not in "iu":
        raise OutputsError("the files of windows are not whole numbers", got=str(file.dtype))
    wrong = ~((table >= 0) & (table <= 1 + ROUNDING))
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise OutputsError(
            "a score is not a probability",
            where=f"row {row}, column {codes[column]}",
            got=table[row, column],
            expected="0 to 1",
        )
    later = file[1:] == file[:-1]
    unsorted = (file[1:] < file[:-1]) | (later & ~(ends_s[1:] > ends_s[:-1]))
    if unsorted.any():
        row = int(np.flatnonzero(unsorted)[0]) + 1
        raise OutputsError(
            "windows are not sorted by file and time",
            where=f"row {row}",
            got=f"file {file[row]}, end {ends_s[row]:g} s after file {file[row - 1]}, "
            f"end {ends_s[row - 1]:g} s",
        )
    return table, file.astype(np.int64), ends_s
