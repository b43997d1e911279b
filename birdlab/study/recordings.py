"""How far a difference of two runs depends on which recordings were validated.

The recordings of a recordist sound alike, so it is recordists that are drawn: each gets an Exp(1)
weight, the same in all folds, and average precision is taken with these weights. No weight is 0, so
no class loses its positives; a bootstrap that draws recordings drops rare classes, which then
score 1. Draws of classes with few recordists scatter too little: `shortfall` makes up for it.
Source: Rubin (1981), Annals of Statistics 9, the Bayesian bootstrap; the padded cmAP of BirdCLEF
2023 with weighted rows, its padding rows at weight 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError
from birdlab.evaluate.score import N_PAD, FoldTable
from birdlab.study.contrasts import Floats

MIN_RECORDISTS = 5
"""Fewer people tell nothing of what another one would do."""

Cell = tuple[int, int]
Pairs = Mapping[Cell, tuple[FoldTable, FoldTable]]
Measure = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.float32], Floats], Floats]
"""(targets, probs, weights [rows, draws]) -> the score of each class in each draw."""


@dataclass(frozen=True)
class RecordingInterval:
    """The difference of two runs and its 95 % interval over other recordings like these.

    delta: padded cmAP of the arm, mean over folds, minus that of the base. The networks are held
    fixed: what another seed or another training set would do is not in the interval.
    """

    delta: float
    low: float
    high: float
    n_recordists: int
    n_recordings: int
    n_draws: int

    @property
    def sentence(self) -> str:
        """It in words."""
        over = f"{self.n_recordings:,} recordings of {self.n_recordists:,} recordist" + (
            "" if self.n_recordists == 1 else "s"
        )
        found = f"Over {over} the difference is {self.delta:+.4f}"
        if self.n_recordists < MIN_RECORDISTS:
            return f"{found}: too few people to say what other recordings would do."
        if self.low == self.high:
            return f"{found}, whatever the recordings weigh."
        told = (
            "other recordings could turn it round"
            if self.low <= 0 <= self.high
            else "it does not hang on which recordings these are"
        )
        return f"{found} ({self.low:+.4f} to {self.high:+.4f}): {told}."


def weigh_recordists(
    pairs: Pairs,
    recordists: Mapping[str, str],
    *,
    n_draws: int = 1000,
    seed: int = 0,
    measure: Measure | None = None,
) -> RecordingInterval:
    """The difference of an arm to its base with an interval over recordists.

    pairs: the tables of base and arm for each (fold, seed), on the same recordings and classes;
    recordists: who made a recording, by its name; one that is not in it stands for itself.
    `measure` scores each class of a table and is padded cmAP without. Raises DataError for no
    pairs, or tables that do not pair.
    """
    check_pairs(pairs)
    measure = measure or weighted_precisions
    draws = Draws.of([base for base, _ in pairs.values()], recordists, n_draws, seed)
    n_seeds = Counter(fold for fold, _ in pairs)
    total = np.zeros(n_draws + 1)
    for (fold, _), (base, arm) in pairs.items():
        weights = draws.of_rows(base.recordings)
        delta = measure(arm.targets, arm.probs, weights)
        delta = delta - measure(base.targets, base.probs, weights)
        wider = shortfall(draws.count(base.targets, base.recordings))[:, None]
        delta = delta[:, :1] + wider * (delta - delta[:, :1])
        total += delta.mean(axis=0) / (len(n_seeds) * n_seeds[fold])
    low, high = np.quantile(total[1:], [0.025, 0.975])
    return RecordingInterval(
        float(total[0]), float(low), float(high), len(draws.weights), len(draws.row), n_draws
    )


def check_pairs(pairs: Pairs) -> None:
    """Raise DataError unless every two tables have the same recordings, classes and truth."""
    if not pairs:
        raise DataError("two runs share no fold and seed", fix="compare runs of the same folds")
    for (fold, seed), (base, arm) in pairs.items():
        for name in ("recordings", "codes"):
            if getattr(base, name) != getattr(arm, name):
                raise DataError(
                    f"two runs were scored on other {name}",
                    where=f"fold {fold}, seed {seed}",
                    fix="take the rows and classes that both have, in one order",
                )
        if not np.array_equal(base.targets, arm.targets):
            raise DataError(
                "two runs were scored on other labels",
                where=f"fold {fold}",
                fix="compare runs of the same data",
            )


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights of recordists [recordists, 1 + draws]; the first column is 1, the score as it is.

    row: the place of a recording's recordist among them.
    """

    weights: Floats
    row: Mapping[str, int]

    @classmethod
    def of(
        cls, tables: Iterable[FoldTable], recordists: Mapping[str, str], n_draws: int, seed: int
    ) -> Draws:
        """The weights for all recordings of some tables; equal seeds give equal weights."""
        recordings = sorted({name for table in tables for name in table.recordings})
        people = {
            name: ("by", recordists[name]) if name in recordists else ("", name)
            for name in recordings
        }
        place = {person: i for i, person in enumerate(sorted(set(people.values())))}
        weights = np.ones((len(place), n_draws + 1))
        weights[:, 1:] = np.random.default_rng(seed).exponential(size=(len(place), n_draws))
        return cls(weights, {name: place[person] for name, person in people.items()})

    def of_rows(self, recordings: Iterable[str]) -> Floats:
        """The weights of recordings: [rows, 1 + draws]."""
        return self.weights[[self.row[name] for name in recordings]]

    def count(
        self, targets: npt.NDArray[np.bool_], recordings: Sequence[str]
    ) -> npt.NDArray[np.int64]:
        """How many recordists each class has among the positives of [recordings, classes]."""
        people = np.array([self.row[name] for name in recordings])
        return np.array([len(np.unique(people[of])) for of in targets.T])


