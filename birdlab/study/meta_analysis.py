"""Effects of one idea on several bases as one: their mean, how much they differ, what is next.

Source: Paule and Mandel (1982) for the variance between bases; Hartung and Knapp (2001) for the
interval of the mean, never narrower than without it (Röver, Knapp and Friede 2015); Viechtbauer
(2007) for the interval of the variance; Higgins, Thompson and Spiegelhalter (2009) for the
prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from birdlab.errors import DataError

Floats = npt.NDArray[np.float64]

LEAST_SE = 1e-6
"""Stands for a standard error of 0, of arms that are equal in every fold."""
LEVEL = 0.95
BORROWED_DF = 4.0
"""What the typical error counts for beside a verdict's own."""
NAN = float("nan")


@dataclass(frozen=True)
class RandomEffects:
    """What effects of one kind are on average, and by how much more than chance they differ.

    tau: the SD of true effects, tau_low to tau_high its 95 % interval; i2: the share of the
    variance between effects that chance does not make, 0..1; q, p: Cochran's test that all true
    effects are equal; low to high: the 95 % interval of the mean; predict_low to predict_high: that
    of the true effect on another base. With one effect only mean and se are known, the rest is NaN.
    """

    mean: float
    se: float
    tau: float
    tau_low: float
    tau_high: float
    i2: float
    q: float
    p: float
    low: float
    high: float
    predict_low: float
    predict_high: float
    n: int


def random_effects(
    effects: Sequence[float] | Floats, ses: Sequence[float] | Floats
) -> RandomEffects:
    """The mean of independent effects, [n] each with its standard error, and their spread.

    Raises DataError for no effect, for lists of unequal length, and for a number that is not
    finite or a standard error below 0.
    """
    y, variances = _check(effects, ses)
    if len(y) == 1:
        rest = dict.fromkeys(("tau", "tau_low", "tau_high", "i2", "q", "p", "low", "high"), NAN)
        se = float(np.sqrt(variances[0]))
        return RandomEffects(float(y[0]), se, **rest, predict_low=NAN, predict_high=NAN, n=1)
    df = len(y) - 1
    tau2 = between_variance([y], [np.sqrt(variances)])
    weights = 1 / (variances + tau2)
    mean = float(weights @ y / weights.sum())
    spread = float(weights @ (y - mean) ** 2) / df
    se = float(np.sqrt(max(spread, 1.0) / weights.sum()))
    q = generalised_q(y, variances, 0.0)
    t = float(special.stdtrit(df, (1 + LEVEL) / 2))
    ahead = t * float(np.sqrt(tau2 + se**2))
    tau_low, tau_high = _tau_interval(y, variances)
    return RandomEffects(
        mean=mean,
        se=se,
        tau=float(np.sqrt(tau2)),
        tau_low=tau_low,
        tau_high=tau_high,
        i2=tau2 / (tau2 + _typical(variances)),
        q=q,
        p=float(special.chdtrc(df, q)),
        low=mean - t * se,
        high=mean + t * se,
        predict_low=mean - ahead,
        predict_high=mean + ahead,
        n=len(y),
    )


def settle_errors(ses: Floats, dfs: Floats) -> Floats:
    """Standard errors [n], each drawn to the typical one by as much as its degrees of freedom
    leave open.

    Weights from errors of a few degrees of freedom follow chance: an error that looks small by luck
    would count most. Source: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3.
    """
    variances = np.maximum(ses, LEAST_SE) ** 2
    typical = float(np.median(variances))
    settled = (dfs * variances + BORROWED_DF * typical) / (dfs + BORROWED_DF)
    return np.asarray(np.sqrt(settled), dtype=np.float64)


def between_variance(effects: Sequence[Floats], ses: Sequence[Floats]) -> float:
    """The variance of true effects about the mean of their own group, one for all groups.

    effects, ses: a list per group (such as the verdicts on one idea); those of one effect say
    nothing. 0 where groups scatter no more than their errors do. Raises DataError where no group
    has two effects.
    """
    groups = [_check(*pair) for pair in zip(effects, ses, strict=True)]
    groups = [(y, variances) for y, variances in groups if len(y) > 1]
    if not groups:
        raise DataError("a spread between effects needs two of one kind", got="none")
    df = sum(len(y) - 1 for y, _ in groups)
    return _solve(lambda tau2: sum(generalised_q(y, v, tau2) for y, v in groups) - df, groups)


def generalised_q(effects: Floats, variances: Floats, tau2: float) -> float:
    """The weighted sum of squares about the mean, with `tau2` added to each variance."""
    weights = 1 / (variances + tau2)
    mean = weights @ effects / weights.sum()
    return float(weights @ (effects - mean) ** 2)


def _check(
    effects: Sequence[float] | Floats, ses: Sequence[float] | Floats
) -> tuple[Floats, Floats]:
    """Effects and variances as arrays."""
    y, se = np.asarray(effects, dtype=np.float64), np.asarray(ses, dtype=np.float64)
    if y.ndim != 1 or y.shape != se.shape or len(y) == 0:
        raise DataError(
            "each effect needs a standard error", got=f"{y.size} effects and {se.size} errors"
        )
    if not np.isfinite(y).all() or not np.isfinite(se).all() or (se < 0).any():
        raise DataError(
            "an effect or its standard error is no number",
            got=f"effects {y.tolist()}, errors {se.tolist()}",
            fix="leave out effects without a standard error",
        )
    return y, np.maximum(se, LEAST_SE) ** 2


def _tau_interval(y: Floats, variances: Floats) -> tuple[float, float]:
    """The 95 % interval of tau by the Q profile."""
    df = len(y) - 1
    upper, lower = (float(special.chdtri(df, tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    groups = [(y, variances)]
    low = _solve(lambda tau2: generalised_q(y, variances, tau2) - upper, groups)
    high = _solve(lambda tau2: generalised_q(y, variances, tau2) - lower, groups)
    return float(np.sqrt(low)), float(np.sqrt(high))


def _solve(excess: Callable[[float], float], groups: Sequence[tuple[Floats, Floats]]) -> float:
    """The `tau2` from which on a falling `excess` is below 0; 0 where it always is."""
    if excess(0.0) <= 0:
        return 0.0
    top = max(float(np.ptp(y)) ** 2 + float(v.max()) for y, v in groups)
    while excess(top) > 0:
        top *= 4
    return float(optimize.brentq(excess, 0.0, top, xtol=1e-16, rtol=1e-10))


def _typical(variances: Floats) -> float:
    """The variance that I2 compares with (Higgins and Thompson 2002)."""
    weights = 1 / variances
    total = weights.sum()
    return float((len(variances) - 1) * total / (total**2 - (weights**2).sum()))
