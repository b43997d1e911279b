"""How alike the errors of submissions are, by stored held-out outputs: what one gets right by luck,
an alike one gets right too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError
from birdlab.evaluate.evidence import FoldTable
from birdlab.evaluate.score import N_PAD
from birdlab.study.species import FoldTables

Floats = npt.NDArray[np.float64]
UNLIKE = 0.9
"""This quantile of the distances between two submissions is that of two which are not alike."""
TWINS = 1e-9
"""A distance below this part of the unlike one is that of equal outputs."""
MOST_RUNS = 80


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike the errors of runs are: [n, n], 1 for equal outputs, 0 for unlike ones.

    twins: of each run whose outputs equal those of an earlier one, that one.
    """

    runs: tuple[str, ...]
    values: Floats
    twins: dict[str, str]


def measure_likeness(runs: Sequence[str], read: Callable[[str], FoldTables]) -> Likeness:
    """How alike the runs are; `read` gives the held-out tables of one by (fold, seed).

    The distance of two runs is the variance that the difference of their scores would have over
    other recordings: the sum of squares of what each label adds to one score and not to the
    other. Likeness falls with it, from 1 for equal outputs to 0 for the distance that a tenth of
    the pairs exceed. Raises DataError for over 80 runs or under 3, for runs without outputs, and
    for those of other recordings, classes or labels.
    """
    if not 3 <= len(runs) <= MOST_RUNS:
        raise DataError("likeness is measured of 3 to 80 runs", got=str(len(runs)))
    gains, known = [], None
    for run in runs:
        tables = read(run)
        if not tables:
            raise DataError(
                "a run has no stored held-out outputs",
                got=run,
                fix="run its spec again: what is missing is made",
            )
        rows = _name_rows(tables)
        if known is not None and rows != known:
            raise DataError(
                "a run was scored on other recordings, classes or labels",
                got=run,
                fix="name runs of the same data and folds",
            )
        known = rows
        gains.append(list_gains(tables))
    return compare_gains(tuple(runs), np.stack(gains))


def list_gains(tables: FoldTables) -> Floats:
    """What each label adds to the padded cmAP of its fold, the mean over seeds: [labels], in the
    order of folds, classes and recordings."""
    folds = sorted({fold for fold, _ in tables})
    parts = []
    for fold in folds:
        seeds = [table for (own, _), table in sorted(tables.items()) if own == fold]
        parts.append(np.mean([_list_gains(table) for table in seeds], axis=0))
    return np.concatenate(parts)


def _list_gains(table: FoldTable) -> Floats:
    """Precision at each label over the labels of its class, padding counted: what padded cmAP
    sums, less its constant. Source: as `ClassRanks.average_precision`."""
    n_classes, found = len(table.codes), [np.zeros(0)]
    for column in np.flatnonzero(table.targets.any(axis=0)):
        scores, truth = table.probs[:, column], table.targets[:, column]
        own, every = scores[truth], np.sort(scores)
        labelled = np.sort(own)
        rows = len(every) - np.searchsorted(every, own, "left")
        hits = len(own) - np.searchsorted(labelled, own, "left")
        found.append((N_PAD + hits) / (N_PAD + rows) / (N_PAD + len(own)) / n_classes)
    return np.concatenate(found)


def compare_gains(runs: tuple[str, ...], gains: Floats) -> Likeness:
    """The likeness of runs by what each label adds to the score of each: [n, labels]."""
    off = gains - gains.mean(axis=1, keepdims=True)
    squares = np.einsum("ip,ip->i", off, off)
    distance = np.maximum(squares[:, None] + squares[None] - 2 * off @ off.T, 0)
    np.fill_diagonal(distance, 0)
    i, j = np.triu_indices(len(runs), 1)
    unlike = float(np.quantile(distance[i, j], UNLIKE))
    values = np.ones_like(distance) if unlike <= 0 else np.clip(1 - distance / unlike, 0, 1)
    equal = distance <= TWINS * unlike
    twins = {}
    for place, run in enumerate(runs):
        first = int(np.flatnonzero(equal[place])[0])
        if first < place:
            twins[run] = runs[first]
    return Likeness(runs, values, twins)


def _name_rows(tables: FoldTables) -> dict[int, tuple[object, ...]]:
    """What must be equal for two runs to be compared, by fold."""
    return {
        fold: (table.recordings, table.codes, table.targets.tobytes())
        for (fold, _), table in sorted(tables.items(), reverse=True)
    }
