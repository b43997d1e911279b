"""How far cross-validation can be trusted to rank models on the leaderboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from birdlab.errors import DataError

Floats = npt.NDArray[np.float64]

MIN_POINTS = 10
CONFIDENCE = 0.95
N_RESAMPLES = 2000
RIGHT_SHARE = 0.8
MIN_PAIR_SHARE = 0.05


@dataclass(frozen=True)
class Correlation:
    """A correlation with its 95 % interval by formula, and by bootstrap over runs beside it.

    NaN where it is not defined: all scores equal, too few points, or a formula at exactly ±1.
    """

    value: float
    low: float
    high: float
    boot_low: float
    boot_high: float


@dataclass(frozen=True)
class Resolution:
    """The CV gap from which on pairs of runs order the leaderboard rightly.

    `gap` is the smallest one such that at it, and at every larger one that at least 5 % of the
    pairs (and 10) reach, 80 % or more do; NaN if there is none. `n_pairs` have that gap, `share`
    of them are right.
    """

    gap: float
    n_pairs: int
    share: float


@dataclass(frozen=True)
class CvLb:
    """CV against the leaderboard over `n` runs, in one metric."""

    metric: str
    n: int
    spearman: Correlation
    kendall: Correlation
    pearson: Correlation
    resolution: Resolution
    verdict: str


def correlate(cv: npt.ArrayLike, lb: npt.ArrayLike, *, metric: str) -> CvLb:
    """What `n` runs say about CV (higher is better) as a judge of leaderboard scores.

    `cv` and `lb` are [n] finite numbers in the same order. Kendall is tau-b. Under 10 points the
    verdict is "no verdict". Raises DataError for shapes that differ or values that are no
    number. Source of the intervals, all on Fisher's z: Pearson 1/(n-3); Spearman
    (1+r²/2)/(n-3), Bonett & Wright (2000); Kendall 0.437/(n-4), Fieller, Hartley & Pearson
    (1957). The bootstrap draws runs, 2000 times, always from the same seed.
    """
    x, y = np.asarray(cv, dtype=float), np.asarray(lb, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise DataError(
            "CV and leaderboard scores do not pair up",
            got=f"shapes {x.shape} and {y.shape}",
            expected="two equally long lists of finite numbers",
        )
    spearman, kendall, pearson = _correlations(x, y)
    resolution = find_resolution(x, y)
    verdict = _word_verdict(len(x), spearman, resolution, metric)
    return CvLb(metric, len(x), spearman, kendall, pearson, resolution, verdict)


def _correlations(x: Floats, y: Floats) -> tuple[Correlation, Correlation, Correlation]:
    n = len(x)
    if n < 2:
        undefined = Correlation(*[float("nan")] * 5)
        return undefined, undefined, undefined
    # The first row is the data itself, the rest are the resamples.
    draws = np.random.default_rng(0).integers(0, n, (N_RESAMPLES, n))
    draws = np.concatenate([np.arange(n)[None], draws])
    rhos = _rowwise_pearson(_ranks(x[draws]), _ranks(y[draws]))
    taus, rs = _kendalls(x, y, draws), _rowwise_pearson(x[draws], y[draws])
    per_point = 1 / (n - 3) if n > 3 else np.nan
    return (
        _with_interval(rhos, (1 + rhos[0] ** 2 / 2) * per_point),
        _with_interval(taus, 0.437 / (n - 4) if n > 4 else np.nan),
        _with_interval(rs, per_point),
    )


def order_share(cv: npt.ArrayLike, lb: npt.ArrayLike, gap: float) -> tuple[int, float]:
    """How many pairs of runs differ by `gap` or more in CV, and the share ordered rightly.

    Pairs with equal leaderboard scores are left out, and so are pairs with equal CV. The share
    is NaN when no pair is left.
    """
    gaps, right = _pairs(np.asarray(cv, dtype=float), np.asarray(lb, dtype=float))
    inside = gaps >= gap
    return int(inside.sum()), float(right[inside].mean()) if inside.any() else float("nan")


def find_resolution(cv: Floats, lb: Floats) -> Resolution:
    """The smallest CV gap from which on 80 % of the pairs order the leaderboard rightly."""
    gaps, right = _pairs(cv, lb)
    order = np.argsort(-gaps, kind="stable")
    gaps, right = gaps[order], right[order]
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_of_tie = np.r_[gaps[1:] != gaps[:-1], True][: len(gaps)]
    many = np.arange(1, len(gaps) + 1) >= max(MIN_POINTS, MIN_PAIR_SHARE * len(gaps))
    steps = np.flatnonzero(last_of_tie & many)
    failing = np.flatnonzero(shares[steps] < RIGHT_SHARE)
    holding = steps[: failing[0]] if len(failing) else steps
    if not len(holding):
        return Resolution(float("nan"), 0, float("nan"))
    at = int(holding[-1])
    return Resolution(float(gaps[at]), at + 1, float(shares[at]))


def _pairs(cv: Floats, lb: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """For each pair that differs in both: the size of its CV gap, and whether the LB agrees."""
    first, second = np.triu_indices(len(cv), 1)
    by_cv, by_lb = cv[first] - cv[second], lb[first] - lb[second]
    differs = (by_cv != 0) & (by_lb != 0)
    return np.abs(by_cv[differs]), (np.sign(by_cv) == np.sign(by_lb))[differs]


def _ranks(values: Floats) -> Floats:
    return np.asarray(stats.rankdata(values, axis=1))


def _rowwise_pearson(x: Floats, y: Floats) -> Floats:
    """Pearson's r of each row of two tables, NaN where a row is constant."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    # Equal numbers leave rounding, not zero, after their mean is taken off.
    norms = np.where((np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0), 1.0, np.nan)
    norms = norms * np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray(np.clip((x * y).sum(axis=1) / norms, -1, 1))


