"""The noise floor: how far scores of one recipe scatter over folds and seeds, and what that hides.

Source: analysis of variance of folds × seeds (Searle, Casella and McCulloch 1992, Variance
Components, chapter 4); intervals of Graybill and Wang (1980) for sums of mean squares and of Ting
et al. (1990) for differences, both as in Burdick and Graybill (1992), Confidence Intervals on
Variance Components, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from birdlab.errors import DataError
from birdlab.study.contrasts import MIN_FOLDS, POWER, Floats
from birdlab.words import count_words

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A standard deviation in units of the score, with its 95 % interval; all three are >= 0."""

    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseFloor:
    """The parts of the variance of `n_folds` × `n_seeds` scores of one recipe.

    fold: between folds, some are harder; seed: what a seed adds to all folds alike; repeat: a
    fold trained again with another seed, all that a seed changes; rest: the part of `repeat` that
    is not `seed`. fold_arm: how much recipes differ from fold to fold beyond that, from `n_arms`
    of them, None where only one is known.
    """

    n_folds: int
    n_seeds: int
    mean: float
    fold: Spread
    seed: Spread
    repeat: Spread
    rest: Spread
    n_arms: int = 1
    fold_arm: Spread | None = None


def estimate_noise(scores: pd.DataFrame) -> NoiseFloor:
    """The noise floor of one recipe from a table with columns fold, seed, score.

    Raises DataError unless it has every fold with every seed, at least two of each.
    """
    cells = scores.pivot(index="fold", columns="seed", values="score")
    if cells.isna().any(axis=None) or min(cells.shape) < 2:
        raise DataError(
            "the noise needs at least two folds and two seeds, and every fold with every seed",
            got=f"{count_words(int(cells.notna().sum().sum()), 'cell')} of "
            f"{count_words(len(cells), 'fold')} and {count_words(cells.shape[1], 'seed')}",
            fix="birdlab extend RUN --folds all --seeds 5",
        )
    y = cells.to_numpy(dtype=float)
    folds, seeds = y.shape
    of_fold = y.mean(axis=1, keepdims=True) - y.mean()
    of_seed = y.mean(axis=0) - y.mean()
    fold = _mean_square(seeds * of_fold**2, folds - 1)
    seed = _mean_square(folds * of_seed**2, seeds - 1)
    rest = _mean_square((y - y.mean() - of_fold - of_seed) ** 2, (folds - 1) * (seeds - 1))
    return NoiseFloor(
        n_folds=folds,
        n_seeds=seeds,
        mean=float(y.mean()),
        fold=_difference(fold, rest, seeds),
        seed=_difference(seed, rest, folds),
        repeat=_sum((seed, 1 / folds), (rest, 1 - 1 / folds)),
        rest=_sum((rest, 1.0)),
    )


def estimate_fold_arm(scores: Floats) -> Spread:
    """How much recipes differ from fold to fold beyond what seeds explain.

    scores: [arms, folds, seeds], at least two of each. What all arms get from a fold and seed
    alike is taken out first, since pairing removes it.
    """
    arms, folds, seeds = scores.shape
    y = scores - scores.mean(axis=0)
    y = y - y.mean(axis=(1, 2), keepdims=True)
    of_fold = y.mean(axis=2, keepdims=True)
    of_seed = y.mean(axis=1, keepdims=True)
    df = (arms - 1) * (folds - 1)
    fold_arm = _mean_square(seeds * of_fold**2, df)
    rest = _mean_square((y - of_fold - of_seed) ** 2, df * (seeds - 1))
    return _difference(fold_arm, rest, seeds)


@dataclass(frozen=True)
class _MeanSquare:
    value: float
    df: int


def _mean_square(squares: Floats, df: int) -> _MeanSquare:
    return _MeanSquare(float(squares.sum()) / df, df)


def _sum(*parts: tuple[_MeanSquare, float]) -> Spread:
    """The SD whose square is a sum of mean squares with positive weights (Graybill and Wang)."""
    tail = (1 - LEVEL) / 2
    variance, down, up = 0.0, 0.0, 0.0
    for square, weight in parts:
        part = weight * square.value
        variance += part
        down += (part * (1 - square.df / special.chdtri(square.df, tail))) ** 2
        up += (part * (square.df / special.chdtri(square.df, 1 - tail) - 1)) ** 2
    return _spread(variance, down, up)


def _difference(upper: _MeanSquare, lower: _MeanSquare, n: int) -> Spread:
    """The SD whose square is (upper - lower) / n (Ting et al.); 0 where that is negative."""
    tail = (1 - LEVEL) / 2
    g_up, h_up = _limits(upper.df, tail)
    g_low, h_low = _limits(lower.df, tail)
    high_f = special.fdtri(upper.df, lower.df, 1 - tail)
    low_f = special.fdtri(upper.df, lower.df, tail)
    g_both = ((high_f - 1) ** 2 - (g_up * high_f) ** 2 - h_low**2) / high_f
    h_both = ((1 - low_f) ** 2 - (h_up * low_f) ** 2 - g_low**2) / low_f
    a, b = upper.value / n, lower.value / n
    down = (g_up * a) ** 2 + (h_low * b) ** 2 + g_both * a * b
    up = (h_up * a) ** 2 + (g_low * b) ** 2 + h_both * a * b
    return _spread(a - b, down, up)


def _limits(df: int, tail: float) -> tuple[float, float]:
    """How far below and above a mean square its expectation may lie, as shares of it."""
    below = 1 - df / special.chdtri(df, tail)
    above = df / special.chdtri(df, 1 - tail) - 1
    return float(below), float(above)


def _spread(variance: float, down: float, up: float) -> Spread:
    low, high = variance - np.sqrt(max(down, 0)), variance + np.sqrt(max(up, 0))
    sd, low, high = (float(np.sqrt(max(v, 0.0))) for v in (variance, low, high))
    return Spread(sd, low, high)


def detectable_delta(
    noise: NoiseFloor,
    n_folds: int,
    n_seeds: int,
    n_arms: int,
    *,
    power: float = POWER,
    alpha: float = 0.05,
) -> float:
    """The true difference to the base that a study of `n_arms` arms beside it finds mostly.

    "Found" means better or worse by the verdict of a table whose arms share their variance, at
    the first step of Holm's procedure; "mostly" with probability `power`. NaN under 3 folds,
    where there is no verdict. Without `fold_arm` it is a lower bound: recipes that differ from
    fold to fold hide more.
    """
    if n_folds < MIN_FOLDS:
        return float("nan")
    df, critical = _test(n_folds, n_arms, alpha)
    return float(special.nctdtrinc(df, 1 - power, critical)) * paired_se(noise, n_folds, n_seeds)


def _test(n_folds: int, n_arms: int, alpha: float) -> tuple[int, float]:
    """Degrees of freedom and critical t of an arm, as in the verdicts."""
    df = n_arms * (n_folds - 1)
    return df, float(special.stdtrit(df, 1 - alpha / (2 * n_arms)))


def paired_se(noise: NoiseFloor, n_folds: int, n_seeds: float) -> float:
    """The standard error of a difference of two arms, which is its SD where both are equal.

    A seed that moves all folds together counts where its interval leaves 0 out; elsewhere all
    that a seed changes averages out over folds as well.
    """
    fold_arm = 0.0 if noise.fold_arm is None else noise.fold_arm.sd
    together = noise.seed.low > 0
    within = noise.rest.sd if together else noise.repeat.sd
    variance = 2 * (fold_arm**2 + within**2 / n_seeds) / n_folds
    if together:
        variance += 2 * noise.seed.sd**2 / n_seeds
    return float(np.sqrt(variance))
