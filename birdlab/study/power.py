"""How much more evidence a verdict takes: the chance to decide, and the seeds that it needs.

Source: the noncentral t distribution for one test; an integral over the estimated variance for a
verdict that may fall to either side.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

from birdlab.study.contrasts import EXACT, POWER, Contrast, Floats
from birdlab.study.judging import Judgement
from birdlab.study.noise import NoiseFloor

MORE_FOLDS = "needs more folds"
MOST_SEEDS = 100
"""No study has more seeds: what takes more is said to take over 100."""


def detectable_delta(se: float, df: int, critical: float, *, power: float = POWER) -> float:
    """The true difference that exceeds `critical` standard errors with probability `power`."""
    return float(special.nctdtrinc(df, 1 - power, critical)) * se


def chance_to_decide(
    delta: float, se: Floats, df: int, critical: float, narrow: float, smallest_effect: float
) -> Floats:
    """The chance that a true difference is judged better, worse or within noise: [n], 0 to 1.

    se: [n] true standard errors; critical and narrow: how many estimated ones the two intervals
    of a Judgement reach to each side. A verdict of the wrong sign counts as decided.
    """
    s, share = _scales(df)
    error = np.maximum(se[:, None], EXACT)
    wide = critical * error * s
    inside = np.clip(smallest_effect - narrow * error * s, 0, wide)
    open_ = (
        special.ndtr((wide - delta) / error)
        - special.ndtr((inside - delta) / error)
        + special.ndtr((-inside - delta) / error)
        - special.ndtr((-wide - delta) / error)
    )
    return np.asarray(1 - open_ @ share)


@lru_cache(maxsize=64)
def _scales(df: int) -> tuple[Floats, Floats]:
    """Estimated over true standard deviation at 200 places, and the chance of each."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    p = (nodes + 1) / 2
    return np.sqrt(special.chdtri(df, 1 - p) / df), weights / 2


def more_seeds(
    c: Contrast, judged: Judgement, smallest_effect: float, noise: NoiseFloor | None = None
) -> str:
    """How many seeds more an undecided arm takes to be decided in 80 % of studies, in words.

    Its true difference is taken to be the one seen, its folds and the other arms to stay.
    "needs more folds" where no number of seeds suffices, since a recipe that likes a fold likes it
    with every seed. That part of the variance is known from several seeds, or from the noise
    floor. Where nothing tells it, it is taken as none and the number is called a lower bound; so it
    is where it would take folds, yet chance alone could look like that part (F test, 5 %).
    """

    def count(fold_arm: float) -> str:
        rest = float(c.residual_sd**2 - fold_arm)
        pairs, reach = (c.n_folds, float(c.n_seeds), c.df), (judged.critical, judged.narrow)
        return _count_seeds(float(c.delta), fold_arm, rest, pairs, reach, smallest_effect)

    fold_arm, shown = _fold_arm_variance(c, noise)
    if np.isnan(fold_arm):
        return _at_least(count(0.0))
    words = count(fold_arm)
    if words == MORE_FOLDS and not shown:
        return f"{_at_least(count(0.0))}, or more folds"
    return words


@lru_cache(maxsize=8192)  # a sweep that ends is ranked for the screen, its costs and its report
def _count_seeds(
    delta: float,
    fold_arm: float,
    rest: float,
    pairs: tuple[int, float, int],
    reach: tuple[float, float],
    smallest_effect: float,
) -> str:
    """In words, the seeds more at which POWER of studies decide.

    fold_arm, rest: the variances of a fold mean that seeds leave and shrink; pairs: folds, seeds
    and degrees of freedom; reach: `critical` and `narrow` of the Judgement.
    """
    (n_folds, n_seeds, df), (critical, narrow) = pairs, reach
    first = int(n_seeds) + 1
    seeds = np.arange(first, MOST_SEEDS + first)
    variance = fold_arm + rest * n_seeds / np.r_[seeds, np.inf]
    se = np.sqrt(2 * variance / n_folds)
    chance = chance_to_decide(delta, se, df, critical, narrow, smallest_effect)
    enough = np.flatnonzero(chance[:-1] >= POWER)
    if len(enough):
        n = math.ceil(seeds[enough[0]] - n_seeds)
        return f"{n} more seed{'s' if n > 1 else ''}"
    return f"over {MOST_SEEDS} more seeds" if chance[-1] >= POWER else MORE_FOLDS


def _at_least(words: str) -> str:
    return words if words.startswith("over") else f"at least {words}"


def _fold_arm_variance(c: Contrast, noise: NoiseFloor | None) -> tuple[float, bool]:
    """The variance of a fold mean that seeds do not change, NaN where nothing tells it.

    And whether it is shown to be there.
    """
    whole = c.residual_sd**2
    if c.repeat_df:
        by_seeds = c.repeat_sd**2 / c.n_seeds
        p = special.fdtrc(c.df, c.repeat_df, whole / by_seeds) if by_seeds else 0.0
        return max(whole - by_seeds, 0.0), bool(p < 0.05)
    if noise is not None and noise.fold_arm is not None:
        return min(noise.fold_arm.sd**2, whole), noise.fold_arm.low > 0
    return float("nan"), False
