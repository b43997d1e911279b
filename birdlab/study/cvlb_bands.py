"""The correlation in the top of the runs, by CV or by the leaderboard, and what a cut leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from birdlab.study.cvlb_correlations import EXACT, formula_interval
from birdlab.study.cvlb_resamples import (
    MIN_LINEAGES,
    MOST_DRAWS,
    Floats,
    draw_counts,
    drawn_together,
    known_names,
    lineage_numbers,
    pearson_of,
    percentiles,
    spearman,
)

MIN_RUNS = 10
SIMULATED_NUMBERS = 200_000
PARTS = {"top quarter": 0.75, "top half": 0.5}
INTERVAL = ("spearman", "low", "high", "boot_low", "boot_high")
BAND_NUMBERS, FEWEST_BAND_DRAWS = 250_000, 250


@dataclass(frozen=True)
class Band:
    """Spearman in the runs that a cut keeps, and what the cut alone would leave.

    `cut` names the score that is cut ("cv" or "lb"), `part` what is kept, `split` the split whose
    runs are looked at ("" for all). `low` to `high` is the 95 % interval by formula, `boot_low` to
    `boot_high` over its `n_lineages` lineages, or over runs where there are under 5. `alone` is
    the mean that the cut would leave if the correlation were the same everywhere, and `alone_low`
    to `alone_high` where 95 % of such studies lie.
    """

    cut: str
    part: str
    split: str
    n: int
    n_before: int
    at_least: float
    spearman: float
    low: float
    high: float
    boot_low: float
    boot_high: float
    alone: float
    alone_low: float
    alone_high: float
    n_lineages: int

    @property
    def ends(self) -> tuple[float, float]:
        """The interval that sentences speak from: by formula, wider where lineages say so."""
        if not MIN_LINEAGES <= self.n_lineages < self.n or np.isnan(self.boot_low):
            return self.low, self.high
        return min(self.low, self.boot_low), max(self.high, self.boot_high)


def list_bands(pairs: pd.DataFrame, *, lb_from: float | None = None) -> tuple[Band, ...]:
    """The top quarter and top half by CV, over all and within each split, then by leaderboard.

    `lb_from` adds the runs with at least that leaderboard score. Bands that keep under 3 runs
    are left out, and splits of under 6.
    """
    bands = [cut_band(pairs, "cv", part) for part in PARTS]
    if known_names(pairs, "split") is not None:
        for split, inside in largest_first(pairs, "split"):
            bands += [cut_band(inside, "cv", part, split=split) for part in PARTS]
    bands += [cut_band(pairs, "lb", part) for part in PARTS]
    if lb_from is not None:
        bands.append(cut_band(pairs, "lb", at_least=lb_from))
    return tuple(band for band in bands if band.n >= 3 and band.n_before >= 6)


def cut_band(
    pairs: pd.DataFrame,
    cut: str,
    part: str = "",
    *,
    at_least: float | None = None,
    split: str = "",
) -> Band:
    """The runs with the highest `cut` ("cv" or "lb"): a part ("top quarter", "top half") of them,
    or all from a score on; runs tied at the edge are kept."""
    scores = pairs[cut].to_numpy(dtype=float)
    nan = float("nan")
    if not len(scores):
        return Band(cut, part, split, 0, 0, nan, nan, nan, nan, nan, nan, nan, nan, nan, 0)
    edge = float(np.quantile(scores, PARTS[part])) if at_least is None else at_least
    inside = pairs[scores >= edge]
    found = spearman_in(inside)
    alone = cut_alone(value_of(*scores_of(pairs)), len(scores), len(inside))
    return Band(
        cut,
        part or f"from {edge:g}",
        split,
        len(inside),
        len(scores),
        edge,
        *found,
        *alone,
        len(np.unique(lineage_numbers(inside))),
    )


def cut_alone(rho: float, n: int, kept: int) -> tuple[float, float, float]:
    """Spearman in the top `kept` of `n` runs of one normal cloud: mean and the middle 95 %.

    Simulated from a bivariate normal with Spearman `rho`, whose Pearson is 2 sin(π rho / 6)
    (Pearson 1907); the same whichever of the two scores is cut. 2000 clouds, fewer from 100 runs
    on (200 from 1,000). NaN under 3 kept runs.
    """
    if np.isnan(rho) or kept < 3:
        return float("nan"), float("nan"), float("nan")
    r = 2 * np.sin(np.pi * rho / 6)
    rng, draws = np.random.default_rng(0), int(np.clip(SIMULATED_NUMBERS // n, 200, 2000))
    x = rng.normal(size=(draws, n))
    y = r * x + np.sqrt(max(1 - r**2, 0)) * rng.normal(size=(draws, n))
    top = np.argpartition(-x, kept - 1, axis=1)[:, :kept]
    top_x, top_y = (
        np.take_along_axis(v, top, axis=1).argsort(axis=1).argsort(axis=1) for v in (x, y)
    )
    left = pearson_of(top_x.astype(float), top_y.astype(float), np.ones((1, kept)))
    return float(left.mean()), *percentiles(left)


def band_table(bands: Iterable[Band]) -> pd.DataFrame:
    """The bands as a table with a column for each field."""
    return pd.DataFrame([asdict(band) for band in bands], columns=[f.name for f in fields(Band)])


def largest_first(pairs: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """The runs of each name in a column, the most runs first; unknown names left out."""
    named = pairs[pairs[by].notna() & (pairs[by].astype(str) != "")]
    groups = [(str(name), inside) for name, inside in named.groupby(by, sort=True)]
    return sorted(groups, key=lambda group: -len(group[1]))


def spearman_in(pairs: pd.DataFrame) -> tuple[float, float, float, float, float]:
    """Spearman with the interval by formula, and that over lineages."""
    x, y = scores_of(pairs)
    value, nan = value_of(x, y), float("nan")
    if not abs(value) < 1 - EXACT:
        return value, nan, nan, nan, nan
    draws = int(np.clip(BAND_NUMBERS // len(x), FEWEST_BAND_DRAWS, MOST_DRAWS // 2))
    counts = draw_counts(drawn_together(pairs), draws)
    low, high = formula_interval("spearman", value, len(x))
    return value, low, high, *percentiles(spearman(x, y, counts))


def scores_of(pairs: pd.DataFrame) -> tuple[Floats, Floats]:
    """CV and leaderboard scores."""
    return pairs["cv"].to_numpy(dtype=float), pairs["lb"].to_numpy(dtype=float)


def value_of(x: Floats, y: Floats) -> float:
    """Spearman of all runs, NaN under 2."""
    return float(spearman(x, y, np.ones((1, len(x))))[0]) if len(x) > 1 else float("nan")
