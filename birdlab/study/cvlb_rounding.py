"""How much the rounding of shown leaderboard scores can move a correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdlab.study.cvlb_resamples import Floats, pearson_of, percentiles, weighted_ranks

MOST_DIGITS = 6
ROUNDED_NUMBERS = 100_000


@dataclass(frozen=True)
class Rounding:
    """What rounding to `digits` decimals can do; None, and NaN ends, where no rounding is seen.

    `tied` is the share of pairs of runs with equal scores. `low` to `high` holds Spearman in 95 %
    of the cases when each score lies anywhere within half a unit of what is shown.
    """

    digits: int | None
    tied: float
    low: float
    high: float


def find_rounding(cv: Floats, lb: Floats) -> Rounding:
    """The digits of the leaderboard scores, and what scores behind the shown ones may give.

    Scores of more than 6 decimals count as not rounded. Under 3 runs there is no interval.
    """
    n, nan = len(lb), float("nan")
    _, sizes = np.unique(lb, return_counts=True)
    tied = float((sizes * (sizes - 1)).sum() / (n * (n - 1))) if n > 1 else nan
    digits = count_digits(lb)
    if digits is None or n < 3:
        return Rounding(digits, tied, nan, nan)
    draws = int(np.clip(ROUNDED_NUMBERS // n, 100, 500))
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, (draws, n)) * 10.0**-digits
    ones = np.ones((1, n))
    ranks = np.argsort(np.argsort(lb + jitter, axis=1), axis=1).astype(float)
    return Rounding(digits, tied, *percentiles(pearson_of(weighted_ranks(cv, ones), ranks, ones)))


def count_digits(scores: Floats) -> int | None:
    """The fewest decimals, up to 6, that write all scores exactly; None if more are needed."""
    for digits in range(MOST_DIGITS + 1):
        if np.allclose(scores, np.round(scores, digits), rtol=0, atol=1e-9):
            return digits
    return None
