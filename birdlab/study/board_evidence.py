"""What public scores, and private scores of past submissions, say of the noise of a board."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

SHARED = (0.0, 0.25, 0.5, 0.75, 0.9)
"""Parts of the deviation from CV that alike submissions may share."""
N_TRUST, N_SCALES = 12, 21
SCALES = (0.35, 4.0)
TRUST_PRIOR = (1.0, 1.0)
"""Beta prior of the part of what CV leaves open that is real and not public noise."""
SLOPE_MEAN, SLOPE_SD = 0.4, 0.4
"""Prior of the slope on CV, in SDs of the public scores per SD of CV."""


@dataclass(frozen=True, eq=False)
class Design:
    """Public scores `y` [s] less their mean with predictors `x` [s, k], in a basis in which alike
    submissions are independent: of `e` [s], the eigenvalues of their likeness.

    precision: [k], mean: [k], the normal prior of the coefficients (precision 0 is flat).
    """

    y: Floats
    x: Floats
    e: Floats
    precision: Floats
    mean: Floats

    def spread(self, shared: float) -> Floats:
        """The variances [s] of a deviation of variance 1 of which alike ones share a part."""
        return np.asarray(np.maximum((1 - shared) + shared * self.e, 1e-9))


def build_design(y: Floats, x: Floats, likeness: Floats, precision: Floats, mean: Floats) -> Design:
    """The design of scores `y` with predictors `x` and a likeness [s, s] (1 on its diagonal)."""
    values, vectors = np.linalg.eigh(likeness)
    return Design(vectors.T @ y, vectors.T @ x, np.maximum(values, 0), precision, mean)


def solve_design(design: Design, variance: float, shared: float) -> tuple[Floats, Floats, float]:
    """Posterior mean [k] and covariance [k, k] of the coefficients, and the log evidence.

    `variance` is that of one deviation from CV, public noise included. The evidence is that of
    the scores with the coefficients integrated out, up to a constant.
    Source: Bayesian linear regression, e.g. Bishop (2006), section 3.3.
    """
    spread = variance * design.spread(shared)
    weighted = design.x.T / spread
    precision = weighted @ design.x + np.diag(design.precision)
    cov = np.linalg.inv(precision)
    right = weighted @ design.y + design.precision * design.mean
    beta = cov @ right
    misfit = (design.y**2 / spread).sum() + (design.precision * design.mean**2).sum()
    log_det = np.linalg.slogdet(precision)[1]
    evidence = -0.5 * (np.log(spread).sum() + log_det + misfit - right @ beta)
    return beta, np.asarray(cov, dtype=float), float(evidence)


def weigh_history(
    past: pd.DataFrame, likeness: Floats, public_share: float, shared: Floats
) -> Floats:
    """Log likelihood [shared, trust] of past private scores, given public ones and CV.

    `past` has cv, public, private and group. A past deviation from CV has a variance of its own,
    integrated out: what is carried over is the part of it that is real (`trust_grid`). Given
    public, private has the slope `trust` on it and the variance v (1 - trust) (trust + odds),
    where odds is the public share of the files over the private one. The slope on CV and the
    level of each group are flat, so an offset between the boards does no harm. The public scores
    themselves do not count again: they are in the table of candidates, where they belong.
    """
    public, private = (past[name].to_numpy(dtype=float) for name in ("public", "private"))
    trust = trust_grid()
    found, odds = np.zeros((len(shared), len(trust))), public_share / (1 - public_share)
    predictors = history_predictors(past)
    n, k = predictors.shape
    flat = np.zeros(k)
    design = build_design(public - public.mean(), predictors, likeness, flat, flat)
    follow = build_design(private - private.mean(), predictors, likeness, flat, flat)
    scales = np.geomspace(*SCALES, N_SCALES) * max(float(np.std(public)), 1e-9)
    for row, part in enumerate(shared):
        spread = design.spread(part)
        weighted = design.x.T / spread
        inside = weighted @ design.x
        inner = np.diag(1 / spread) - weighted.T @ np.linalg.solve(inside, weighted)
        log_det = np.log(spread).sum() + np.linalg.slogdet(inside)[1]
        own, cross, seen = (
            float(a @ inner @ b)
            for a, b in ((follow.y, follow.y), (follow.y, design.y), (design.y, design.y))
        )
        misfit = np.maximum(own - 2 * trust * cross + trust**2 * seen, 0)
        variance = scales[:, None] ** 2 * ((1 - trust) * (trust + odds))[None]
        public_part = -0.5 * (seen / scales**2) - (n - k) * np.log(scales)
        private_part = -0.5 * (misfit[None] / variance + (n - k) * np.log(variance) + log_det)
        found[row] = np.logaddexp.reduce(public_part[:, None] + private_part, axis=0)
        found[row] -= np.logaddexp.reduce(public_part)
    return found


def history_predictors(past: pd.DataFrame) -> Floats:
    """The level of each group and CV in SDs from it: [n, groups + 1], or [n, groups] where CV is
    the same for all of a group."""
    levels = pd.get_dummies(past["group"]).to_numpy(dtype=float)
    cv = (past["cv"] - past.groupby("group")["cv"].transform("mean")).to_numpy(dtype=float)
    spread = float(np.std(cv))
    return np.column_stack([levels, cv / spread]) if spread > 1e-12 else np.asarray(levels)


def trust_edges() -> Floats:
    """The ends [13] of the parts of 0 to 1 that the real part of a deviation may lie in, denser at
    both ends."""
    return np.asarray(np.sin(np.linspace(0, np.pi / 2, N_TRUST + 1)) ** 2)


def trust_grid() -> Floats:
    """Their middles [12]."""
    edges = trust_edges()
    return np.asarray((edges[1:] + edges[:-1]) / 2)
