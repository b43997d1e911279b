"""How surely the CV-best of the shown runs is the leaderboard-best, over resampled folds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from birdlab.study.cvlb_resamples import Floats, number_of_draws

CANDIDATE = 0.01


@dataclass(frozen=True, eq=False)
class BestRun:
    """Is the CV-best of `n` runs the best on the leaderboard?

    `probability` that it is, over resampled folds, and `chance` that a run drawn blindly is;
    `shortfall` is how far, on average, the CV-best stays below the best leaderboard score.
    `candidates` has the runs that are CV-best in at least 1 % of the resamples: run, name, share,
    cv, lb, lb_rank. NaN, and no candidates, where fewer than 2 runs have fold scores.
    """

    probability: float
    chance: float
    shortfall: float
    n: int
    n_folds: int
    candidates: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: tuple[str, ...] = ()


def find_best(pairs: pd.DataFrame) -> BestRun:
    """The probability that the CV-best is the leaderboard-best; ties on the leaderboard count.

    `fold_scores` lists the scores of each run's folds in order. Runs of one split get the same
    drawn folds, runs of other splits others. Of F folds F - 1 are drawn, which gives their mean
    the right variance. Source: Rao & Wu (1988). Runs without fold scores, or with another number
    of folds than most, are left out and said.
    """
    nan = float("nan")
    lengths = [len(folds) for folds in pairs["fold_scores"]] if "fold_scores" in pairs else []
    usable = [length for length in lengths if length >= 2]
    if len(usable) < 2:
        return BestRun(nan, nan, nan, 0, 0, left_out=("No two runs have scores of folds.",))
    n_folds = max(sorted(set(usable)), key=usable.count)
    inside = pairs[np.array(lengths) == n_folds].reset_index(drop=True)
    left_out = _left_out(len(pairs) - len(inside), n_folds)
    scores = np.array(list(inside["fold_scores"]), dtype=float)
    lb = inside["lb"].to_numpy(dtype=float)
    winners = _draw_winners(scores, inside)
    best = lb == lb.max()
    share = np.bincount(winners, minlength=len(lb)) / len(winners)
    known = inside[[name for name in ("run", "name", "cv", "lb") if name in inside.columns]]
    ranks = inside["lb"].rank(ascending=False, method="min").astype(int)
    table = known.assign(share=share, lb_rank=ranks)
    table = table[share >= CANDIDATE].sort_values("share", ascending=False, kind="stable")
    return BestRun(
        float(share[best].sum()),
        float(best.mean()),
        float((share * (lb.max() - lb)).sum()),
        len(inside),
        n_folds,
        table.reset_index(drop=True),
        left_out,
    )


def _draw_winners(
    scores: Floats, runs: pd.DataFrame
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The run with the highest mean in each resample of folds."""
    n, n_folds = scores.shape
    splits = runs["split"].astype(str) if "split" in runs.columns else pd.Series("", runs.index)
    rng, draws = np.random.default_rng(0), number_of_draws(n)
    means = np.empty((draws, n))
    for split in pd.unique(splits):
        at = (splits == split).to_numpy()
        folds = rng.multinomial(n_folds - 1, np.full(n_folds, 1 / n_folds), size=draws)
        means[:, at] = folds @ scores[at].T / (n_folds - 1)
    return np.asarray(means.argmax(axis=1))


def _left_out(n: int, n_folds: int) -> tuple[str, ...]:
    if not n:
        return ()
    runs = "1 run has" if n == 1 else f"{n} runs have"
    return (f"{runs} no scores of {n_folds} folds: left out where folds are drawn.",)
