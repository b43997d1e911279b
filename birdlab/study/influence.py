"""What every recording of a fold does to its score: the score of each class without each row.

Exact and for all rows at once, in O(N log N) a class. Taking a row out moves only the positives
that it stands above or is tied with, by one rank each, so that a sum over these, made once, serves
all rows. Source: AP = (n_pad + sum of (n_pad + hits) / (n_pad + rows)) / (n_pad + n) over the n
positives of a class, `evaluate.metrics.class_average_precision`; Mann and Whitney's U for the AUC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError
from birdlab.evaluate.score import N_PAD, FoldTable
from birdlab.study.contrasts import Floats

SPLITTABLE = ("padded_cmap", "macro_auc")
"""The scores that are a mean over classes of something counted from ranks."""


@dataclass(frozen=True, eq=False)
class Influence:
    """What makes up the score of one fold and seed.

    values: [classes], the score of each class, NaN where it has none; parts: [classes], what it
    adds to the score of the fold, which is their sum. added: [rows, classes], what a row that
    carries a class adds to its part by its own rank, 0 elsewhere: the rest of a part is the same
    for all predictions. moved: [rows, classes], by how much each part would fall if the row were
    not there, NaN in a row without which no class has a score.
    """

    values: Floats
    parts: Floats
    added: Floats
    moved: Floats


def find_influence(
    table: FoldTable, *, metric: str = "padded_cmap", n_pad: int = N_PAD
) -> Influence:
    """What every class and every recording does to the score of a fold.

    A class that loses its last positive counts 1 in padded cmAP, and leaves the mean of macro AUC.
    Raises DataError for another metric or a padding under one row.
    """
    check_metric(metric, n_pad)
    ranks = table.ranks
    if metric == "macro_auc":
        values, (own, without) = ranks.auc(), aucs_without(table)
    else:
        values, (own, without) = ranks.average_precision(n_pad), precisions_without(table, n_pad)
    parts = _shares(values[None])[0]
    n_known = int((~np.isnan(values)).sum())
    return Influence(values, parts, own / max(n_known, 1), parts - _shares(without))


def check_metric(metric: str, n_pad: int = N_PAD) -> None:
    """Raise DataError unless the score splits over classes and recordings."""
    if metric not in SPLITTABLE:
        raise DataError(
            "this score does not split over species and recordings",
            got=metric,
            expected=" or ".join(SPLITTABLE),
            fix="ask why by padded_cmap or macro_auc: each is a mean over species",
        )
    if n_pad < 1:
        raise DataError("a split needs padding rows", got=f"n_pad={n_pad}", expected="1 or more")


def precisions_without(table: FoldTable, n_pad: int = N_PAD) -> tuple[Floats, Floats]:
    """What each row that carries a class adds to its padded average precision, and what that is
    without each row: [rows, classes] each.

    Ties enter together, as they do with the row. n_pad is at least 1.
    """
    own, without = np.zeros(table.targets.shape), np.ones(table.targets.shape)
    for column, of, below in _places(table):
        hits, rows = n_pad + table.ranks.hits[of], n_pad + table.ranks.rows[of]
        terms = hits / rows
        total, n = n_pad + terms.sum(), n_pad + len(terms)
        gain = np.r_[0.0, np.cumsum(hits / (rows - 1) - terms)]
        without[:, column] = (total + gain[below]) / n
        loss = terms - (hits - 1) / (rows - 1)
        lost = np.r_[0.0, np.cumsum(loss)]
        positive = table.targets[:, column]
        at = below[positive] - 1
        own[positive, column] = terms[at] / n
        without[positive, column] = (total - terms[at] - (lost[at + 1] - loss[at])) / (n - 1)
    return own, without


def aucs_without(table: FoldTable) -> tuple[Floats, Floats]:
    """What each row that carries a class adds to its ROC-AUC, and what that is without each row.

    [rows, classes] each; the second is NaN where a class then has no AUC.
    """
    own, without = np.zeros(table.targets.shape), np.full(table.targets.shape, np.nan)
    ranks, n_rows = table.ranks, len(table.targets)
    for column, of, below in _places(table):
        positive, scores = table.targets[:, column], table.probs[:, column]
        n = int(positive.sum())
        m = n_rows - n
        above = ranks.higher[of] - ranks.higher_hits[of] + ranks.rows[of] - ranks.hits[of]
        wins = m - above / 2
        lower = np.searchsorted(np.sort(scores[positive]), scores, "left")
        lost = n - (lower + below) / 2
        lost[positive] = wins[below[positive] - 1]
        own[positive, column] = lost[positive] / max(n * m, 1)
        pairs = np.where(positive, (n - 1) * m, n * (m - 1)).astype(float)
        left = np.full(n_rows, np.nan)
        without[:, column] = np.divide(wins.sum() - lost, pairs, out=left, where=pairs > 0)
    return own, without


def _places(table: FoldTable) -> Iterator[tuple[int, slice, npt.NDArray[np.intp]]]:
    """Each class with positives: its column, its part of the ranks, and for every row how many
    positives score at most as high."""
    ends = np.cumsum(table.ranks.n_positives)
    for column in np.flatnonzero(table.ranks.n_positives):
        of = slice(int(ends[column] - table.ranks.n_positives[column]), int(ends[column]))
        scores = table.probs[:, column]
        own = np.sort(scores[table.targets[:, column]])
        yield int(column), of, np.searchsorted(own, scores, "right")


def _shares(values: Floats) -> Floats:
    """What each class adds to the mean over those that have a value: [rows, classes]."""
    known = ~np.isnan(values)
    n = known.sum(axis=1, keepdims=True).astype(float)
    n[n == 0] = np.nan
    return np.asarray(np.where(known, values, 0.0) / n)
