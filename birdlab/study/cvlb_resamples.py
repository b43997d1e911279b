"""Correlations of weighted runs, a row of weights per resample; and the resamples themselves.

A resample is how often each run was drawn. So no resample is sorted, and whole lineages are drawn
as easily as single runs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CONFIDENCE = 0.95
MOST_DRAWS, FEWEST_DRAWS, MOST_NUMBERS = 2000, 400, 800_000
DENSE_RUNS = 300
MIN_LINEAGES = 5
CONSTANT = 1e-24
"""Scores scaled to 0..1 whose variance is below this differ by rounding only."""


def number_of_draws(n: int) -> int:
    """How many resamples of `n` runs are drawn: 2000, fewer beyond 400 runs, down to 400."""
    return int(np.clip(MOST_NUMBERS // max(n, 1), FEWEST_DRAWS, MOST_DRAWS))


def known_names(pairs: pd.DataFrame, column: str) -> npt.NDArray[np.object_] | None:
    """The names of each run in a column, "" where unknown; None where no two runs differ in it."""
    if column not in pairs.columns:
        return None
    names = pairs[column].astype(object).where(pairs[column].notna(), "").astype(str)
    return np.asarray(names, dtype=object) if names.nunique() > 1 else None


def lineage_numbers(pairs: pd.DataFrame) -> Ints:
    """The lineage of each run as a number from 0 on, in order of appearance.

    A run without a lineage (empty, missing, or no such column) is a lineage of its own.
    """
    if "lineage" not in pairs.columns:
        return np.arange(len(pairs))
    column = pairs["lineage"]
    names = column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    own = "\0" + np.arange(len(names)).astype(str).astype(object)
    keys = np.where(names == "", own, names)
    return np.asarray(pd.factorize(keys)[0], dtype=np.int64)


def drawn_together(pairs: pd.DataFrame) -> Ints:
    """The numbers of what is drawn whole: lineages, or single runs where there are under 5."""
    lineages = lineage_numbers(pairs)
    few = len(np.unique(lineages)) < MIN_LINEAGES
    return np.arange(len(pairs)) if few else lineages


def draw_counts(clusters: Ints, n_draws: int, *, seed: int = 0) -> Floats:
    """How often each run is in each resample [n_draws, runs] of whole clusters.

    `clusters` numbers the cluster of each run from 0 on without gaps. The same seed gives the
    same draws. Source: Davison & Hinkley (1997), resampling hierarchical data.
    """
    k = int(clusters.max(initial=-1)) + 1
    if not k:
        return np.zeros((n_draws, 0))
    drawn = np.random.default_rng(seed).integers(0, k, (n_draws, k))
    cells = (drawn + k * np.arange(n_draws)[:, None]).ravel()
    counts = np.bincount(cells, minlength=n_draws * k).reshape(n_draws, k)
    return np.asarray(counts[:, clusters], dtype=float)


def spearman(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Spearman's rho of each resample [draws, runs], ties at mean ranks; NaN where constant."""
    return pearson_of(weighted_ranks(x, counts), weighted_ranks(y, counts), counts)


def pearson(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Pearson's r of each resample [draws, runs]; NaN where a score is constant."""
    return pearson_of(_scaled(x)[None], _scaled(y)[None], counts)


def kendall(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Kendall's tau-b of each resample [draws, runs]; NaN where a score is constant.

    Beyond 300 runs the sums over pairs are replaced by their linear part in the counts, of which
    the rest is of order 1/n. Source: Hoeffding (1948), the projection of a U-statistic.
    """
    sign_x, sign_y = (np.sign(v[:, None] - v[None, :]).astype(np.int8) for v in (x, y))
    both = sign_x * sign_y
    if len(x) <= DENSE_RUNS:
        sums = [_pair_sums(m.astype(float), counts) for m in (both, sign_x**2, sign_y**2)]
    else:
        level = counts * (len(x) / counts.sum(axis=1, keepdims=True))
        rows = [m.sum(axis=1, dtype=np.int64) for m in (both, sign_x**2, sign_y**2)]
        sums = [2 * level @ row - row.sum() for row in rows]
    pairs = np.sqrt(np.maximum(sums[1], 0)) * np.sqrt(np.maximum(sums[2], 0))
    return np.asarray(sums[0] / np.where(pairs > 0, pairs, np.nan))


def weighted_ranks(values: Floats, counts: Floats) -> Floats:
    """The mean rank, less a half, of each run in each resample [draws, runs]."""
    levels, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    sums = counts[:, order]
    if len(levels) < len(values):
        starts = np.searchsorted(place[order], np.arange(len(levels)))
        sums = np.add.reduceat(sums, starts, axis=1)
    return np.asarray((np.cumsum(sums, axis=1) - sums / 2)[:, place])


def pearson_of(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Pearson's r of each row of two tables [draws or 1, runs], each number `counts` times."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    x = x - (counts * x).sum(axis=1, keepdims=True) / total
    y = y - (counts * y).sum(axis=1, keepdims=True) / total
    var_x, var_y = ((counts * v**2).sum(axis=1) for v in (x, y))
    # Equal numbers leave rounding, not zero, after their mean is taken off.
    norms = np.where((var_x > CONSTANT) & (var_y > CONSTANT), np.sqrt(var_x * var_y), np.nan)
    return np.asarray(np.clip((counts * x * y).sum(axis=1) / norms, -1, 1))


def percentiles(values: Floats) -> tuple[float, float]:
    """The ends of the middle 95 % of the defined values; NaN when half or more are not defined."""
    defined = values[~np.isnan(values)]
    if 2 * len(defined) <= len(values):
        return float("nan"), float("nan")
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _pair_sums(matrix: Floats, counts: Floats) -> Floats:
    return np.asarray(((counts @ matrix) * counts).sum(axis=1))


def _scaled(values: Floats) -> Floats:
    spread = np.ptp(values)
    return np.asarray((values - values.min()) / (spread if spread > 0 else 1.0))
