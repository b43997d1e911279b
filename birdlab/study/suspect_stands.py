"""What each model says of the recordings of a run, every class read against itself."""

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

LEAST = 1e-6
"""Probabilities nearer to 0 or 1 count as this far from it: a logit is never infinite."""


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

    def score(self, probs: Floats) -> Floats:
        """ROC-AUC of each class over what one model heard; NaN where that says nothing."""
        heard = ~np.isnan(probs).all(axis=1)
        auc = np.full(len(self.codes), np.nan)
        if heard.any():
            known = ~np.isnan(probs[heard]).any(axis=0)
            auc[known] = class_auc(self.labels[heard][:, known], probs[heard][:, known])
        return auc


def iter_models(runs: Runs) -> Iterator[tuple[str, int, Mapping[Cell, FoldTable]]]:
    """Every run with every seed of it: a model for each recording, that of its fold."""
    for name, run in runs.items():
        for seed in sorted({seed for _, seed in run}):
            yield name, seed, run


def stand_classes(labels: Bools, probs: Floats) -> Floats:
    """Where each class stands in each recording: 0 as in those without the label, 1 as with it.

    labels, probs: [rows, classes], NaN for what a model did not hear. Means are those of the logits
    of all other recordings. NaN where no other recording has the label, or none is without it, or
    where those with it stand no higher.
    """
    logits = logit(np.clip(probs, LEAST, 1 - LEAST))
    heard = ~np.isnan(logits)
    filled = np.where(heard, logits, 0.0)
    means = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for of in (labels & heard, ~labels & heard):
            total = (filled * of).sum(axis=0) - filled * of
            means.append(total / (of.sum(axis=0) - of))
        gap = means[0] - means[1]
        return np.asarray(np.where(gap > 0, (logits - means[1]) / gap, np.nan))


@dataclass(frozen=True, eq=False)
class Heard:
    """What one model hears in each recording: [rows].

    top: the class that stands highest of those that are no label, -1 where the model says nothing;
    margin: how far it stands above the highest label, NaN there.
    """

    top: npt.NDArray[np.int64]
    margin: Floats


def hear_classes(truth: Truth, stands: Floats, judged: Bools) -> Heard:
    """What a model hears where `judged` [classes] says which classes can be heard instead.

    It says nothing of a recording whose primary class does not stand anywhere.
    """
    rows = np.arange(len(truth.names))
    other = np.where(judged & ~truth.labels & ~np.isnan(stands), stands, -np.inf)
    own = np.where(truth.labels & ~np.isnan(stands), stands, -np.inf)
    top = other.argmax(axis=1)
    best = other[rows, top]
    says = np.isfinite(best) & ~np.isnan(stands[rows, truth.primary]) & judged[truth.primary]
    with np.errstate(invalid="ignore"):
        margin = np.where(says, best - own.max(axis=1), np.nan)
    return Heard(np.where(says, top, -1), margin)
