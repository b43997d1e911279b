"""Spearman, Kendall and Pearson with intervals by formula, over runs, and over lineages of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from birdlab.study.cvlb_resamples import (
    CONFIDENCE,
    MIN_LINEAGES,
    Floats,
    Ints,
    draw_counts,
    kendall,
    number_of_draws,
    pearson,
    percentiles,
    spearman,
)

EXACT = 1e-12
FORMULAS = {
    "spearman": "Bonett & Wright (2000)",
    "kendall": "Fieller, Hartley & Pearson (1957)",
    "pearson": "Fisher (1921)",
}
VALUES: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "spearman": spearman,
    "kendall": kendall,
    "pearson": pearson,
}


@dataclass(frozen=True)
class Correlation:
    """A correlation of `n` runs with its 95 % intervals.

    `low` to `high` by formula (`method`), `boot_low` to `boot_high` by drawing runs, and
    `cluster_low` to `cluster_high` by drawing whole lineages, of which there are `n_lineages`: the
    same as that over runs when each run is its own, NaN under 5 lineages. NaN also where it is not
    defined: all scores equal, too few runs, or a correlation of exactly ±1.
    """

    value: float
    low: float
    high: float
    boot_low: float
    boot_high: float
    cluster_low: float = float("nan")
    cluster_high: float = float("nan")
    n: int = 0
    n_lineages: int = 0
    method: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The interval that sentences speak from: by formula, wider where lineages say so."""
        if self.n_lineages >= self.n or np.isnan(self.cluster_low):
            return self.low, self.high
        return min(self.low, self.cluster_low), max(self.high, self.cluster_high)


def correlate_scores(
    kind: str, x: Floats, y: Floats, lineages: Ints | None = None, *, n_draws: int | None = None
) -> Correlation:
    """The correlation of one kind ("spearman", "kendall" for tau-b, "pearson") with intervals.

    `lineages` numbers the lineage of each run from 0 on; without it each run is its own. Drawn
    always from the same seed. Source of the formulas, all on Fisher's z with the variance
    1/(n-3) for Pearson, (1+r²/2)/(n-3) for Spearman, 0.437/(n-4) for Kendall: `method`.
    """
    n, nan = len(x), float("nan")
    runs = np.arange(n)
    lineages = runs if lineages is None else lineages
    n_lineages = int(lineages.max()) + 1 if n else 0
    value = float(VALUES[kind](x, y, np.ones((1, n)))[0]) if n > 1 else nan
    if not abs(value) < 1 - EXACT:
        value = float(np.round(value))
        return Correlation(
            value, nan, nan, nan, nan, n=n, n_lineages=n_lineages, method=FORMULAS[kind]
        )
    draws = number_of_draws(n) if n_draws is None else n_draws
    boot = percentiles(VALUES[kind](x, y, draw_counts(runs, draws)))
    cluster = boot
    if n_lineages < n:
        cluster = (nan, nan)
        if n_lineages >= MIN_LINEAGES:
            cluster = percentiles(VALUES[kind](x, y, draw_counts(lineages, draws)))
    low, high = formula_interval(kind, value, n)
    return Correlation(value, low, high, *boot, *cluster, n, n_lineages, FORMULAS[kind])


def formula_interval(kind: str, value: float, n: int, *, lost: int = 0) -> tuple[float, float]:
    """The 95 % interval on Fisher's z; `lost` more degrees of freedom are spent on group means.

    NaN under 4 runs (5 for Kendall) and at exactly ±1.
    """
    free = n - lost - (4 if kind == "kendall" else 3)
    if free < 1 or not abs(value) < 1 - EXACT:
        return float("nan"), float("nan")
    scale = {"spearman": 1 + value**2 / 2, "kendall": 0.437, "pearson": 1.0}[kind]
    width = stats.norm.isf((1 - CONFIDENCE) / 2) * np.sqrt(scale / free)
    z = np.arctanh(value)
    return float(np.tanh(z - width)), float(np.tanh(z + width))