def _kendalls(x: Floats, y: Floats, draws: npt.NDArray[np.int64]) -> Floats:
    """Kendall's tau-b of each resample, a row of `draws`: sums over pairs as matrix products."""
    n = len(x)
    weights = np.stack([np.bincount(row, minlength=n) for row in draws]).astype(float)
    sign_x, sign_y = (np.sign(v[:, None] - v[None, :]) for v in (x, y))

    def total(matrix: Floats) -> Floats:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    pairs = total(np.abs(sign_x)) * total(np.abs(sign_y))
    return np.asarray(total(sign_x * sign_y) / np.sqrt(np.where(pairs > 0, pairs, np.nan)))


def _with_interval(values: Floats, z_variance: float) -> Correlation:
    """The first value with its interval; the other values are its resamples."""
    value, low, high = float(values[0]), float("nan"), float("nan")
    boot_low = boot_high = float("nan")
    if abs(value) < 1 - 1e-12:
        z, width = np.arctanh(value), stats.norm.isf((1 - CONFIDENCE) / 2) * np.sqrt(z_variance)
        low, high = float(np.tanh(z - width)), float(np.tanh(z + width))
        tail = 100 * (1 - CONFIDENCE) / 2
        boot_low, boot_high = (float(q) for q in np.nanpercentile(values[1:], [tail, 100 - tail]))
    return Correlation(value, low, high, boot_low, boot_high)


def _word_verdict(n: int, rho: Correlation, resolution: Resolution, metric: str) -> str:
    if n < MIN_POINTS:
        have = "1 run has" if n == 1 else f"{n} runs have"
        return (
            f"No verdict: {have} both a CV and a leaderboard score ({metric}); "
            f"under {MIN_POINTS} nearly any correlation could be chance."
        )
    if np.isnan(rho.value):
        return f"No verdict: over {n} runs one of the two scores ({metric}) never changes."
    if np.isnan(rho.low):
        way = "the same" if rho.value > 0 else "exactly the opposite"
        return f"CV and leaderboard ({metric}) put all {n} runs in {way} order."
    if rho.low >= 0.7:
        meaning = "CV ranks models well"
    elif rho.low >= 0.3:
        meaning = "CV ranks models better than chance, but not safely"
    elif rho.low > 0:
        meaning = "CV says something about the ranking, perhaps little"
    elif rho.high < 0:
        meaning = "CV ranks models the wrong way round"
    else:
        meaning = "CV cannot be told from no ranking at all"
    ends = f"{rho.low:.2f} to {rho.high:.2f}"
    found = f"Spearman {rho.value:+.2f} (95 % {ends}) over {n} runs, {metric}"
    if np.isnan(resolution.gap):
        gap = "No CV gap orders the leaderboard rightly in 80 % of the pairs."
    elif resolution.gap < 0.00005:
        gap = f"Any two runs are in the right order in {100 * resolution.share:.0f} % of the cases."
    else:
        gap = (
            f"From a CV gap of {resolution.gap:.4f} on, {100 * RIGHT_SHARE:.0f} % of the pairs or "
            "more are in the right order on the leaderboard."
        )
    return f"{meaning}: {found}. {gap}"
