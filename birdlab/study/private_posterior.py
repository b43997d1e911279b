"""What is known of the private score of each candidate from CV, public scores and their noise.

Candidate i has an ability θ_i, the expectation of its private score. CV predicts it with a slope
and leaves a deviation; the public score adds noise of its own, and so does the private one:

    public_i  = θ_i + e_i         θ_i = intercept + slope · CV_i + group + d_i
    private_i = θ_i + f_i         var d = σ² t,   var e = σ² (1 - t),   var f = var e · p / (1 - p)

t is the part of the deviation that is real, p the public share of the files. Alike submissions (of
one lineage, or with alike outputs) share a part of d, e and f. CV and public scores alone tell σ,
the slope and what is shared, and nothing of t: that comes from past private scores, from a given
or measured noise, or from a prior that is stated. All of them are averaged over, not plugged in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.board_evidence import (
    N_SCALES,
    SCALES,
    SHARED,
    TRUST_PRIOR,
    Design,
    Floats,
    build_design,
    solve_design,
    trust_grid,
    weigh_history,
)
from birdlab.study.board_rows import (
    as_correlation,
    build_predictors,
    check_history,
    check_rows,
    lineage_likeness,
    tells_apart,
)
from birdlab.study.cvlb_rounding import count_digits

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PUBLIC_SHARE = 0.3
NOISE_FACTOR = 1.5
"""A given noise may be off by this factor (one SD of its logarithm)."""
MIN_HISTORY = 4
NEGLIGIBLE = 0.003
"""Parts of the average with less weight than this part of the heaviest are left out."""


@dataclass(frozen=True, eq=False)
class Component:
    """One setting of what is averaged over: its weight, t, what is shared, σ², and the
    coefficients with their covariance."""

    weight: float
    trust: float
    shared: float
    variance: float
    beta: Floats
    cov: Floats


@dataclass(frozen=True, eq=False)
class BoardModel:
    """What a ledger says of how CV, public and private scores go together.

    table: run, name, cv, public of all rows. x: [n, k] predictors, y: [n] public less `centre`
    (NaN without a score), likeness: [n, n]. trust, slope (public score per SD of CV) and noise
    (SD of a public score) have mean, low and high (80 %). `source` says where the noise is from.
    """

    table: pd.DataFrame
    x: Floats
    y: Floats
    likeness: Floats
    centre: float
    components: tuple[Component, ...]
    public_share: float
    n_history: int
    digits: int | None
    trust: tuple[float, float, float]
    noise: tuple[float, float, float]
    slope: tuple[float, float, float]
    source: str

    @property
    def n_scored(self) -> int:
        """How many rows have a public score."""
        return int(np.isfinite(self.y).sum())


@dataclass(frozen=True, eq=False)
class Posterior:
    """The private scores of n candidates: mean [n] and cov [n, n], the moments of a mixture.

    weights [G], means [G, n] and covs [G, n, n] are its normal parts. public: [n] the scores that
    are known, NaN elsewhere; public_mean and public_var [n]: of the public score that a candidate
    without one would get; public_cov [n, n]: of each private score (row) with it (column).
    """

    table: pd.DataFrame
    mean: Floats
    cov: Floats
    weights: Floats
    means: Floats
    covs: Floats
    public: Floats
    public_mean: Floats
    public_var: Floats
    public_cov: Floats

    @property
    def sd(self) -> Floats:
        """The SD [n] of each private score."""
        return np.asarray(np.sqrt(np.diag(self.cov)))


def fit_board(
    table: pd.DataFrame,
    *,
    history: pd.DataFrame | None = None,
    public_share: float = PUBLIC_SHARE,
    public_noise: float | None = None,
    noise_factor: float = NOISE_FACTOR,
    likeness: Floats | None = None,
    noise_source: str = "",
) -> BoardModel:
    """How CV, public and private scores of `table` go together.

    `table` has a row per candidate: run, cv (finite), public (NaN where it has none), and where
    known name, lineage, group (rows that CV scores may be compared over), cv_se (SE of the CV
    score). `history`: cv, public, private and lineage of past submissions. `public_noise` is the
    SD of a public score over other draws of as many files, right within `noise_factor`.
    `likeness` [n, n] takes the place of lineages. Raises DataError under 5 public scores, for
    scores that are no numbers, or where all public scores are equal.
    """
    _check_options(public_share, public_noise, noise_factor)
    table, past = check_rows(table), check_history(history)
    y = table["public"].to_numpy(dtype=float)
    scored = np.isfinite(y)
    centre, digits = float(y[scored].mean()), count_digits(y[scored])
    alike = lineage_likeness(table) if likeness is None else as_correlation(likeness, len(table))
    x, precision, mean = build_predictors(table, y)
    inside = alike[np.ix_(scored, scored)]
    design = build_design(y[scored] - centre, x[scored], inside, precision, mean)
    shared = np.array(SHARED if tells_apart(alike) else SHARED[:1])
    scales = np.geomspace(*SCALES, N_SCALES) * _left_open(design)
    noise = scales[:, None, None] ** 2 * (1 - trust_grid()[0])
    log = _weigh_deviations(design, scales, shared)[:, :, None]
    log = log + _weigh_noise(noise, digits, public_noise, noise_factor)
    n_history = len(past) if len(past) >= MIN_HISTORY else 0
    if n_history:
        log = log + weigh_history(past, lineage_likeness(past), public_share, shared)
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    return BoardModel(
        table,
        x,
        y - centre,
        alike,
        centre,
        _collapse(weights, scales, shared, design),
        public_share,
        n_history,
        digits,
        _spread(np.broadcast_to(trust_grid()[0], weights.shape), weights),
        _spread(np.broadcast_to(np.sqrt(noise), weights.shape), weights),
        _slope(design, weights, scales, shared),
        _name_source(n_history, public_noise, noise_source),
    )


def posterior(model: BoardModel, candidates: Sequence[str] | None = None) -> Posterior:
    """The private scores of the candidates (runs of the model's table; all by default).

    Every public score of the table is conditioned on, also those of rows that are no candidates.
    Scores are on the scale of the public board: an offset that all share moves no choice. Raises
    DataError for a run that the table does not have.
    """
    at = _places(model, candidates)
    scored = np.isfinite(model.y)
    odds = model.public_share / (1 - model.public_share)
    weights = np.array([part.weight for part in model.components])
    rows = [_condition(model, part, at, scored, odds) for part in model.components]
    means, covs, public_means, public_vars, crosses = (np.stack(c) for c in zip(*rows, strict=True))
    mean, public_mean = weights @ means, weights @ public_means
    off, public_off = means - mean, public_means - public_mean
    cov = np.tensordot(weights, covs, 1) + (weights[:, None] * off).T @ off
    cross = np.tensordot(weights, crosses, 1) + (weights[:, None] * off).T @ public_off
    public_var = weights @ (public_vars + public_off**2)
    return Posterior(
        model.table.iloc[at].reset_index(drop=True),
        mean + model.centre,
        cov,
        weights,
        means + model.centre,
        covs,
        model.y[at] + model.centre,
        public_mean + model.centre,
        public_var,
        cross,
    )


def _condition(
    model: BoardModel, part: Component, at: Ints, scored: Bools, odds: float
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Of one component: mean and covariance of private; mean, variance and cross of public."""
    alike = (1 - part.shared) * np.eye(len(model.y)) + part.shared * model.likeness
    inside = alike[np.ix_(scored, scored)]
    follow = np.linalg.solve(inside, alike[np.ix_(scored, at)]).T
    x, x_scored, y = model.x[at], model.x[scored], model.y[scored]
    rest = y - x_scored @ part.beta
    known = alike[np.ix_(at, at)] - follow @ alike[np.ix_(scored, at)]
    tied = x - part.trust * follow @ x_scored
    free = x - follow @ x_scored
    own = alike[np.ix_(at, at)]
    real = part.variance * part.trust
    mean = x @ part.beta + part.trust * (follow @ rest)
    cov = real * (own - part.trust * (own - known)) + tied @ part.cov @ tied.T
    cov = cov + part.variance * (1 - part.trust) * odds * own
    public_mean = x @ part.beta + follow @ rest
    public_var = part.variance * np.diag(known) + np.einsum("ij,jk,ik->i", free, part.cov, free)
    cross = real * known + tied @ part.cov @ free.T
    return mean, cov, public_mean, public_var, cross


def _places(model: BoardModel, candidates: Sequence[str] | None) -> Ints:
    """The rows of the candidates."""
    runs = [str(run) for run in model.table["run"]]
    if candidates is None:
        return np.arange(len(runs))
    unknown = [run for run in candidates if run not in runs]
    if unknown:
        raise DataError("a candidate is not among the runs of the model", got=", ".join(unknown))
    return np.array([runs.index(run) for run in candidates], dtype=np.int64)


def _weigh_deviations(design: Design, scales: Floats, shared: Floats) -> Floats:
    """Log evidence [scales, shared] of the public scores; the prior of a scale is 1 / scale."""
    return np.array(
        [[solve_design(design, scale**2, part)[2] for part in shared] for scale in scales]
    )


def _weigh_noise(
    noise: Floats, digits: int | None, public_noise: float | None, factor: float
) -> Floats:
    """Log weight of the variance of public noise at each point of the grid: the prior of t, what
    is given, and that rounding alone makes some."""
    trust, widths = trust_grid()
    a, b = TRUST_PRIOR
    rounding = 0.0 if digits is None else 10.0 ** (-2 * digits) / 12
    log = np.log(widths * trust ** (a - 1) * (1 - trust) ** (b - 1)) + np.zeros_like(noise)
    if rounding:
        log = log - 2 * np.maximum(0, np.log(rounding / noise))
    if public_noise is not None:
        off = 0.5 * np.log(noise / (public_noise**2 + rounding)) / np.log(factor)
        log = log - 0.5 * off**2
    return np.asarray(log)


def _collapse(
    weights: Floats, scales: Floats, shared: Floats, design: Design
) -> tuple[Component, ...]:
    """A component per (shared, trust), the scales replaced by their mean variance."""
    inside = weights.sum(axis=0)
    variances = (weights * scales[:, None, None] ** 2).sum(axis=0) / np.maximum(inside, 1e-300)
    trust, kept = trust_grid()[0], inside >= NEGLIGIBLE * inside.max()
    total, parts = inside[kept].sum(), []
    for row, column in np.argwhere(kept):
        variance = float(variances[row, column])
        beta, cov, _ = solve_design(design, variance, float(shared[row]))
        weight = float(inside[row, column] / total)
        where = float(trust[column]), float(shared[row])
        parts.append(Component(weight, *where, variance, beta, cov))
    return tuple(parts)


def _slope(
    design: Design, weights: Floats, scales: Floats, shared: Floats
) -> tuple[float, float, float]:
    """Mean and 80 % interval of the slope on CV."""
    parts = weights.sum(axis=2)
    solved = [[solve_design(design, scale**2, part) for part in shared] for scale in scales]
    means = np.array([[beta[1] for beta, _, _ in row] for row in solved])
    variances = np.array([[cov[1, 1] for _, cov, _ in row] for row in solved])
    mean = float((parts * means).sum())
    width = 1.2816 * float(np.sqrt((parts * (variances + (means - mean) ** 2)).sum()))
    return mean, mean - width, mean + width


def _spread(values: Floats, weights: Floats) -> tuple[float, float, float]:
    """Mean and 80 % interval of a quantity on the grid."""
    values, weights = values.ravel(), weights.ravel()
    order = np.argsort(values)
    ends = np.interp([0.1, 0.9], np.cumsum(weights[order]), values[order])
    return float(values @ weights), float(ends[0]), float(ends[1])


def _left_open(design: Design) -> float:
    """About the SD of what the predictors leave open; where the grid of scales is laid."""
    variance = float(np.mean(design.y**2))
    beta, _, _ = solve_design(design, variance, 0.0)
    rest = design.y - design.x @ beta
    return float(np.sqrt(max(float(np.mean(rest**2)), 0.01 * variance)))


def _check_options(public_share: float, public_noise: float | None, noise_factor: float) -> None:
    if not 0 < public_share < 1:
        raise DataError("the public share is no share", got=public_share, expected="0 to 1")
    if public_noise is not None and not 0 < public_noise < 1:
        raise DataError("the public noise is no SD of scores", got=public_noise, expected="0 to 1")
    if not noise_factor > 1:
        raise DataError("the noise factor is 1 or less", got=noise_factor, expected="1.5")


def _name_source(n_history: int, public_noise: float | None, given: str) -> str:
    """Where the noise of public scores is from, in words."""
    parts = []
    if n_history:
        parts.append(f"{n_history} past private scores")
    if public_noise is not None:
        parts.append(given or f"a public noise of {public_noise:.4f} that was given")
    a, b = TRUST_PRIOR
    assumed = (
        f"an assumption (Beta({a:g}, {b:g}) for the real part of what CV leaves open): CV and "
        "public scores alone do not tell it"
    )
    return " and ".join(parts) or assumed
