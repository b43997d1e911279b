"""What choosing among steps of post-processing is worth on files that did not choose.

The best of several steps looks better on the files that they were tried on than it is. So the
choice is made on half of the files and scored on the other half, many times over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError
from birdlab.evaluate.estimators import fold_means
from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.evaluate.metrics import rank_positives

Tables = Mapping[Cell, FoldTable]
NONE = "none"
MIN_GROUPS = 6
"""Halves of fewer files say nothing of each other."""
N_SPLITS = 10


@dataclass(frozen=True)
class HalfChoice:
    """The gain of what half of the files choose, on the half that chose and on the other one.

    Means over all halves; chosen: how often each was, the most frequent first.
    """

    gain_there: float
    gain_elsewhere: float
    chosen: Mapping[str, int]
    n_halves: int


def mean_score(
    tables: Tables, metric: str, rows: Mapping[Cell, npt.NDArray[np.bool_]] | None = None
) -> float:
    """The mean over folds of the means over seeds of the score of each table, of some `rows` of it.

    Raises OutputsError where a table has nothing that the metric counts.
    """
    scores = {}
    for cell, table in tables.items():
        ranks = table.ranks
        if rows is not None:
            ranks = rank_positives(table.targets[rows[cell]], table.probs[rows[cell]])
        scores[cell] = float(getattr(ranks, metric)())
    return float(np.mean(fold_means(scores)))


def choose_on_halves(
    candidates: Mapping[str, Tables], group: Mapping[str, str], metric: str, *, seed: int = 0
) -> HalfChoice | None:
    """What choosing the candidate of the highest score gives, NONE being one of them.

    group: what rows hang together by, by their names; halves are of groups. None for fewer than
    MIN_GROUPS groups, and where a half has nothing that the metric counts.
    """
    names = sorted(set(group.values()))
    if len(names) < MIN_GROUPS:
        return None
    place = {name: i for i, name in enumerate(names)}
    of_rows = {
        cell: np.array([place[group[row]] for row in table.recordings])
        for cell, table in candidates[NONE].items()
    }
    rng, there, elsewhere, chosen = np.random.default_rng(seed), [], [], []
    for _ in range(N_SPLITS):
        first = np.isin(np.arange(len(names)), rng.permutation(len(names))[: len(names) // 2])
        for half in (first, ~first):
            own = {cell: half[places] for cell, places in of_rows.items()}
            other = {cell: ~rows for cell, rows in own.items()}
            try:
                scores = {name: mean_score(t, metric, own) for name, t in candidates.items()}
                best = max(scores, key=lambda name: scores[name])
                gain = mean_score(candidates[best], metric, other)
                gain -= mean_score(candidates[NONE], metric, other)
            except OutputsError:
                return None
            chosen.append(best)
            there.append(scores[best] - scores[NONE])
            elsewhere.append(gain)
    counts = {name: chosen.count(name) for name in candidates if name in chosen}
    often = dict(sorted(counts.items(), key=lambda item: -item[1]))
    return HalfChoice(float(np.mean(there)), float(np.mean(elsewhere)), often, len(chosen))
