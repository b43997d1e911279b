"""Which species a run knows better than another one, allowing for how many were looked at.

Source: the draws of `recordings`; Benjamini and Hochberg (1995), JRSS B 57, for the q values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from birdlab.evaluate.score import FoldTable
from birdlab.study.contrasts import EXACT, Floats
from birdlab.study.recordings import (
    MIN_RECORDISTS,
    Cell,
    Draws,
    check_pairs,
    shortfall,
    weighted_precisions,
)


def compare_species(
    a: Mapping[Cell, FoldTable],
    b: Mapping[Cell, FoldTable],
    recordists: Mapping[str, str],
    *,
    n_draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per species, the largest gain of `b` over `a` first.

    Columns code, support (recordings), n_recordists (who made them), ap_a, ap_b (padded, folds
    pooled as in `score_classes`, mean over seeds), delta, low, high (95 %, this species alone), p,
    q. q is the share of false finds to expect among the species with at most this q. All four
    are NaN for a species of fewer than 5 recordists; a species without recordings is left out.
    Only cells that both runs have count. recordists: as in `weigh_recordists`.
    Raises DataError for no common cells, or tables that do not pair.
    """
    pairs = {cell: (a[cell], b[cell]) for cell in sorted(a.keys() & b.keys())}
    check_pairs(pairs)
    seeds = sorted({seed for _, seed in pairs})
    draws = Draws.of([one for one, _ in pairs.values()], recordists, n_draws, seed)
    ap_a, ap_b = (
        np.mean([_pooled([pairs[c][side] for c in pairs if c[1] == s], draws) for s in seeds], 0)
        for side in (0, 1)
    )
    first = [pairs[c][0] for c in pairs if c[1] == seeds[0]]
    targets = np.concatenate([table.targets for table in first])
    n_recordists = draws.count(targets, [name for table in first for name in table.recordings])
    columns = {
        "code": first[0].codes,
        "support": targets.sum(axis=0),
        "n_recordists": n_recordists,
        "ap_a": ap_a[:, 0],
        "ap_b": ap_b[:, 0],
        **_tested(ap_b - ap_a, n_recordists),
    }
    table = pd.DataFrame(columns)[targets.any(axis=0)]
    table = table.assign(q=_q_values(table["p"].to_numpy()))
    return table.sort_values("delta", ascending=False, kind="stable").reset_index(drop=True)


def differences_words(table: pd.DataFrame, name_a: str, name_b: str) -> pd.DataFrame:
    """What `compare_species` found as a table to show; the two columns of scores by these names."""
    judged = table["q"].notna()
    return pd.DataFrame(
        {
            "species": table["code"],
            "recordings": table["support"],
            "recordists": table["n_recordists"],
            f"AP of {name_a}": table["ap_a"].map("{:.3f}".format),
            f"AP of {name_b}": table["ap_b"].map("{:.3f}".format),
            "difference": table["delta"].map("{:+.3f}".format),
            "95 % interval": [
                f"{low:+.3f} to {high:+.3f}" if ok else "too few recordists"
                for low, high, ok in zip(table["low"], table["high"], judged, strict=True)
            ],
            "q": ["" if np.isnan(q) else f"{q:.3f}" for q in table["q"]],
        }
    )


def _pooled(tables: Sequence[FoldTable], draws: Draws) -> Floats:
    """Padded average precision [classes, 1 + draws] of folds taken as one table."""
    return weighted_precisions(
        np.concatenate([t.targets for t in tables]),
        np.concatenate([t.probs for t in tables]),
        np.concatenate([draws.of_rows(t.recordings) for t in tables]),
    )


def _tested(deltas: Floats, n_recordists: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """The interval and p of each species from its draws; deltas: [classes, 1 + draws].

    Quantiles of the draws are too narrow for few recordists. So their SD, widened by the
    `shortfall`, is referred to Student's t with n - 1 degrees of freedom, n the recordists of the
    species.
    """
    n = np.where(n_recordists < MIN_RECORDISTS, np.nan, n_recordists)
    delta = deltas[:, 0]
    sd = deltas[:, 1:].std(axis=1, ddof=1) * shortfall(n_recordists)
    width = special.stdtrit(n - 1, 0.975) * sd
    t = np.divide(np.abs(delta), sd, out=np.zeros_like(sd), where=np.abs(delta) > EXACT)
    p = np.where(np.isnan(n), np.nan, 2 * special.stdtr(n - 1, -t))
    return {"delta": delta, "low": delta - width, "high": delta + width, "p": p}


def _q_values(p: Floats) -> Floats:
    """Benjamini and Hochberg's q of each p; NaN where p is."""
    q = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q
