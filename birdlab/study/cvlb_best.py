"""What single folds say: how surely the CV-best is the leaderboard-best, and how they scatter."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from birdlab.study.cvlb_resamples import Floats, Ints, known_names, number_of_draws
from birdlab.words import count_words

CANDIDATE = 0.01
NOISE = ("fold_sd", "paired_sd", "paired_low", "paired_high")


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
    inside, n_folds = with_folds(pairs)
    if len(inside) < 2:
        nan = float("nan")
        return BestRun(nan, nan, nan, 0, 0, left_out=("No two runs have scores of folds.",))
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


def list_fold_noise(pairs: pd.DataFrame) -> pd.DataFrame:
    """How folds scatter: split, n, n_folds, fold_sd, paired_sd, paired_low, paired_high.

    `fold_sd` is the median SD over the folds of a run. `paired_sd` is the median, over pairs of
    runs of one split, of the SD of their differences fold by fold, and `paired_low` to
    `paired_high` its quartiles. The first row ("") is over all splits.
    """
    inside, n_folds = with_folds(pairs)
    names = known_names(inside, "split") if len(inside) else None
    splits = np.full(len(inside), "", dtype=object) if names is None else names
    scopes = ["", *(str(name) for name in pd.unique(splits) if name)] if len(inside) > 1 else []
    if not scopes:
        return pd.DataFrame(columns=["split", "n", "n_folds", *NOISE])
    scores = np.array(list(inside["fold_scores"]), dtype=float)
    shared = np.cov(scores)
    variances = np.diag(shared)
    apart = np.sqrt(np.maximum(variances[:, None] + variances - 2 * shared, 0))
    pair = np.triu(splits[:, None] == splits, 1)
    rows = []
    for name in scopes:
        at = (splits == name) | (name == "")
        paired = apart[np.ix_(at, at)][pair[np.ix_(at, at)]]
        quartiles = np.percentile(paired, [50, 25, 75]) if len(paired) else [np.nan] * 3
        figures = (np.median(np.sqrt(variances[at])), *quartiles)
        rows.append(
            {
                "split": name,
                "n": int(at.sum()),
                "n_folds": n_folds,
                **{key: float(value) for key, value in zip(NOISE, figures, strict=True)},
            }
        )
    return pd.DataFrame(rows)


def with_folds(pairs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The runs that have the scores of as many folds (2 or more) as most, and that number."""
    lengths = np.array([len(v) for v in pairs["fold_scores"]] if "fold_scores" in pairs else [])
    usable = lengths[lengths >= 2]
    if not len(usable):
        return pairs.iloc[:0], 0
    n_folds = int(np.bincount(usable).argmax())
    return pairs[lengths == n_folds].reset_index(drop=True), n_folds


def _draw_winners(scores: Floats, runs: pd.DataFrame) -> Ints:
    """The run with the highest mean in each resample of folds."""
    n, n_folds = scores.shape
    names = known_names(runs, "split")
    splits = np.full(n, "", dtype=object) if names is None else names
    rng, draws = np.random.default_rng(0), number_of_draws(n)
    means = np.empty((draws, n))
    for split in pd.unique(splits):
        at = splits == split
        folds = rng.multinomial(n_folds - 1, np.full(n_folds, 1 / n_folds), size=draws)
        means[:, at] = folds @ scores[at].T / (n_folds - 1)
    return np.asarray(means.argmax(axis=1))


def _left_out(n: int, n_folds: int) -> tuple[str, ...]:
    if not n:
        return ()
    return (f"{count_words(n, 'run')} without the scores of {n_folds} folds.",)
