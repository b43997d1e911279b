"""What an idea's effect may be on another base, given how far effects scatter.

An idea's effect is drawn around 0, its effect on a base around that; verdicts see it through
noise. How far both scatter is not known: all values are gone through, weighted by how well they
fit. Source: the normal hierarchical model, as in Gelman (2006), Bayesian Analysis 1; the expected
gain of an option is E[max(0, X)] = sd (z Phi(z) + phi(z)), z = mean / sd (Jones, Schonlau and
Welch 1998, J. Global Optimization 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from birdlab.study.meta_analysis import LEAST_SE

Floats = npt.NDArray[np.float64]

MIN_IDEAS = 5
"""From so many ideas on, their scatter says what an untried effect may be."""
GRID = 30
"""So many values of each spread are gone through."""


@dataclass(frozen=True, eq=False)
class Spread:
    """How far ideas lie apart, and how far one varies over bases, for all that fits what was seen.

    scatters, taus: [value] the SD of ideas' own effects about 0, and that of an idea over bases;
    weights: [value] how well both fit, sum 1. n_ideas and df: from how many ideas, and from how
    many differences between bases of one idea.
    """

    scatters: Floats
    taus: Floats
    weights: Floats
    n_ideas: int
    df: int

    @property
    def scatter(self) -> float:
        """The mean of what the SD of ideas may be."""
        return float(self.weights @ self.scatters)

    @property
    def tau(self) -> float:
        """The mean of what the SD of an idea over bases may be."""
        return float(self.weights @ self.taus)


@dataclass(frozen=True)
class Prospect:
    """What an effect may be: its mean and SD, the chance that it is above 0, E[max(0, effect)]."""

    expected: float
    sd: float
    chance: float
    worth: float


def fit_spread(gains: Sequence[Floats], ses: Sequence[Floats]) -> Spread | None:
    """How far ideas lie apart and how far each varies over bases; None where too little is known.

    gains, ses: for each idea its effect on each base and their standard errors. At least 5 ideas,
    and one on two bases. Before anything is seen both SDs are taken to be of the size of a typical
    error, half-Cauchy (Gelman 2006, Bayesian Analysis 1).
    """
    df = sum(len(own) - 1 for own in gains)
    if len(gains) < MIN_IDEAS or df < 1:
        return None
    typical = max(float(np.median(np.concatenate(ses))), LEAST_SE)
    quantiles = (np.arange(GRID) + 0.5) / GRID
    steps = typical * np.tan(np.pi / 2 * quantiles)
    scatters, taus = (part.ravel() for part in np.meshgrid(steps, steps, indexing="ij"))
    logs = sum(_log_likelihood(y, se, scatters, taus) for y, se in zip(gains, ses, strict=True))
    return Spread(scatters, taus, special.softmax(logs), len(gains), df)


def _log_likelihood(y: Floats, se: Floats, scatters: Floats, taus: Floats) -> Floats:
    """Of one idea's effects, [value]: around a mean that is drawn around 0."""
    variances = np.maximum(se, LEAST_SE) ** 2 + taus[:, None] ** 2
    weights = 1 / variances
    total = weights.sum(axis=1)
    wide = 1 + scatters**2 * total
    pulled = (weights @ y) ** 2 * scatters**2 / wide
    logs = -0.5 * (np.log(variances).sum(axis=1) + np.log(wide) + weights @ y**2 - pulled)
    return np.asarray(logs, dtype=np.float64)


def foresee(
    gains: Floats, ses: Floats, spread: Spread, *, tau: float | None = None, same_base: bool = False
) -> Prospect:
    """An idea's effect on a new base, from what was seen of it on others.

    tau: how far it varies over bases, where that is known better than from all ideas; same_base:
    on the one base that `gains` are of. All values of the spread are gone through.
    """
    variances = np.maximum(ses, LEAST_SE) ** 2
    taus = spread.taus if tau is None else np.full(len(spread.taus), tau)
    scatter2 = spread.scatters**2
    if same_base:
        prior = scatter2 + taus**2
        kept = prior / (prior + variances[0])
        means, sds = kept * gains[0], np.sqrt(kept * variances[0])
    else:
        precision = 1 / (variances + taus[:, None] ** 2)
        wide = 1 + scatter2 * precision.sum(axis=1)
        means = scatter2 * (precision @ gains) / wide
        sds = np.sqrt(scatter2 / wide + taus**2)
    expected = float(spread.weights @ means)
    variance = float(spread.weights @ (sds**2 + (means - expected) ** 2))
    chance = float(spread.weights @ special.ndtr(means / sds))
    return Prospect(
        expected,
        float(np.sqrt(variance)),
        chance,
        float(spread.weights @ expected_gain(means, sds)),
    )


def expected_gain(mean: Floats, sd: Floats) -> Floats:
    """E[max(0, X)] of normal X with these means and SDs (above 0)."""
    z = mean / sd
    return np.asarray(sd * (z * special.ndtr(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)))
