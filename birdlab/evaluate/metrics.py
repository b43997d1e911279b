"""Scores of a table of probabilities against a table of labels, with numpy alone.

Every function takes `targets` [N, C], 0/1 or bool, and `probs` [N, C] in [0, 1). A score of
exactly 1.0 would tie with the padding rows of the padded cmAP and sink a column silently, so it
is refused: pass predictions through `clamp_probs` when they are stored. Input that does not fit
raises OutputsError and names the column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.probabilities import HIGHEST_PROB as HIGHEST_PROB
from birdlab.evaluate.probabilities import check_probs, check_tables, check_targets
from birdlab.evaluate.probabilities import clamp_probs as clamp_probs

Floats = npt.NDArray[np.float64]

MIN_POSITIVES = 5
"""How many positives a class needs to count in cmap_min5."""


@dataclass(frozen=True, eq=False)
class ClassRanks:
    """Where the positives of each class stand: what AP at any padding and the AUC need.

    n_rows: how many rows were ranked; n_positives: [C]. The other fields have a value for each
    positive of each class, class after class and within one by rising score: its class, how many
    rows score at least as high and how many higher, and how many positives among these.
    """

    n_rows: int
    n_positives: npt.NDArray[np.int64]
    of_class: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    higher: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    higher_hits: npt.NDArray[np.int64]

    def average_precision(self, n_pad: int = 5) -> Floats:
        """Average precision of each class after `n_pad` rows of ones, see its function."""
        _check_padding(n_pad)
        total = n_pad + self._sum((n_pad + self.hits) / (n_pad + self.rows))
        count = n_pad + self.n_positives
        out: Floats = np.full(len(count), np.nan)
        return np.divide(total, count, out=out, where=count > 0)

    def auc(self) -> Floats:
        """ROC-AUC of each class, see its function."""
        negatives = self.n_rows - self.n_positives
        higher, at_or_above = self.higher - self.higher_hits, self.rows - self.hits
        pairs = (self.n_positives * negatives).astype(np.float64)
        won = pairs - self._sum((higher + at_or_above) / 2)
        out: Floats = np.full(len(pairs), np.nan)
        return np.divide(won, pairs, out=out, where=pairs > 0)

    def padded_cmap(self, n_pad: int = 5) -> float:
        """Padded class-mean average precision, see its function."""
        values = self.average_precision(n_pad)
        if np.isnan(values).any():
            raise OutputsError(
                "average precision is undefined for a class without positives",
                where=f"column {int(np.flatnonzero(np.isnan(values))[0])}",
                got=f"n_pad={n_pad}",
                fix="pad with at least one row, or use cmap_min5",
            )
        return float(values.mean())

    def macro_auc(self) -> float:
        """ROC-AUC averaged over classes, see its function."""
        values = self.auc()
        defined = ~np.isnan(values)
        if not defined.any():
            raise OutputsError(
                "no class has both a positive and a negative row, so there is no AUC",
                got=f"{values.size} classes",
                expected="at least one class with both",
            )
        return float(values[defined].mean())

    def cmap_min5(self) -> float:
        """Unpadded average precision of frequent classes, see its function."""
        frequent = self.n_positives >= MIN_POSITIVES
        if not frequent.any():
            raise OutputsError(
                "no class has 5 positives, so cmap_min5 is undefined",
                got=f"at most {int(self.n_positives.max())} positives in a class",
                fix="score more recordings, or leave cmap_min5 out",
            )
        return float(self.average_precision(0)[frequent].mean())

    def _sum(self, values: Floats) -> Floats:
        sums = np.bincount(self.of_class, values, minlength=len(self.n_positives))
        return sums.astype(np.float64)


def rank_positives(targets: npt.ArrayLike, probs: npt.ArrayLike) -> ClassRanks:
    """The ranks of the positives of each class, which several scores then share."""
    truth, scores = check_tables(targets, probs)
    n_positives = truth.sum(axis=0).astype(np.int64)
    counts: tuple[list[npt.NDArray[np.int64]], ...] = ([], [], [], [])
    ascending = np.sort(np.ascontiguousarray(scores.T), axis=1)
    for column in np.flatnonzero(n_positives):
        everything = ascending[column]
        own = np.sort(scores[truth[:, column], column])
        for place, ranked in ((0, everything), (2, own)):
            counts[place].append(len(ranked) - np.searchsorted(ranked, own, "left"))
            counts[place + 1].append(len(ranked) - np.searchsorted(ranked, own, "right"))
    none = np.zeros(0, np.int64)
    rows, higher, hits, higher_hits = (np.concatenate([none, *part]) for part in counts)
    of_class = np.repeat(np.arange(len(n_positives)), n_positives)
    return ClassRanks(len(truth), n_positives, of_class, rows, higher, hits, higher_hits)


def padded_cmap(targets: npt.ArrayLike, probs: npt.ArrayLike, n_pad: int = 5) -> float:
    """Padded class-mean average precision: the BirdCLEF metric of 2023, 0 to 1.

    `n_pad` rows of ones are appended to truth and prediction, then average precision is averaged
    over all C classes. A class without positives counts 1.0. With n_pad=0 such a class has no
    average precision, and OutputsError is raised. Source: BirdCLEF 2023 evaluation page.
    """
    return rank_positives(targets, probs).padded_cmap(n_pad)


def macro_auc(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """ROC-AUC averaged over the classes with at least one positive and one negative row, 0 to 1.

    The BirdCLEF metric since 2024. Raises OutputsError when no class has both.
    """
    return rank_positives(targets, probs).macro_auc()


def cmap_min5(targets: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Average precision, unpadded, averaged over the classes with at least 5 positives, 0 to 1.

    Raises OutputsError when no class has 5.
    """
    return rank_positives(targets, probs).cmap_min5()


