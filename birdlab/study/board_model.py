"""How CV, public and private scores of a board go together; what is not known is averaged over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

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
    trust_edges,
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
    widen_outlying,
)
from birdlab.study.cvlb_rounding import count_digits

PUBLIC_SHARE = 0.3
NOISE_FACTOR = 1.5
"""A given noise may be off by this factor (one SD of its logarithm)."""
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
    (NaN without a score), likeness: [n, n], width: [n] by which factor a deviation is wider than
    usual (`widen_outlying`). trust, noise (SD of a public score) and slope (public score per SD of
    CV, in its upper half) have mean, low and high (80 %). `source` says where the noise is from.
    """

    table: pd.DataFrame
    x: Floats
    y: Floats
    likeness: Floats
    width: Floats
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


def fit_board(
    table: pd.DataFrame,
    *,
    history: pd.DataFrame | None = None,
    public_share: float = PUBLIC_SHARE,
    public_noise: float | None = None,
    noise_factor: float = NOISE_FACTOR,
    likeness: Floats | None = None,
) -> BoardModel:
    """How CV, public and private scores of `table` go together.

    `table` has a row per candidate: run, cv (finite), public (NaN where it has none), and where
    known name, lineage, family (of the backbone), group (rows that CV scores may be compared
    over), cv_se (SE of the CV score). `history`: cv, public, private and, where known, lineage and
    group of past submissions. `public_noise` is the SD of a public score over other draws of as
    many files, right within `noise_factor`. `likeness` [n, n] takes the place of lineages. Raises
    DataError under 5 public scores, for scores that are no numbers, or where all are equal.
    """
    _check_options(public_share, public_noise, noise_factor)
    table, past = check_rows(table), check_history(history)
    y = table["public"].to_numpy(dtype=float)
    scored = np.isfinite(y)
    centre, digits = float(np.median(y[scored])), count_digits(y[scored])
    alike = lineage_likeness(table) if likeness is None else as_correlation(likeness, len(table))
    x, precision, mean = build_predictors(table, y)
    width = np.sqrt(widen_outlying(y - centre, x, precision, mean))
    inside = alike[np.ix_(scored, scored)]
    own = width[scored]
    design = build_design(
        (y[scored] - centre) / own, x[scored] / own[:, None], inside, precision, mean
    )
    shared = np.array(SHARED if tells_apart(alike) else SHARED[:1])
    scales = np.geomspace(*SCALES, N_SCALES) * _left_open(design)
    noise = scales[:, None, None] ** 2 * (1 - trust_grid())
    solved = [[solve_design(design, scale**2, part) for part in shared] for scale in scales]
    log = np.array([[evidence for _, _, evidence in row] for row in solved])[:, :, None]
    log = log + _weigh_noise(noise, digits, public_noise, noise_factor)
    if len(past):
        log = log + weigh_history(past, lineage_likeness(past), public_share, shared)
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    return BoardModel(
        table,
        x,
        y - centre,
        alike,
        width,
        centre,
        _collapse(weights, scales, shared, design),
        public_share,
        len(past),
        digits,
        _spread(np.broadcast_to(trust_grid(), weights.shape), weights),
        _spread(np.broadcast_to(np.sqrt(noise), weights.shape), weights),
        _slope(solved, weights),
        _name_source(len(past), public_noise),
    )


def _weigh_noise(
    noise: Floats, digits: int | None, public_noise: float | None, factor: float
) -> Floats:
    """Log weight of the variance of public noise at each point of the grid: the prior of t, what
    is given, and that rounding alone makes some."""
    prior = np.log(np.diff(special.betainc(*TRUST_PRIOR, trust_edges())))
    rounding = 0.0 if digits is None else 10.0 ** (-2 * digits) / 12
    log = prior + np.zeros_like(noise)
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
    trust, kept = trust_grid(), inside >= NEGLIGIBLE * inside.max()
    total, parts = inside[kept].sum(), []
    for row, column in np.argwhere(kept):
        variance = float(variances[row, column])
        beta, cov, _ = solve_design(design, variance, float(shared[row]))
        weight = float(inside[row, column] / total)
        where = float(trust[column]), float(shared[row])
        parts.append(Component(weight, *where, variance, beta, cov))
    return tuple(parts)


def _slope(
    solved: Sequence[Sequence[tuple[Floats, Floats, float]]], weights: Floats
) -> tuple[float, float, float]:
    """Mean and 80 % interval of the slope on CV in its upper half."""
    parts = weights.sum(axis=2)
    means = np.array([[beta[1:3].sum() for beta, _, _ in row] for row in solved])
    variances = np.array([[cov[1:3, 1:3].sum() for _, cov, _ in row] for row in solved])
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


def _name_source(n_history: int, public_noise: float | None) -> str:
    """Where the noise of public scores is from, in words."""
    parts = []
    if n_history:
        parts.append(f"{n_history} past private scores")
    if public_noise is not None:
        parts.append(f"a public noise of {public_noise:.4f} that was given")
    assumed = (
        "an assumption (any part of what CV leaves open may be real, from none to all, each as "
        "likely): CV and public scores alone do not tell it"
    )
    return " and ".join(parts) or assumed
