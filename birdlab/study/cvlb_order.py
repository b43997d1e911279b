"""Pairs of runs: how often the leaderboard agrees with CV, and from which CV gap on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.study.cvlb_resamples import Floats, Ints, draw_counts, number_of_draws, percentiles

MIN_PAIRS = 10
MIN_PAIR_SHARE = 0.05
RIGHT_SHARE = 0.8
PAIR_NUMBERS = 4_000_000
EXACT_RUNS = 150
N_STEPS = 100
CLAIMED_GAPS = (0.001, 0.002, 0.005, 0.01)
"""CV gaps of which competitors say that the leaderboard follows them; the last one is of 2023."""


@dataclass(frozen=True)
class Resolution:
    """The CV gap from which on pairs of runs order the leaderboard rightly.

    `gap` is the smallest one such that at it, and at every larger one that at least 5 % of the
    pairs (and 10) reach, 80 % or more do; NaN if there is none. `n_pairs` have that gap, `share`
    of them are right. `low` to `high` is the 95 % interval of the gap over resampled lineages,
    infinite where a resample has no such gap.
    """

    gap: float
    n_pairs: int
    share: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, eq=False)
class RunPairs:
    """Pairs of runs that differ in both scores, the largest CV gap first.

    `first` and `second` number the runs of each pair, `gaps` are their CV gaps, `right` says
    whether the leaderboard has the same order.
    """

    first: Ints
    second: Ints
    gaps: Floats
    right: npt.NDArray[np.bool_]


def pair_runs(cv: Floats, lb: Floats, groups: npt.ArrayLike | None = None) -> RunPairs:
    """All pairs of runs that differ in CV and on the leaderboard; within `groups` if given."""
    first, second = np.triu_indices(len(cv), 1)
    by_cv, by_lb = cv[first] - cv[second], lb[first] - lb[second]
    counts = (by_cv != 0) & (by_lb != 0)
    if groups is not None:
        names = np.asarray(groups)
        counts &= names[first] == names[second]
    first, second, by_cv, by_lb = (v[counts] for v in (first, second, by_cv, by_lb))
    order = np.argsort(-np.abs(by_cv), kind="stable")
    right = np.sign(by_cv) == np.sign(by_lb)
    return RunPairs(first[order], second[order], np.abs(by_cv)[order], right[order])


def order_share(cv: npt.ArrayLike, lb: npt.ArrayLike, gap: float) -> tuple[int, float]:
    """How many pairs of runs differ by `gap` or more in CV, and the share ordered rightly.

    Pairs with equal leaderboard scores are left out, and so are pairs with equal CV. The share
    is NaN when no pair is left.
    """
    pairs = pair_runs(np.asarray(cv, dtype=float), np.asarray(lb, dtype=float))
    inside = pairs.gaps >= gap
    return int(inside.sum()), float(pairs.right[inside].mean()) if inside.any() else float("nan")


def find_resolution(cv: Floats, lb: Floats) -> Resolution:
    """The smallest CV gap from which on 80 % of the pairs order the leaderboard rightly."""
    pairs = pair_runs(cv, lb)
    steps = _steps(pairs)
    at = _last_holding(
        np.cumsum(pairs.right)[None, steps] / (steps + 1), steps + 1, len(pairs.gaps)
    )
    if at[0] < 0:
        return Resolution(float("nan"), 0, float("nan"))
    last = int(steps[at[0]])
    return Resolution(float(pairs.gaps[last]), last + 1, float(pairs.right[: last + 1].mean()))


def resolve(cv: Floats, lb: Floats, lineages: Ints) -> tuple[Resolution, pd.DataFrame]:
    """The resolution with its interval, and its curve: gap, n_pairs, share, low, high.

    The curve has up to 100 gaps, from that which 5 % of the pairs (and 10) reach down to the
    smallest one; `share` of the pairs with at least that gap are ordered rightly. Lineages are
    drawn whole. Beyond 150 runs the sums over pairs are replaced by their linear part in the
    counts, as for Kendall.
    """
    found, pairs = find_resolution(cv, lb), pair_runs(cv, lb)
    steps = _steps(pairs)
    steps = steps[steps + 1 >= _fewest(len(pairs.gaps))]
    if not len(steps):
        columns = ["gap", "n_pairs", "share", "low", "high"]
        return found, pd.DataFrame(columns=columns, dtype=float)
    shown = np.unique(steps[np.linspace(0, len(steps) - 1, N_STEPS).astype(int)])
    right, total = resample_sums(pairs, shown, lineages)
    shares = right / np.where(total > 0, total, np.nan)
    ends = [percentiles(column) for column in shares.T]
    curve = pd.DataFrame(
        {
            "gap": pairs.gaps[shown],
            "n_pairs": shown + 1,
            "share": np.cumsum(pairs.right)[shown] / (shown + 1),
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
        }
    )
    at = _last_holding(shares, shown + 1, len(pairs.gaps))
    gaps = np.where(at < 0, np.inf, pairs.gaps[shown[at]])
    low, high = np.percentile(gaps, [2.5, 97.5], method="nearest")
    return Resolution(found.gap, found.n_pairs, found.share, float(low), float(high)), curve


def share_by_gap(
    cv: Floats, lb: Floats, lineages: Ints, splits: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """What share of the pairs with at least a CV gap of .001, .002, .005, .01 the LB orders alike.

    Columns scope ("all pairs", "within split", and each split), gap, n_pairs, n_runs, share, low,
    high, one_run: the largest part of the pairs that has one run in it. NaN without pairs.
    """
    scopes: list[tuple[str, Ints]] = [("all pairs", np.arange(len(cv)))]
    names = None if splits is None else np.asarray(splits)
    rows = _share_rows("all pairs", pair_runs(cv, lb), lineages)
    if names is not None:
        rows += _share_rows("within split", pair_runs(cv, lb, names), lineages)
        scopes = [(str(name), np.flatnonzero(names == name)) for name in pd.unique(names)]
        for name, inside in scopes:
            pairs = pair_runs(cv[inside], lb[inside])
            rows += _share_rows(name, pairs, np.unique(lineages[inside], return_inverse=True)[1])
    return pd.DataFrame(rows)


def _share_rows(scope: str, pairs: RunPairs, lineages: Ints) -> list[dict[str, object]]:
    counts = np.array([int((pairs.gaps >= gap).sum()) for gap in CLAIMED_GAPS])
    some = counts > 0
    ends = np.full((len(counts), 2), np.nan)
    if some.any():
        steps, place = np.unique(counts[some] - 1, return_inverse=True)
        right, total = resample_sums(pairs, steps, lineages)
        shares = right / np.where(total > 0, total, np.nan)
        ends[some] = np.array([percentiles(column) for column in shares.T])[place]
    rows: list[dict[str, object]] = []
    for gap, n, (low, high) in zip(CLAIMED_GAPS, counts, ends, strict=True):
        members = np.bincount(np.r_[pairs.first[:n], pairs.second[:n]]) if n else np.zeros(1)
        rows.append(
            {
                "scope": scope,
                "gap": gap,
                "n_pairs": int(n),
                "n_runs": int((members > 0).sum()),
                "share": float(pairs.right[:n].mean()) if n else float("nan"),
                "low": float(low),
                "high": float(high),
                "one_run": float(members.max() / n) if n else float("nan"),
            }
        )
    return rows


def resample_sums(pairs: RunPairs, steps: Ints, lineages: Ints) -> tuple[Floats, Floats]:
    """Of the pairs up to each step: how many are right, and how many there are [draws, steps]."""
    n = len(lineages)
    if n <= EXACT_RUNS:
        return _exact_sums(pairs, steps, lineages)
    bins = np.searchsorted(steps, np.arange(len(pairs.gaps)))
    inside = bins < len(steps)
    counts = draw_counts(lineages, number_of_draws(n))
    level = counts * (n / counts.sum(axis=1, keepdims=True))
    sums = []
    for chosen in (inside & pairs.right, inside):
        per_run = np.zeros((n, len(steps)))
        for runs in (pairs.first[chosen], pairs.second[chosen]):
            cells = runs * len(steps) + bins[chosen]
            per_run += np.bincount(cells, minlength=per_run.size).reshape(per_run.shape)
        sums.append(np.cumsum(level @ per_run - per_run.sum(axis=0) / 2, axis=1))
    return np.maximum(sums[0], 0), np.maximum(sums[1], 0)


def _exact_sums(pairs: RunPairs, steps: Ints, lineages: Ints) -> tuple[Floats, Floats]:
    used = int(steps[-1]) + 1
    n_draws = int(np.clip(PAIR_NUMBERS // used, 500, number_of_draws(len(lineages))))
    counts = draw_counts(lineages, n_draws)
    weights = counts[:, pairs.first[:used]] * counts[:, pairs.second[:used]]
    starts = np.r_[0, steps[:-1] + 1]
    right = np.add.reduceat(weights * pairs.right[:used], starts, axis=1)
    return np.cumsum(right, axis=1), np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1)


def _steps(pairs: RunPairs) -> Ints:
    """The places of the last pair of each CV gap."""
    gaps = pairs.gaps
    return np.flatnonzero(np.r_[gaps[1:] != gaps[:-1], True][: len(gaps)])


def _fewest(n_pairs: int) -> float:
    return max(MIN_PAIRS, MIN_PAIR_SHARE * n_pairs)


def _last_holding(shares: Floats, n_pairs: Ints, all_pairs: int) -> Ints:
    """In each row: the last step up to which all that count hold 80 %, -1 where none does."""
    many = n_pairs >= _fewest(all_pairs)
    fails = (np.nan_to_num(shares) < RIGHT_SHARE) & many
    if not many.any():
        return np.full(len(shares), -1)
    first = np.where(fails.any(axis=1), fails.argmax(axis=1), shares.shape[1])
    return np.where(first > np.flatnonzero(many)[0], first - 1, -1)