def constant_floor(targets: npt.ArrayLike, n_pad: int = 5) -> float:
    """The padded cmAP of a predictor that says the same for every row: what knowing nothing scores.

    In closed form, one tie of N rows below the padding: (n_pad + n·(n_pad+n)/(n_pad+N))/(n_pad+n)
    for a class with n positives.
    """
    truth = check_targets(targets)
    _check_padding(n_pad)
    if n_pad == 0:
        return padded_cmap(truth, np.zeros(truth.shape), 0)
    positives = truth.sum(axis=0).astype(np.float64)
    tied = positives * (n_pad + positives) / (n_pad + len(truth))
    return float(((n_pad + tied) / (n_pad + positives)).mean())


def class_average_precision(targets: npt.ArrayLike, probs: npt.ArrayLike, n_pad: int = 5) -> Floats:
    """Average precision of each class after `n_pad` rows of ones were appended: [C], 0 to 1.

    Ties as in sklearn: rows of equal score enter together, at the precision after the last of
    them. A class without positives gives 1.0 with padding, NaN without.
    Source: AP = Σ (recall_k − recall_{k−1})·precision_k, scikit-learn's average_precision_score.
    """
    return rank_positives(targets, probs).average_precision(n_pad)


def class_auc(targets: npt.ArrayLike, probs: npt.ArrayLike) -> Floats:
    """ROC-AUC of each class: [C], 0 to 1, ties count one half; NaN without positives or negatives.

    Source: Mann–Whitney U divided by the number of positive-negative pairs.
    """
    return rank_positives(targets, probs).auc()


def top1_accuracy(primary_index: npt.ArrayLike, probs: npt.ArrayLike) -> float:
    """Share of rows whose highest class is the primary one, 0 to 1.

    `primary_index` [N] holds the column of each row's primary label. A primary class tied for the
    highest with k−1 others counts 1/k, so a constant predictor scores 1/C.
    """
    scores = check_probs(probs)
    primary = np.asarray(primary_index)
    if primary.shape != (len(scores),) or not np.issubdtype(primary.dtype, np.integer):
        raise OutputsError(
            "primary_index does not fit the scores",
            got=f"{primary.dtype} of shape {primary.shape}",
            expected=f"integers of shape ({len(scores)},)",
        )
    outside = (primary < 0) | (primary >= scores.shape[1])
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise OutputsError(
            "a primary label is not a class of the scores",
            where=f"row {row}",
            got=int(primary[row]),
            expected=f"0 to {scores.shape[1] - 1}",
        )
    highest = scores == scores.max(axis=1, keepdims=True)
    hits = highest[np.arange(len(scores)), primary]
    return float((hits / highest.sum(axis=1)).mean())


def _check_padding(n_pad: int) -> None:
    if n_pad < 0:
        raise OutputsError("the padding is negative", got=n_pad, expected="0 rows or more")