def shortfall(n_recordists: npt.NDArray[np.int64]) -> Floats:
    """By what the draws of a class scatter too little, from its number of recordists: > 1.

    The Bayesian bootstrap of a mean of n values has the variance of the mean times
    (n - 1) / (n + 1). One recordist is taken for two, since alone he says nothing of scatter.
    """
    n = np.maximum(n_recordists, 2)
    return np.asarray(np.sqrt((n + 1) / (n - 1)))


def weighted_precisions(
    targets: npt.NDArray[np.bool_],
    probs: npt.NDArray[np.float32],
    weights: Floats,
    n_pad: int = N_PAD,
) -> Floats:
    """Padded average precision of each class under each column of weights: [classes, draws].

    targets, probs: [rows, classes], scores below 1; weights: [rows, draws], > 0. With weights of
    1 it is `evaluate.metrics.class_average_precision`: ties enter together, and a class without
    positives gives 1. Source: sum of (recall_k - recall_k-1) * precision_k over rows by score, as
    average_precision_score of scikit-learn with `sample_weight`.
    """
    values = np.ones((targets.shape[1], weights.shape[1]))
    for column in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(probs[:, column])[::-1]
        ranked, truth = probs[order, column], targets[order, column]
        ends_of_ties = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
        positives = np.flatnonzero(truth)
        tie = np.searchsorted(ends_of_ties, positives)
        ties, first = np.unique(tie, return_index=True)
        ends = ends_of_ties[ties]
        rows = order[: ends[-1] + 1]
        above = n_pad + np.add.reduceat(weights[rows], np.r_[0, ends[:-1] + 1]).cumsum(axis=0)
        right = np.add.reduceat(weights[order[positives]], first)
        found = n_pad + right.cumsum(axis=0)
        values[column] = (n_pad + (right * found / above).sum(axis=0)) / found[-1]
    return values


def weighted_aucs(
    targets: npt.NDArray[np.bool_], probs: npt.NDArray[np.float32], weights: Floats
) -> Floats:
    """ROC-AUC of each class under each column of weights: [classes, draws], ties one half.

    As `weighted_precisions`; NaN for a class without positives or negatives. Source: the weight
    of the pairs that are in order over that of all pairs of a positive and a negative.
    """
    values = np.full((targets.shape[1], weights.shape[1]), np.nan)
    for column in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):
        order = np.argsort(probs[:, column])
        ranked, positive = probs[order, column], targets[order, column]
        heavy = weights[order]
        negatives = np.r_[
            np.zeros((1, heavy.shape[1])), (heavy * ~positive[:, None]).cumsum(axis=0)
        ]
        own = ranked[positive]
        lower = negatives[np.searchsorted(ranked, own, "left")]
        upto = negatives[np.searchsorted(ranked, own, "right")]
        right = heavy[positive]
        values[column] = (right * (lower + upto)).sum(axis=0) / (
            2 * right.sum(axis=0) * negatives[-1]
        )
    return values
