"""A race made visible: which arm got which rounds, and where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, eq=False)
class Rounds:
    """A row per arm and round: arm, round (from 1), seed, n_folds (scored), mean, state.

    state: run (the arm was scored on every fold of the round), stopped (its last round, after
    which the race stopped it) or saved (not trained). `reasons`: what was said of each arm that
    was stopped. Arms come as in the ranking, the stopped ones last.
    """

    table: pd.DataFrame
    reasons: Mapping[str, str]
    n_rounds: int


def get_rounds(
    scores: pd.DataFrame, stopped: Mapping[str, str], seeds: Sequence[int], arms: Sequence[str]
) -> Rounds:
    """The rounds of a race: one seed of every fold each.

    scores: arm, fold, seed, score, of stopped arms as well; seeds: as planned, in order; arms: all
    of them in the order to show.
    """
    by_arm = scores.groupby(["arm", "seed"])["score"].agg(["size", "mean"])
    rows = []
    for arm in arms:
        done = [seed for seed in seeds if (arm, seed) in by_arm.index]
        for number, seed in enumerate(seeds, 1):
            there = seed in done
            size, mean = by_arm.loc[(arm, seed)] if there else (0, float("nan"))
            last = arm in stopped and bool(done) and seed == done[-1]
            state = "saved" if not there else "stopped" if last else "run"
            rows.append((arm, number, seed, int(size), float(mean), state))
    columns = ["arm", "round", "seed", "n_folds", "mean", "state"]
    return Rounds(pd.DataFrame(rows, columns=columns), dict(stopped), len(seeds))
