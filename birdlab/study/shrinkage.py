"""What an observed difference is worth: effects drawn from one distribution, seen through noise.

The best of many arms was picked for its luck too. Arms are taken as draws around a common mean
with a scatter of their own; each is pulled to that mean by the share of what is seen that noise
makes. The scatter is not known: all its values are gone through, weighted by how well they fit.
Errors are taken as normal; that their size is an estimate is gone through likewise where all arms
share it.
Source: James and Stein (1961); Efron and Morris (1975), JASA 70, for a common mean that is
estimated; Daniels (1999), Canadian Journal of Statistics 27, for the uniform prior of the share;
Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3, for variances that borrow from one another.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from birdlab.study.contrasts import Floats

Flags = npt.NDArray[np.bool_]

MIN_EFFECTS = 4
"""So many effects tell of their scatter; from fewer nothing is concluded."""

SHARES, SCALES = 60, 7
BORROWED_DF = 4.0
BLUR = float(np.log(2))
"""How far the scatter of one sweep lies from that of the lab: mostly half to double of it."""
FAR, UNLIKELY = 3.5, 0.01


@dataclass(frozen=True, eq=False)
class EffectPrior:
    """How effects of changes are distributed: around `mean` with SD `sd`, from `n` of them.

    sd_low, sd_high: 95 % of what the SD may be; `sds` and `weights` are all its values with their
    weights (sum 1). mean_se: the standard error of the mean. source: where it comes from, in words.
    """

    mean: float
    sd: float
    n: int
    sd_low: float
    sd_high: float
    source: str
    sds: Floats
    weights: Floats
    mean_se: float = 0.0


@dataclass(frozen=True)
class Shrunken:
    """What a difference is worth: its expected value, a 95 % interval, the chance it is above 0."""

    expected: float
    low: float
    high: float
    chance_above: float


@dataclass(frozen=True, eq=False)
class Pulled:
    """Arms pulled to their mean, for every scatter that fits: [value, arm] unless said.

    means: of the arms' true places; kept: the share of a difference to the mean that stays;
    errors: error variances; centers, center_variance, scales, scatters, weights: [value]; own: the
    arms that are no outliers, [arm] bool.
    """

    means: Floats
    kept: Floats
    errors: Floats
    centers: Floats
    center_variance: Floats
    scales: Floats
    scatters: Floats
    weights: Floats
    own: Flags

    def gains(self, against: int | None = None, fixed_variance: float = 0.0) -> list[Shrunken]:
        """What each arm is worth: against another of them, or as it is.

        fixed_variance: of an error that all arms share and none of them tells of.
        """
        means, pulled, variance = self.means, 1 - self.kept, self.kept * self.errors
        if against is not None:
            means = means - means[:, [against]]
            pulled = pulled - pulled[:, [against]]
            variance = variance + variance[:, [against]]
            variance[:, against] = 0
        variance = variance + pulled**2 * self.center_variance[:, None]
        return _mix(means, variance + fixed_variance * self.scales[:, None], self.weights)

    def lead(self, arm: int) -> Shrunken:
        """By how much one arm is above the mean of all."""
        n = self.means.shape[1]
        parts = np.full(n, -1 / n)
        parts[arm] += 1
        variance = (self.kept * self.errors) @ parts**2
        variance = variance + ((1 - self.kept) @ parts) ** 2 * self.center_variance
        (found,) = _mix((self.means @ parts)[:, None], variance[:, None], self.weights)
        return found

    def prior(self, source: str) -> EffectPrior:
        """The distribution that these arms come from."""
        order = np.argsort(self.scatters)
        sds, weights = self.scatters[order], self.weights[order]
        steps = np.cumsum(weights) - weights / 2
        low, sd, high = (float(v) for v in np.interp((0.025, 0.5, 0.975), steps, sds))
        mean, se = self.weights @ self.centers, np.sqrt(self.weights @ self.center_variance)
        n = int(self.own.sum())
        return EffectPrior(float(mean), sd, n, low, high, source, sds, weights, float(se))


def pull_arms(
    values: Floats,
    errors: Floats,
    *,
    df: float = np.inf,
    prior: EffectPrior | None = None,
    loads: Floats | None = None,
) -> Pulled:
    """Values [arm] with independent errors of variance `errors` [arm], pulled to a common mean.

    The mean is free; `loads` are how many times it each value contains, 1 unless said. df: the
    degrees of freedom that the errors are known from, all by one factor. The scatter's prior is
    that every share of noise is as likely, or that of `prior`, blurred. Arms far from all others
    neither move nor widen the rest, and stay where they are. At least MIN_EFFECTS values, and
    errors above 0.
    """
    scales, shares = _scales(df), (np.arange(SHARES) + 0.5) / SHARES
    own, load = ~find_outliers(values, errors), np.ones(len(values)) if loads is None else loads
    scale, share = (part.ravel() for part in np.meshgrid(scales, shares, indexing="ij"))
    scatter2 = float(np.median(errors)) * scale * (1 - share) / share
    noise = errors * scale[:, None]
    exact = own / (noise + scatter2[:, None])
    total = exact @ load**2
    centers = exact @ (values * load) / total
    apart = values - centers[:, None] * load
    rest = (exact * apart**2).sum(axis=1)
    logs = 0.5 * (np.log(exact[:, own]).sum(axis=1) - np.log(total) - rest)
    scatters = np.sqrt(scatter2)
    if prior is not None:
        logs += _blurred(scatters, prior) - np.log(share * (1 - share))
    kept = np.where(own, scatter2[:, None] / (noise + scatter2[:, None]), 1.0)
    means, weights = values - (1 - kept) * apart, special.softmax(logs)
    return Pulled(means, kept, noise, centers, 1 / total, scale, scatters, weights, own)


def fit_effects(
    effects: Floats,
    ses: Floats,
    dfs: Floats | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    source: str = "",
) -> EffectPrior | None:
    """The distribution that effects [n] with standard errors [n] come from; None for too few.

    Effects of one of `groups` [n] share a base: it counts as one more recipe of their kind, so that
    differences scatter by sqrt(2) as much as recipes do. Without them each effect has its own.
    With `dfs` a standard error from few degrees of freedom is drawn to the typical one. Effects
    far from all others are left out.
    """
    effects, variances = np.asarray(effects, float), np.asarray(ses, float) ** 2
    if len(effects) < MIN_EFFECTS or not np.median(variances) > 0:
        return None
    typical = float(np.median(variances))
    df = np.full(len(effects), 1e9) if dfs is None else np.asarray(dfs, float)
    variances = (df * variances + BORROWED_DF * typical) / (df + BORROWED_DF)
    table = pd.DataFrame({"effect": effects, "group": range(len(effects))})
    table["group"] = table["group"] if groups is None else list(groups)
    loads = 1 / np.sqrt(table.groupby("group")["effect"].transform("size").to_numpy(float) + 1)
    shared = table.groupby("group")["effect"].transform("mean").to_numpy(float)
    pulled = pull_arms(effects - shared * (1 - loads), variances / 2, loads=loads)
    twice = replace(pulled, scatters=pulled.scatters * np.sqrt(2))
    return twice.prior(source or f"effects of {int(pulled.own.sum())} arms")


def shrink(effect: float, se: float, prior: EffectPrior, *, df: float = np.inf) -> Shrunken:
    """What one difference is worth that comes from `prior` and has the standard error `se`.

    df: the degrees of freedom that `se` is known from. A noiseless difference is worth itself.
    """
    if se == 0:
        return Shrunken(effect, effect, effect, float(effect > 0))
    sds, scale = (part.ravel() for part in np.meshgrid(prior.sds, _scales(df, 4 * SCALES)))
    wide, noise = sds**2 + prior.mean_se**2, se**2 * scale
    weights = np.tile(prior.weights, len(scale) // len(prior.sds))
    total = wide + noise
    logs = -0.5 * (np.log(total) + (effect - prior.mean) ** 2 / total)
    weights = weights * np.exp(logs - logs.max())
    kept = wide / total
    means, variances = prior.mean + kept * (effect - prior.mean), kept * noise
    (found,) = _mix(means[:, None], variances[:, None], weights / weights.sum())
    return found


def expected_best(errors: Floats) -> float:
    """The mean of the highest of normal errors with variances `errors` [arm]: luck alone.

    Source: the mean of a maximum is the integral of 1 - F above 0 less that of F below 0.
    """
    sds = np.sqrt(errors)
    top = float(sds.max())
    if not top > 0 or len(sds) < 2:
        return 0.0
    x = np.linspace(-9 * top, 9 * top, 4001)
    below = special.log_ndtr(x[:, None] / np.maximum(sds, 1e-9 * top)).sum(axis=1)
    return float(np.trapezoid(np.where(x > 0, -np.expm1(below), -np.exp(below)), x))


def find_outliers(values: Floats, errors: Floats) -> Flags:
    """Which values [n] lie so far from the others that they cannot come from where those do.

    Those beyond 3.5 robust SDs of the median that a t test against the rest (p < .01 / n) does not
    take for one of them. None where fewer than MIN_EFFECTS would be left.
    """
    middle = np.median(values)
    spread = max(1.4826 * float(np.median(np.abs(values - middle))), np.sqrt(np.median(errors)))
    far = np.abs(values - middle) > FAR * spread
    rest = values[~far]
    if not far.any() or len(rest) < MIN_EFFECTS:
        return np.zeros(len(values), bool)
    sd = np.sqrt(max(float(rest.var(ddof=1)), float(np.median(errors))) * (1 + 1 / len(rest)))
    p = 2 * special.stdtr(len(rest) - 1, -np.abs(values - rest.mean()) / sd)
    return np.asarray(far & (p < UNLIKELY / len(values)))


def _scales(df: float, n: int = SCALES) -> Floats:
    """Factors [n] on error variances, equally likely, as far as `df` leaves them open."""
    if not np.isfinite(df):
        return np.ones(1)
    levels = (np.arange(n) + 0.5) / n
    return np.asarray(df / special.chdtri(df, levels), float)


def _blurred(scatters: Floats, prior: EffectPrior) -> Floats:
    """The log density over the log scatter of arms about their mean, in a lab with `prior`.

    The lab's effects have bases of their own, which add as much scatter as an arm does.
    """
    sds = prior.sds / np.sqrt(2)
    lowest = np.maximum(sds, 1e-3 * max(float(sds.max()), 1e-12))
    apart = (np.log(scatters)[:, None] - np.log(lowest)) / BLUR
    return np.asarray(special.logsumexp(-0.5 * apart**2, b=prior.weights, axis=1), float)


def _mix(means: Floats, variances: Floats, weights: Floats) -> list[Shrunken]:
    """Mixtures of normal distributions [value, mixture] by their means, SDs and parts above 0."""
    mean = weights @ means
    width = special.ndtri(0.975) * np.sqrt(weights @ (variances + (means - mean) ** 2))
    sds = np.sqrt(np.maximum(variances, np.finfo(float).tiny))
    above = weights @ special.ndtr(means / sds)
    rows = zip(mean, mean - width, mean + width, above, strict=True)
    return [Shrunken(*(float(value) for value in row)) for row in rows]
