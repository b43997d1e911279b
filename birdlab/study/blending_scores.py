"""Scores of blends at any weights, fast enough to search for weights: the rows that count, cached.

A row that every member puts below all positives of a class in a fold is below them in every blend,
since a blend rises with each of its members; so it can change no rank of a positive and is left
out once and for all. What is left is sorted as one array for all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.blends import Blend, rank_rows
from birdlab.evaluate.metrics import HIGHEST_PROB, ClassRanks
from birdlab.evaluate.score import N_PAD

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Metric = Literal["padded_cmap", "macro_auc"]
CLEAR = 1e-6
"""What float32 may still make equal, relative to the values."""
LOG_OF_NONE = -1e30
"""For a probability of 0: any weight on it makes a geometric blend 0, and no weight nothing."""
LOG_OF_ZERO = -1e3
"""A logarithm under that of any float32; what is below it is 0 and a tie."""
METRICS: tuple[Metric, ...] = ("padded_cmap", "macro_auc")


@dataclass(frozen=True, eq=False)
class FoldRows:
    """The rows of one fold that can change its score, class after class, for one kind of blend.

    values: [M, K] what is summed over members, 0 for a class that a member does not know; known:
    [M, C]; column: [K] the class of each, rising; positives: [P] which of the K are labelled so;
    n_positives: [C]; n_rows: of the whole fold.
    """

    blend: Blend
    values: Floats
    known: Floats
    column: Ints
    positives: Ints
    n_positives: Ints
    n_rows: int

    def ranks(self, weights: Floats) -> ClassRanks:
        """The ranks of the positives in the blend with one weight >= 0 per member, sum 1.

        A class that no member with a weight knows is a tie of all rows.
        """
        total, share = weights @ self.values, weights @ self.known
        if self.blend.kind == "geometric":
            np.maximum(total, LOG_OF_ZERO, out=total)
        of_class = self.column[self.positives]
        kept = self._reach_positives(total, share, of_class)
        keys = _keys(self.column[kept], self._blend(total[kept], share[self.column[kept]]))
        own = _keys(of_class, self._blend(total[self.positives], share[of_class]))
        rows, higher = _count(np.sort(keys), own, of_class)
        hits, higher_hits = _count(np.sort(own), own, of_class)
        tied = share[of_class] <= 0
        rows[tied], higher[tied] = self.n_rows, 0
        return ClassRanks(self.n_rows, self.n_positives, of_class, rows, higher, hits, higher_hits)

    def _reach_positives(self, total: Floats, share: Floats, of_class: Ints) -> Ints:
        """Which of the K are not clearly below all positives of their class."""
        lowest = np.zeros(len(share))
        first = np.flatnonzero(np.diff(of_class, prepend=-1))
        if len(first):
            lowest[of_class[first]] = np.minimum.reduceat(total[self.positives], first)
        clear = lowest - CLEAR * ((1 + self.blend.power) * np.abs(lowest) + share)
        return np.flatnonzero(total >= clear[self.column])

    def _blend(self, total: Floats, share: Floats) -> Floats:
        mean = np.divide(total, share, out=np.zeros_like(total), where=share > 0)
        return undo(mean, self.blend)


def _keys(column: Ints, probs: Floats) -> Keys:
    """Class and probability as one number each, in the order of class, then float32 probability."""
    single = np.minimum(probs.astype(np.float32), HIGHEST_PROB)
    return (column.astype(np.uint64) << np.uint64(32)) | single.view(np.uint32)


def _count(ranked: Keys, own: Keys, of_class: Ints) -> tuple[Ints, Ints]:
    """How many of the ranked keys of the same class are at least as high as each own, how many
    higher."""
    end = np.searchsorted(ranked, (of_class + 1).astype(np.uint64) << np.uint64(32))
    at_least = end - np.searchsorted(ranked, own, "left")
    return at_least, end - np.searchsorted(ranked, own, "right")


def prepare(probs: npt.NDArray[np.float32], blend: Blend) -> Floats:
    """What a blend sums over members, of [R, C] probabilities of one member in one fold."""
    if blend.kind == "rank":
        return rank_rows(probs)
    values = np.asarray(probs, np.float64)
    if blend.kind == "power":
        return np.asarray(values**blend.power, np.float64)
    if blend.kind == "geometric":
        return np.log(values, out=np.full_like(values, LOG_OF_NONE), where=values > 0)
    return values


def undo(mean: Floats, blend: Blend) -> Floats:
    """The blended probabilities, of the weighted mean of what `prepare` gives."""
    if blend.kind == "power":
        return np.sqrt(mean) if blend.power == 2 else np.asarray(mean ** (1 / blend.power))
    return np.exp(mean) if blend.kind == "geometric" else mean


def select_rows(
    targets: npt.NDArray[np.bool_],
    probs: npt.NDArray[np.float32],
    known: npt.NDArray[np.bool_],
    blend: Blend,
) -> FoldRows:
    """The rows of a fold that count: targets [R, C], probs [M, R, C], known [M, C]."""
    values = np.stack([prepare(own, blend) for own in probs])
    found: list[Floats] = []
    columns: list[Ints] = []
    marks: list[npt.NDArray[np.bool_]] = []
    for c in np.flatnonzero(targets.any(axis=0)):
        truth, own = targets[:, c], values[:, :, c]
        told = own[known[:, c]]
        counts = truth.copy()
        if len(told):
            counts |= (told >= told[:, truth].min(axis=1, keepdims=True)).any(axis=0)
            none = (told == LOG_OF_NONE).any(axis=0)
            counts |= none & none[truth].any()  # a geometric blend of 0 ties with another
        found.append(np.where(known[:, c, None], own[:, counts], 0.0))
        columns.append(np.full(int(counts.sum()), c, np.int64))
        marks.append(truth[counts])
    return FoldRows(
        blend,
        np.concatenate([np.zeros((len(probs), 0)), *found], axis=1),
        known.astype(np.float64),
        np.concatenate([np.zeros(0, np.int64), *columns]),
        np.flatnonzero(np.concatenate([np.zeros(0, bool), *marks])),
        targets.sum(axis=0).astype(np.int64),
        len(targets),
    )


@dataclass(frozen=True, eq=False)
class BlendScorer:
    """The score of blends of members in each fold, for any weights; each is computed once."""

    folds: tuple[FoldRows, ...]
    metric: Metric = "padded_cmap"
    known_scores: dict[tuple[bytes, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise OutputsError(
                "weights cannot be fitted for this metric",
                got=self.metric,
                expected=", ".join(METRICS),
            )

    @property
    def n_members(self) -> int:
        """How many members there are."""
        return len(self.folds[0].values)

    def score_folds(self, weights: npt.ArrayLike, folds: Sequence[int] | None = None) -> Floats:
        """The score of each fold, all or those at these places; weights: [M], 0 or more."""
        w = np.asarray(weights, np.float64)
        w = w / w.sum()
        places = range(len(self.folds)) if folds is None else folds
        return np.array([self._score(w, place) for place in places])

    def score(self, weights: npt.ArrayLike, folds: Sequence[int] | None = None) -> float:
        """The mean of these over folds."""
        return float(self.score_folds(weights, folds).mean())

    def _score(self, weights: Floats, place: int) -> float:
        key = (weights.tobytes(), place)
        if key not in self.known_scores:
            ranks = self.folds[place].ranks(weights)
            self.known_scores[key] = (
                ranks.padded_cmap(N_PAD) if self.metric == "padded_cmap" else ranks.macro_auc()
            )
        return self.known_scores[key]


def build_scorer(
    targets: npt.NDArray[np.bool_],
    probs: npt.NDArray[np.float32],
    known: npt.NDArray[np.bool_],
    fold: npt.NDArray[np.int64],
    blend: Blend,
    metric: Metric = "padded_cmap",
) -> BlendScorer:
    """The scorer of members: targets [R, C], probs [M, R, C], known [M, C], fold [R].

    Ranks, of a rank blend too, are within a fold. Raises OutputsError for another metric.
    """
    rows = [fold == number for number in np.unique(fold)]
    return BlendScorer(
        tuple(select_rows(targets[own], probs[:, own], known, blend) for own in rows), metric
    )
