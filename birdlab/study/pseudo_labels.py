"""What the teachers of a stage say of unlabelled soundscapes: counts, confidence, agreement."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellfiles import is_trained
from birdlab.cellplan import CellPlan
from birdlab.data.classes import ClassList
from birdlab.errors import CellError
from birdlab.jobwriter import save_job
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.sed.pseudo import SoftLabels, choose_windows, summarise_labels
from birdlab.softlabels import load_soft_labels
from birdlab.spec.parts import StageSpec
from birdlab.spec.teaching import PseudoSpec

N_BINS = 10
_MS = 1000
_FILE_MS = 10**10
"""More than the milliseconds of any file: a window is numbered by its file and its start."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelSets:
    """The soft labels of one stage, a set for each distinct teacher, window by window.

    codes: the C classes that are scored; known: [C] to every teacher; names and keys: of F files;
    file, start_s, end_s: [W]; mean and spread: [W, C] of the probabilities over the sets that have
    the window, 0 for unknown classes; n_sets: [W] how many have it; above: [W, C] in how many the
    class reaches the threshold. passing: windows that pass in each set. table: a row a class, see
    `join_labels`.
    """

    spec: PseudoSpec
    codes: tuple[str, ...]
    known: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    keys: tuple[str, ...]
    file: Ints
    start_s: Floats
    end_s: Floats
    mean: Floats
    spread: Floats
    n_sets: Ints
    above: Ints
    teachers: tuple[str, ...]
    passing: tuple[int, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.file)

    @property
    def seconds(self) -> float:
        """How much sound the windows are."""
        return float((self.end_s - self.start_s).sum())

    @cached_property
    def histogram(self) -> tuple[int, ...]:
        """Windows by their highest mean probability, in tenths from 0 to 1."""
        return _count_tenths(self.mean.max(axis=1, initial=0))

    @cached_property
    def agreed(self) -> tuple[int, int]:
        """Pairs of window and class that all sets put at the threshold or above, and that any does.

        Only windows that several sets have count.
        """
        several = self.n_sets > 1
        above, n = self.above[several], self.n_sets[several, None]
        return int((above == n).sum()), int((above > 0).sum())


def join_labels(sets: Sequence[SoftLabels], spec: PseudoSpec, classes: ClassList) -> LabelSets:
    """The label sets of a stage side by side; equal ones count once.

    The table has species, known, windows (in which the class reaches the threshold) and label_sum
    (of its soft labels over windows that pass), both means over sets, highest, agree (the share of
    its windows at the threshold in any set that are so in all; NaN with one set or no window), and
    tenths (windows by its mean probability). Raises DataError where a teacher knows no class.
    """
    distinct = list({(one.teacher, one.keys): one for one in sets}.values())
    keys = list(dict.fromkeys(key for one in distinct for key in one.keys))
    place = {key: i for i, key in enumerate(keys)}
    names = {k: n for one in distinct for k, n in zip(one.keys, one.names or one.keys, strict=True)}
    numbers = [_number_windows(one, place) for one in distinct]
    windows = np.unique(np.concatenate(numbers))
    shape = (len(windows), len(classes))
    total, squares, above = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    n_sets, end_s = np.zeros(len(windows), np.int64), np.zeros(len(windows))
    known = np.ones(len(classes), np.bool_)
    for one, number in zip(distinct, numbers, strict=True):
        rows, probs = np.searchsorted(windows, number), _columns_of(one, classes)
        total[rows] += probs
        squares[rows] += probs**2
        above[rows] += probs >= spec.threshold
        n_sets[rows] += 1
        end_s[rows] = one.end_s
        known &= classes.positions_in(ClassList(one.codes)) >= 0
    mean = total / n_sets[:, None]
    spread = np.sqrt(np.maximum(squares / n_sets[:, None] - mean**2, 0))
    return LabelSets(
        spec=spec,
        codes=tuple(classes),
        known=known,
        names=tuple(names[key] for key in keys),
        keys=tuple(keys),
        file=windows // _FILE_MS,
        start_s=(windows % _FILE_MS) / _MS,
        end_s=end_s,
        mean=mean,
        spread=spread,
        n_sets=n_sets,
        above=above,
        teachers=tuple(one.teacher for one in distinct),
        passing=tuple(len(choose_windows(one, spec, classes)) for one in distinct),
        table=_build_table(distinct, spec, classes, mean, above, n_sets),
    )


def _number_windows(labels: SoftLabels, place: dict[str, int]) -> Ints:
    files = np.array([place[key] for key in labels.keys], np.int64)[labels.file]
    return files * _FILE_MS + np.rint(labels.start_s * _MS).astype(np.int64)


def _columns_of(labels: SoftLabels, classes: ClassList) -> Floats:
    """[W, C] probabilities in the order of classes, 0 for those that the teacher does not know."""
    at = classes.positions_in(ClassList(labels.codes)).astype(np.int64)
    out = np.zeros((len(labels), len(classes)))
    out[:, at >= 0] = labels.probs[:, at[at >= 0]]
    return out


def _build_table(
    sets: Sequence[SoftLabels],
    spec: PseudoSpec,
    classes: ClassList,
    mean: Floats,
    above: Ints,
    n_sets: Ints,
) -> pd.DataFrame:
    tables = [summarise_labels(one, spec, classes) for one in sets]
    several = n_sets > 1
    anywhere = (above[several] > 0).sum(axis=0)
    everywhere = (above[several] == n_sets[several, None]).sum(axis=0)
    return pd.DataFrame(
        {
            "species": list(classes),
            "known": np.all([table["known"] for table in tables], axis=0),
            "windows": np.mean([table["windows"] for table in tables], axis=0),
            "label_sum": np.mean([table["label_sum"] for table in tables], axis=0),
            "highest": np.max([table["highest"] for table in tables], axis=0),
            "agree": np.where(anywhere > 0, everywhere / np.maximum(anywhere, 1), np.nan),
            "tenths": [list(_count_tenths(column)) for column in mean.T],
        }
    )


def _count_tenths(probs: Floats) -> tuple[int, ...]:
    tenths = np.minimum((probs * N_BINS).astype(np.int64), N_BINS - 1)
    return tuple(np.bincount(tenths, minlength=N_BINS).tolist())


def load_label_sets(plan: Plan, stage: StageSpec, lab: Lab) -> tuple[list[SoftLabels], int]:
    """The stored soft labels that the cells of a stage learn from, and how many cells lack them.

    Nothing is heard: labels are made when the cells are trained.
    """
    found, n_lacking = [], 0
    with tempfile.TemporaryDirectory(prefix="birdlab-labels-") as folder:
        for cell in plan.cells:
            if cell.stage is not stage:
                continue
            labels = None
            if _is_heard(cell, lab):
                with suppress(CellError):
                    labels = load_soft_labels(save_job(plan, cell, Path(folder)), lab)
            n_lacking += labels is None
            found += [] if labels is None else [labels]
    return found, n_lacking


def _is_heard(cell: CellPlan, lab: Lab) -> bool:
    """Whether asking for the labels of a cell makes none: an ONNX teacher would hear at once."""
    by_cells = cell.labelling is not None and cell.labelling.model is None
    return by_cells or is_trained(lab, cell)
