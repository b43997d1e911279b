"""What each model says of the recordings of a run, every class read against itself.

The logits of a class in recordings without the label, and in those that bear it as their primary
one, are taken as two normal distributions of one variance. The evidence for a label is the log of
the ratio of their densities: 0 half way between the means, and near 0 everywhere where a model does
not know the class. So scales of classes do not matter, and unknown classes contradict nobody.
Source: Fisher (1936), Annals of Eugenics 7, the linear discriminant of one variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.evaluate.metrics import class_auc

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Runs = Mapping[str, Mapping[Cell, FoldTable]]
"""The held-out recordings of runs by name, (fold, seed)."""

Networks = Mapping[str, Mapping[Cell, str]]
"""Which network each table is of, by run and (fold, seed)."""

LEAST = 1e-6
"""Probabilities nearer to 0 or 1 count as this far from it: a logit is never infinite."""
LEAST_SD = 0.1
"""Logits that scatter less count as this much: their ratio would be endless."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The recordings that a run held out: names, folds, primary class, labels [rows, classes]."""

    names: tuple[str, ...]
    folds: npt.NDArray[np.int64]
    codes: tuple[str, ...]
    primary: npt.NDArray[np.int64]
    labels: Bools

    @classmethod
    def of(cls, run: Mapping[Cell, FoldTable]) -> Truth:
        """Each recording once, in the order of the folds; nothing at all for no table."""
        first: dict[int, FoldTable] = {}
        for (fold, _), table in sorted(run.items()):
            first.setdefault(fold, table)
        parts = list(first.values())
        if not parts:
            none = np.zeros(0, np.int64)
            return cls((), none, (), none, np.zeros((0, 0), bool))
        return cls(
            tuple(name for part in parts for name in part.recordings),
            np.repeat(np.array(list(first), np.int64), [len(part.recordings) for part in parts]),
            parts[0].codes,
            np.concatenate([part.primary for part in parts]),
            np.concatenate([part.targets for part in parts]),
        )

    def read(self, run: Mapping[Cell, FoldTable], seed: int) -> Floats:
        """What the models of one seed say: [rows, classes], NaN where they say nothing.

        They say nothing of a recording that they did not hold out or know under another primary
        label, nor of a class that they do not have.
        """
        place = {name: i for i, name in enumerate(self.names)}
        probs = np.full(self.labels.shape, np.nan)
        for (_, of), table in run.items():
            if of != seed:
                continue
            column = {code: i for i, code in enumerate(table.codes)}
            mine = np.array([i for i, code in enumerate(self.codes) if code in column], np.int64)
            theirs = np.array([column[c] for c in self.codes if c in column], np.int64)
            for row, name in enumerate(table.recordings):
                at = place.get(name, -1)
                if at >= 0 and table.codes[table.primary[row]] == self.codes[self.primary[at]]:
                    probs[at, mine] = table.probs[row, theirs]
        return probs

    @property
    def is_primary(self) -> Bools:
        """Which class is the primary label: [rows, classes]."""
        return np.asarray(self.primary[:, None] == np.arange(len(self.codes)))

    def score(self, probs: Floats) -> Floats:
        """ROC-AUC of each class, its primary label against none, over what one model heard.

        NaN where that says nothing: no recording with it, or none without.
        """
        auc = np.full(len(self.codes), np.nan)
        for c, own in enumerate(self.is_primary.T):
            rows = (own | ~self.labels[:, c]) & ~np.isnan(probs[:, c])
            if own[rows].any() and not own[rows].all():
                auc[c] = class_auc(own[rows, None], probs[rows, c][:, None])[0]
        return auc


def iter_models(runs: Runs) -> Iterator[tuple[str, int, Mapping[Cell, FoldTable]]]:
    """Every run with every seed of it: a model for each recording, that of its fold."""
    for name, run in runs.items():
        for seed in sorted({seed for _, seed in run}):
            yield name, seed, run


def repeated_models(runs: Runs, networks: Networks) -> set[tuple[str, int]]:
    """The (run, seed) whose networks all speak for an earlier one, as with other post-processing.

    A table of which the network is not known is one of its own.
    """
    seen, again = set[str](), set[tuple[str, int]]()
    for name, seed, run in iter_models(runs):
        own = {networks.get(name, {}).get(cell, "") for cell in run if cell[1] == seed}
        if "" not in own and own <= seen:
            again.add((name, seed))
        seen |= own
    return again


def weigh_labels(truth: Truth, probs: Floats) -> Floats:
    """The evidence for each label in each recording, in nats: [rows, classes].

    probs: [rows, classes], NaN for what a model did not hear. Means are those of the other
    recordings, so that a recording does not speak for itself. NaN where no other has the label, or
    none is without it; 0 where those with it stand no higher.
    """
    logits = logit(np.clip(probs, LEAST, 1 - LEAST))
    heard = ~np.isnan(logits)
    filled = np.where(heard, logits, 0.0)
    (with_it, spread), (without, noise) = (
        _mean_others(filled, of & heard) for of in (truth.is_primary, ~truth.labels)
    )
    within = np.maximum(np.sqrt((spread + noise) / 2), LEAST_SD)
    gap = np.maximum(with_it - without, 0) / within
    return np.asarray(gap * (logits - (with_it + without) / 2) / within)


def _mean_others(logits: Floats, of: Bools) -> tuple[Floats, Floats]:
    """Of a group of rows: the mean of all others [rows, classes], the variance [classes].

    A mean of none is NaN.
    """
    n = of.sum(axis=0)
    total = (logits * of).sum(axis=0)
    others = n - of
    means = np.full(logits.shape, np.nan)
    np.divide(total - logits * of, others, out=means, where=others > 0)
    return means, ((logits - total / np.maximum(n, 1)) ** 2 * of).sum(axis=0) / np.maximum(n, 1)


@dataclass(frozen=True, eq=False)
class Heard:
    """What one model hears in each recording: [rows].

    top: the class with the most evidence of those that are no label, -1 where the model says
    nothing; margin: how much more than the label with the most, in nats, NaN there.
    """

    top: npt.NDArray[np.int64]
    margin: Floats


def hear_classes(truth: Truth, evidence: Floats, judged: Bools) -> Heard:
    """What a model hears where `judged` [classes] says which classes can be heard instead.

    It says nothing of a recording of whose primary class it can say nothing.
    """
    rows = np.arange(len(truth.names))
    known = ~np.isnan(evidence)
    other = np.where(judged & ~truth.labels & known, evidence, -np.inf)
    own = np.where(truth.labels & known, evidence, -np.inf).max(axis=1, initial=-np.inf)
    top = other.argmax(axis=1) if other.size else rows
    says = np.isfinite(other[rows, top]) & known[rows, truth.primary] & judged[truth.primary]
    margin = np.full(len(rows), np.nan)
    margin[says] = other[rows, top][says] - own[says]
    return Heard(np.where(says, top, -1), margin)
