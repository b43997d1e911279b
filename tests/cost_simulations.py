"""Sweeps whose true gains and costs are known: what prices by verdicts and by bare ratios say.

Run it for the figures of docs/costs.md: `python tests/cost_simulations.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from birdlab.study.arm_costs import CellCost, arm_costs
from birdlab.study.cost_values import CostValues, value_table
from birdlab.study.pareto import find_undominated
from birdlab.study.ranking import rank_arms

FOLDS, BASE = 5, "base"


@dataclass(frozen=True)
class World:
    """How far true gains scatter, how noisy a fold is, and how noisy the hours of a cell are.

    gain_sd: SD of the true gains of arms; fold_sd: of the residual of a fold mean; hours_sd: of the
    logarithm of a cell's hours, from what else runs on the machine; free_share: of arms that cost
    nothing more.
    """

    n_arms: int = 8
    gain_sd: float = 0.008
    fold_sd: float = 0.006
    hours_sd: float = 0.1
    free_share: float = 0.25


@dataclass(frozen=True)
class Found:
    """One simulated sweep: what was read, beside the truth by arm."""

    values: CostValues
    gains: pd.Series
    extra_hours: pd.Series

    @property
    def frontier_truth(self) -> pd.Series:
        """Which arms, base included, none truly beats in score and hours."""
        gains = pd.concat([self.gains, pd.Series({BASE: 0.0})])
        extra = pd.concat([self.extra_hours, pd.Series({BASE: 0.0})])
        return pd.Series(find_undominated(gains, extra), gains.index)


def simulate(world: World, rng: np.random.Generator) -> Found:
    """A sweep drawn from a world: scores and hours of every cell, read as gains for costs."""
    arms = [f"arm {i}" for i in range(world.n_arms)]
    gains = pd.Series(rng.normal(0, world.gain_sd, world.n_arms), arms)
    extra = pd.Series(rng.uniform(0.2, 2.0, world.n_arms), arms)
    extra[rng.random(world.n_arms) < world.free_share] = 0.0
    levels = rng.normal(0.7, 0.03, FOLDS)
    true = {BASE: (0.0, 0.0), **{a: (gains[a], extra[a]) for a in arms}}
    rows, cells, records = [], {}, {}
    for arm, (gain, more) in true.items():
        scores = levels + gain + rng.normal(0, world.fold_sd, FOLDS)
        hours = (1 + more) * np.exp(rng.normal(0, world.hours_sd, FOLDS))
        rows += [(arm, fold, 0, score) for fold, score in enumerate(scores)]
        ids = [f"{arm}-{fold}" for fold in range(FOLDS)]
        cells |= {c: CellCost(3600 * h, "H100") for c, h in zip(ids, hours, strict=True)}
        records[arm] = make_record(arm, ids)
    ranking = rank_arms(pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"]), base=BASE)
    return Found(value_table(ranking, arm_costs(records, cells, {})), gains, extra)


def make_record(arm: str, ids: Sequence[str], **more: Any) -> dict[str, Any]:
    """The part of a record that costs are read from: a scored cell per fold."""
    cells = [{"fold": fold, "seed": 0, "cell_id": cell} for fold, cell in enumerate(ids)]
    return {"spec_id": arm, "cells": cells, "spec": None, **more}


def judge(world: World, n: int, seed: int) -> dict[str, float]:
    """What prices and bare ratios were worth over `n` sweeps.

    told: the share of sweeps in which some arm has a price or is called free; wrong: in which one
    without a true gain is among them; bare_wrong: in which the arm of the highest bare ratio has no
    true gain; off: the median of |told price / true price - 1|, NaN without any; front: the share
    of the arms drawn as not beaten that truly are not.
    """
    rng = np.random.default_rng(seed)
    told, wrong, bare, off, front = [], [], [], [], []
    for _ in range(n):
        found = simulate(world, rng)
        table = found.values.table.set_index("arm")
        drawn = table.index[table["pareto_hours"]]
        front += list(found.frontier_truth[drawn])
        table = table.drop(index=BASE)
        better = table[table["verdict"] == "better"]
        told.append(len(better) > 0)
        wrong.append(bool((found.gains[better.index] <= 0).any()))
        ratio = (table["delta"] / table["extra_hours"].abs()).where(table["delta"] > 0)
        bare.append(bool(ratio.notna().any() and found.gains[ratio.idxmax()] <= 0))
        priced = better[(better["gain_per_hour"] > 0)].index
        priced = priced[(found.extra_hours[priced] > 0) & (found.gains[priced] > 0)]
        true = found.gains[priced] / found.extra_hours[priced]
        off += list((table.loc[priced, "gain_per_hour"] / true - 1).abs())
    return {
        "told": float(np.mean(told)),
        "wrong": float(np.mean(wrong)),
        "bare_wrong": float(np.mean(bare)),
        "off": float(np.median(off)) if off else float("nan"),
        "front": float(np.mean(front)),
    }


WORLDS = {
    "gains as large as noise": World(),
    "small gains": World(gain_sd=0.003),
    "no gain at all": World(gain_sd=0.0),
    "busy machine": World(hours_sd=0.4),
}


def main(n: int = 400, seed: int = 0) -> None:
    """Print a line per world."""
    print(f"{n} sweeps of 8 arms over {FOLDS} folds a world, seed {seed}")
    print(f"{'world':<24} {'told':>6} {'wrong':>6} {'bare wrong':>11} {'off':>6} {'front':>6}")
    for name, world in WORLDS.items():
        f = judge(world, n, seed)
        print(
            f"{name:<24} {f['told']:6.0%} {f['wrong']:6.1%} {f['bare_wrong']:11.0%} "
            f"{f['off']:6.0%} {f['front']:6.0%}"
        )


if __name__ == "__main__":
    main()
