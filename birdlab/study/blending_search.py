"""Weights of the highest score, by a climb over whole-number weights that starts at several places.

The metric is a step function of the weights, so it has no gradient. A climb changes one weight at
a time by 16, 8, 4 and at last 2 (equal weights are 16 each) and keeps what scores higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from birdlab.study.blending_scores import BlendScorer

Ints = npt.NDArray[np.int64]

EQUAL = 16
STEPS = (16, 8, 4, 2)
HIGHER = 1e-9
"""A smaller gain is rounding."""
MOST_ROUNDS = 20


def search_weights(scorer: BlendScorer, folds: Sequence[int]) -> Ints:
    """The weights [M], whole numbers of which one is above 0, of the highest score on these folds.

    It is found from equal weights, from weights by the order of the members' own scores, and from
    the best member; of equal scores the first counts, so weights leave the equal ones for a gain
    only. The same on every call. That nothing scores higher is not proven.
    """
    starts = _starts(scorer, folds)
    found = [_climb(scorer, folds, start) for start in starts]
    best = 0
    for i in range(1, len(found)):
        if scorer.score(found[i], folds) > scorer.score(found[best], folds) + HIGHER:
            best = i
    return found[best]


def _starts(scorer: BlendScorer, folds: Sequence[int]) -> list[Ints]:
    n = scorer.n_members
    equal = np.full(n, EQUAL, np.int64)
    if n == 1:
        return [equal]
    alone = [scorer.score(row, folds) for row in np.eye(n)]
    order = np.argsort(-np.asarray(alone), kind="stable")
    by_order = np.zeros(n, np.int64)
    by_order[order] = np.round(EQUAL * np.linspace(1, 0, n)).astype(np.int64)
    return [equal, by_order, equal * (np.arange(n) == order[0])]


def _climb(scorer: BlendScorer, folds: Sequence[int], start: Ints) -> Ints:
    weights, value = start, scorer.score(start, folds)
    for step in STEPS:
        for _ in range(MOST_ROUNDS):
            before = value
            for member in range(len(weights)):
                for change in (step, -step):
                    trial = weights.copy()
                    trial[member] = max(0, trial[member] + change)
                    if not trial.any() or (trial == weights).all():
                        continue
                    reached = scorer.score(trial, folds)
                    if reached > value + HIGHER:
                        weights, value = trial, reached
            if value <= before + HIGHER:
                break
    return weights
