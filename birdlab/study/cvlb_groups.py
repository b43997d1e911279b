"""The correlation in groups of runs, and within them: split, checkpoint rule, family."""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.study.cvlb_bands import INTERVAL, MIN_RUNS, largest_first, scores_of, spearman_in
from birdlab.study.cvlb_correlations import formula_interval
from birdlab.study.cvlb_resamples import (
    Floats,
    Ints,
    draw_counts,
    drawn_together,
    known_names,
    number_of_draws,
    pearson_of,
    percentiles,
    weighted_ranks,
)

GROUPS = ("split", "checkpoint", "family")


def list_groups(pairs: pd.DataFrame) -> pd.DataFrame:
    """Spearman in each split, checkpoint rule and family: by, group, n, spearman, its intervals,
    and the mean of both scores. Under 10 runs `few` is true: no figure there means anything."""
    rows = []
    for by in GROUPS:
        if by not in pairs.columns:
            continue
        for name, inside in largest_first(pairs, by):
            rows.append(
                {
                    "by": by,
                    "group": name,
                    "n": len(inside),
                    **dict(zip(INTERVAL, spearman_in(inside), strict=True)),
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
    hold nothing and are left out, and so is what leaves a single group.
    """
    known = [b for b in ("family", "split", "checkpoint") if known_names(pairs, b) is not None]
    both = ["family", "split"]
    wanted = [[by] for by in known] + ([both] if known[:2] == both else [])
    rows = [{"within": " and ".join(by), **pool_within(pairs, by)} for by in wanted]
    table = pd.DataFrame(rows, columns=["within", "n_groups", "n", *INTERVAL])
    return table[table["n_groups"] > 1].reset_index(drop=True)


def pool_within(pairs: pd.DataFrame, by: list[str]) -> dict[str, float]:
    """The pooled rank correlation within groups: n_groups, n, spearman and its intervals.

    Ranks within each group, divided by its size, less their mean; Pearson over all of them. Each
    group but one costs the formula a degree of freedom. Source: Fisher (1924), the partial
    correlation. Runs of an unknown group are left out.
    """
    named = pairs[(pairs[by].fillna("").astype(str) != "").all(axis=1)]
    sizes = named.groupby(by)[by[0]].transform("size")
    inside = named[sizes > 1]
    groups = inside.groupby(by).ngroup().to_numpy()
    n, n_groups = len(inside), len(set(groups))
    nan = float("nan")
    if n < 3:
        ends = (nan, nan, nan, nan, nan)
    else:
        x, y = scores_of(inside)
        value = float(_pooled(x, y, groups, np.ones((1, n)))[0])
        counts = draw_counts(drawn_together(inside), number_of_draws(n))
        ends = (
            value,
            *formula_interval("spearman", value, n, lost=n_groups - 1),
            *percentiles(_pooled(x, y, groups, counts)),
        )
    return {"n_groups": n_groups, "n": n, **dict(zip(INTERVAL, ends, strict=True))}


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
