"""The correlation in a part of the runs: the top by CV or by the leaderboard, and groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from birdlab.study.cvlb_correlations import Correlation, correlate_scores, formula_interval
from birdlab.study.cvlb_resamples import (
    Floats,
    Ints,
    draw_counts,
    lineage_numbers,
    number_of_draws,
    pearson_of,
    percentiles,
    spearman,
    weighted_ranks,
)

MIN_RUNS = 10
SIMULATED_NUMBERS = 200_000
PARTS = {"top quarter": 0.75, "top half": 0.5}
GROUPS = ("split", "checkpoint", "family")


@dataclass(frozen=True)
class Band:
    """Spearman in the runs that a cut keeps, and what the cut alone would leave.

    `cut` names the score that is cut ("cv" or "lb"), `part` what is kept, `split` the split whose
    runs are looked at ("" for all). `low` to `high` is the 95 % interval by formula, `boot_low` to
    `boot_high` over lineages. `alone` is the mean that the cut would leave if the correlation
    were the same everywhere, and `alone_low` to `alone_high` where 95 % of such studies lie.
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


def list_bands(pairs: pd.DataFrame, *, lb_from: float | None = None) -> tuple[Band, ...]:
    """The top quarter and top half by CV, over all and within each split, then by leaderboard.

    `lb_from` adds the runs with at least that leaderboard score. Bands that keep under 3 runs
    are left out, and splits of under 6.
    """
    bands = [cut_band(pairs, "cv", part) for part in PARTS]
    if "split" in pairs.columns and pairs["split"].nunique() > 1:
        for split, inside in _largest_first(pairs, "split"):
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
        return Band(cut, part, split, 0, 0, nan, *[nan] * 8)
    edge = float(np.quantile(scores, PARTS[part])) if at_least is None else at_least
    inside = pairs[scores >= edge]
    found, overall = _spearman_in(inside), _value_in(pairs)
    alone = cut_alone(overall, len(scores), len(inside))
    return Band(
        cut,
        part or f"from {edge:g}",
        split,
        len(inside),
        len(scores),
        edge,
        found.value,
        found.low,
        found.high,
        found.cluster_low,
        found.cluster_high,
        *alone,
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


def list_groups(pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman in each split, checkpoint rule and family: by, group, n, spearman, its intervals,
    and the mean of both scores. Under 10 runs `few` is true: no figure there means anything."""
    rows = []
    for by in GROUPS:
        if by not in pairs.columns:
            continue
        for name, inside in _largest_first(pairs, by):
            found = _spearman_in(inside)
            rows.append(
                {
                    "by": by,
                    "group": name,
                    "n": len(inside),
                    "spearman": found.value,
                    "low": found.low,
                    "high": found.high,
                    "boot_low": found.cluster_low,
                    "boot_high": found.cluster_high,
                    "cv": float(inside["cv"].mean()),
                    "lb": float(inside["lb"].mean()),
                    "few": len(inside) < MIN_RUNS,
                }
            )
    return pd.DataFrame(rows)


def list_partial(pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman within groups, pooled: what is left once groups of runs differ in both scores.

    Within family, split, checkpoint rule, and family and split at once: within, n_groups, n,
    spearman, low, high (formula), boot_low, boot_high (lineages drawn whole). Groups of one run
    hold nothing and are left out.
    """
    known = [by for by in ("family", "split", "checkpoint") if by in pairs.columns]
    both = ["family", "split"]
    wanted = [[by] for by in known] + ([both] if known[:2] == both else [])
    rows = [{"within": " and ".join(by), **pool_within(pairs, by)} for by in wanted]
    return pd.DataFrame(rows)


def pool_within(pairs: pd.DataFrame, by: list[str]) -> dict[str, float]:
    """The pooled rank correlation within groups: n_groups, n, spearman and its intervals.

    Ranks within each group, divided by its size, less their mean; Pearson over all of them. Each
    group costs the formula one degree of freedom, as in a partial correlation.
    """
    numbers = pairs.groupby(by, sort=False, dropna=False).ngroup().to_numpy()
    inside = pairs[np.bincount(numbers)[numbers] > 1]
    groups = np.unique(numbers[np.bincount(numbers)[numbers] > 1], return_inverse=True)[1]
    n, n_groups = len(inside), len(set(groups))
    nan = float("nan")
    if n < 3:
        ends = (nan, nan, nan, nan, nan)
    else:
        x, y = (inside[name].to_numpy(dtype=float) for name in ("cv", "lb"))
        lineages = np.unique(lineage_numbers(inside), return_inverse=True)[1]
        value = float(_pooled(x, y, groups, np.ones((1, n)))[0])
        counts = draw_counts(lineages, number_of_draws(n))
        ends = (
            value,
            *formula_interval("spearman", value, n, lost=n_groups - 1),
            *percentiles(_pooled(x, y, groups, counts)),
        )
    names = ("spearman", "low", "high", "boot_low", "boot_high")
    return {"n_groups": n_groups, "n": n, **dict(zip(names, ends, strict=True))}


def list_influence(pairs: pd.DataFrame) -> pd.DataFrame:
    """What Spearman is without each run: run, name, cv, lb, without, influence; most first.

    `influence` is how much the run adds: all of them less without it.
    """
    n = len(pairs)
    x, y = (pairs[name].to_numpy(dtype=float) for name in ("cv", "lb"))
    known = pairs[[name for name in ("run", "name", "cv", "lb") if name in pairs.columns]]
    if n < 3:
        return known.assign(without=float("nan"), influence=float("nan"))
    without = spearman(x, y, np.ones((n, n)) - np.eye(n))
    influence = float(spearman(x, y, np.ones((1, n)))[0]) - without
    table = known.assign(without=without, influence=influence)
    order = np.argsort(-np.nan_to_num(np.abs(influence)), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def band_table(bands: Iterable[Band]) -> pd.DataFrame:
    """The bands as a table with a column for each field."""
    return pd.DataFrame([asdict(band) for band in bands], columns=[f.name for f in fields(Band)])


def _pooled(x: Floats, y: Floats, groups: Ints, counts: Floats) -> Floats:
    centred = []
    for values in (x, y):
        ranks = np.zeros(counts.shape)
        for group in range(int(groups.max()) + 1):
            at = groups == group
            inside = counts[:, at]
            total = np.maximum(inside.sum(axis=1, keepdims=True), 1)
            own = weighted_ranks(values[at], inside)
            ranks[:, at] = (own - (inside * own).sum(axis=1, keepdims=True) / total) / total
        centred.append(ranks)
    return pearson_of(centred[0], centred[1], counts)


def _largest_first(pairs: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    named = pairs[pairs[by].notna() & (pairs[by].astype(str) != "")]
    groups = [(str(name), inside) for name, inside in named.groupby(by, sort=True)]
    return sorted(groups, key=lambda group: -len(group[1]))


def _spearman_in(pairs: pd.DataFrame) -> Correlation:
    x, y = (pairs[name].to_numpy(dtype=float) for name in ("cv", "lb"))
    return correlate_scores("spearman", x, y, lineage_numbers(pairs))


def _value_in(pairs: pd.DataFrame) -> float:
    x, y = (pairs[name].to_numpy(dtype=float) for name in ("cv", "lb"))
    return float(spearman(x, y, np.ones((1, len(x))))[0])
