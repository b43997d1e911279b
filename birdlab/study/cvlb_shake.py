"""Between the public and the private leaderboard: who moved, and what the choice made cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from birdlab.study.cvlb_correlations import Correlation, correlate_scores
from birdlab.study.cvlb_resamples import CONFIDENCE, Floats, lineage_numbers


@dataclass(frozen=True, eq=False)
class Shake:
    """What happened between the public and the private leaderboard to `n` runs that have both.

    `change` is the mean of private less public with its 95 % interval (t). `moves`: run, name,
    public, private, change, public_rank, private_rank, move (places won, most moved first).
    `regrets`: a row for what was selected (if it is known), the CV-best and the public-best:
    choice, run, name, private, private_rank, regret (what the best private score had more),
    luck (how much more than the others it lost from public to private). `n_submissions` had a
    public score that could be looked at before choosing; `n_records` of them, in the order of
    submission, were a new public best (None where their order is unknown).
    """

    n: int
    spearman: Correlation
    change: float
    change_low: float
    change_high: float
    moves: pd.DataFrame
    regrets: pd.DataFrame
    n_submissions: int
    n_records: int | None


def find_shake(pairs: pd.DataFrame, n_submissions: int | None = None) -> Shake | None:
    """The shake of the runs with both scores; None where under 2 runs have a private one.

    `lb` is the public score. `selected` marks the runs that were chosen for the private
    leaderboard, of which the best counts. Without `n_submissions` each run counts as one.
    """
    if "private" not in pairs.columns or pairs["private"].notna().sum() < 2:
        return None
    both = pairs[pairs["private"].notna()].reset_index(drop=True)
    public, private = (both[name].to_numpy(dtype=float) for name in ("lb", "private"))
    change = private - public
    low, high = _mean_interval(change)
    return Shake(
        len(both),
        correlate_scores("spearman", public, private, lineage_numbers(both)),
        float(change.mean()),
        low,
        high,
        _list_moves(both),
        _list_regrets(both),
        len(pairs) if n_submissions is None else n_submissions,
        _count_records(pairs),
    )


def _mean_interval(values: Floats) -> tuple[float, float]:
    n = len(values)
    width = stats.t.isf((1 - CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - width), float(values.mean() + width)


def _list_moves(both: pd.DataFrame) -> pd.DataFrame:
    ranks = [both[n].rank(ascending=False, method="min").astype(int) for n in ("lb", "private")]
    table = pd.DataFrame(
        {
            **{name: both[name] for name in ("run", "name") if name in both.columns},
            "public": both["lb"],
            "private": both["private"],
            "change": both["private"] - both["lb"],
            "public_rank": ranks[0],
            "private_rank": ranks[1],
            "move": ranks[0] - ranks[1],
        }
    )
    order = table["move"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _list_regrets(both: pd.DataFrame) -> pd.DataFrame:
    choices: dict[str, int] = {}
    if "selected" in both.columns:
        marked = both["selected"].fillna(False).astype(bool)
        if marked.any():
            choices["selected"] = int(both.loc[marked, "private"].idxmax())
    choices |= {"CV-best": int(both["cv"].idxmax()), "public-best": int(both["lb"].idxmax())}
    ranks = both["private"].rank(ascending=False, method="min").astype(int)
    usual = float((both["private"] - both["lb"]).mean())
    rows = [
        {
            "choice": choice,
            **{name: both.at[at, name] for name in ("run", "name") if name in both.columns},
            "private": float(both.at[at, "private"]),
            "private_rank": int(ranks[at]),
            "regret": float(both["private"].max() - both.at[at, "private"]),
            "luck": float(usual - (both.at[at, "private"] - both.at[at, "lb"])),
        }
        for choice, at in choices.items()
    ]
    return pd.DataFrame(rows)


def _count_records(pairs: pd.DataFrame) -> int | None:
    """How many runs were a new public best when they were submitted, the first included."""
    if "submitted_at" not in pairs.columns:
        return None
    when = pd.to_datetime(pairs["submitted_at"], utc=True, format="ISO8601", errors="coerce")
    if when.isna().any():
        return None
    scores = pairs["lb"].to_numpy(dtype=float)[np.argsort(when.to_numpy(), kind="stable")]
    before = np.r_[-np.inf, np.maximum.accumulate(scores)[:-1]]
    return int((scores > before).sum())
