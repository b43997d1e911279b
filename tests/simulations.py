"""Simulated studies with known noise, for tests; as a script it prints the tables of the docs.

python tests/simulations.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from birdlab.study.noise import NoiseFloor, Spread, detectable_delta
from birdlab.study.racing import look_at, look_level

Floats = npt.NDArray[np.float64]
SEED_SD, FOLD_ARM_SD, FOLD_SD = 0.006, 0.004, 0.02


def draw_scores(
    rng: np.random.Generator,
    n: int,
    effects: Sequence[float],
    n_folds: int,
    n_seeds: int,
    *,
    seed_sd: float = SEED_SD,
    fold_arm_sd: float = FOLD_ARM_SD,
) -> Floats:
    """Scores [study, arm, fold, seed] of arms that differ by `effects`, the base first."""
    arms = len(effects)
    folds = rng.normal(0.8, FOLD_SD, (n, 1, n_folds, 1))
    own = rng.normal(0, fold_arm_sd, (n, arms, n_folds, 1))
    noise = rng.normal(0, seed_sd, (n, arms, n_folds, n_seeds))
    return folds + own + noise + np.asarray(effects)[:, None, None]


def race_rounds(scores: Floats, level: float = 0.05) -> npt.NDArray[np.int64]:
    """After which round each arm [study, arm] is stopped, 0 for never; the base is arm 0.

    A stopped arm is in no later look, as in a campaign.
    """
    n, arms, _, n_seeds = scores.shape
    stopped = np.zeros((n, arms), dtype=np.int64)
    for study in range(n):
        racing = list(range(arms))
        for rounds in range(1, n_seeds):
            looks = look_at(scores[study, racing, :, :rounds].mean(axis=-1), 0)
            worse = [
                racing[place]
                for place, look in looks.items()
                if look.p < look_level(n_seeds - 1, look.df, level)
            ]
            stopped[study, worse] = rounds
            racing = [arm for arm in racing if arm not in worse]
            if len(racing) == 1:
                break
    return stopped


def cells_used(stopped: npt.NDArray[np.int64], n_folds: int, n_seeds: int) -> float:
    """The mean number of cells of arms that were stopped after these rounds (0: never)."""
    return float(np.where(stopped == 0, n_seeds, stopped).mean() * n_folds)


def uncorrected_rate(n: int, n_seeds: int) -> float:
    """The share of equal arms that a plain one-sided 5 % test after each round would stop."""
    scores = draw_scores(np.random.default_rng(0), n, [0.0, 0.0], 5, n_seeds)
    means = scores.cumsum(axis=-1)[..., : n_seeds - 1] / np.arange(1, n_seeds)
    t = stats.ttest_rel(means[:, 1], means[:, 0], axis=1, alternative="less")
    return float((t.pvalue.min(axis=-1) < 0.05).mean())


def race_table(n: int = 10_000) -> list[str]:
    """Rows of a Markdown table: what racing does to arms of known difference."""
    rows = [
        "| arms beside the base | equal | worse by .005 | worse by .010 | worse by .020 |",
        "|---|---|---|---|---|",
    ]
    for arms in (1, 2, 3, 4, 10):
        cells = []
        for worse in (0.0, 0.005, 0.010, 0.020):
            rng = np.random.default_rng(arms)
            scores = draw_scores(rng, n, [0.0, -worse, *[0.0] * (arms - 1)], 5, 3)
            arm = race_rounds(scores)[:, 1]
            cells.append(f"{100 * (arm > 0).mean():.1f} %, {cells_used(arm, 5, 3):.1f} cells")
        rows.append(f"| {arms} | " + " | ".join(cells) + " |")
    return rows


def assumed_noise(seed_sd: float = SEED_SD, fold_arm_sd: float = FOLD_ARM_SD) -> NoiseFloor:
    """The noise floor of scores that `draw_scores` makes, as if it were known exactly."""
    none, seed, fold_arm = (Spread(sd, sd, sd) for sd in (0.0, seed_sd, fold_arm_sd))
    return NoiseFloor(5, 5, 0.8, none, none, seed, seed, n_arms=2, fold_arm=fold_arm)


def detectable_table() -> list[str]:
    """Rows of a Markdown table: the difference that 5 folds find in 80 % of studies."""
    rows = ["| seeds | 1 arm | 3 arms | 10 arms |", "|---|---|---|---|"]
    for seeds in (1, 2, 3, 5):
        deltas = [detectable_delta(assumed_noise(), 5, seeds, arms) for arms in (1, 3, 10)]
        rows.append(f"| {seeds} | " + " | ".join(f"{delta:.4f}" for delta in deltas) + " |")
    return rows


if __name__ == "__main__":
    print("stopped, and cells of 15 that the arm used on average (5 folds, 3 seeds)\n")
    print("\n".join(race_table()))
    for n_seeds in (3, 5, 10):
        rate = 100 * uncorrected_rate(20_000, n_seeds)
        print(f"\na plain 5 % test after each round of {n_seeds} seeds stops {rate:.1f} %")
    print("\ntrue difference found in 80 % of studies (5 folds)\n")
    print("\n".join(detectable_table()))
