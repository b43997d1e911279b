"""Pairs of runs: how often the leaderboard agrees with CV, and from which CV gap on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.study.cvlb_resamples import CONFIDENCE, FEWEST_DRAWS, Floats, Ints, percentiles

MIN_PAIRS = 10
MIN_PAIR_SHARE = 0.05
RIGHT_SHARE = 0.8
PAIR_NUMBERS = 3_000_000
EXACT_RUNS = 150
N_STEPS = 100
GAP_DIGITS = 12
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

    def keep(self, wanted: npt.NDArray[np.bool_]) -> RunPairs:
        """The wanted pairs, in the same order."""
        return RunPairs(
            self.first[wanted], self.second[wanted], self.gaps[wanted], self.right[wanted]
        )


def pair_runs(cv: Floats, lb: Floats) -> RunPairs:
    """All pairs of runs that differ in CV and on the leaderboard."""
    rising = np.argsort(cv)
    first, second = np.triu_indices(len(cv), 1)
    # Scores of few digits have gaps like 0.00999…9, which are 0.01 and tie with it.
    gaps = np.round(cv[rising][second] - cv[rising][first], GAP_DIGITS)
    by_lb = lb[rising][second] - lb[rising][first]
    order = np.argsort(-gaps)
    order = order[((gaps > 0) & (by_lb != 0))[order]]
    ends = rising[first[order]], rising[second[order]]
    return RunPairs(*ends, gaps[order], by_lb[order] > 0)


def find_resolution(pairs: RunPairs) -> Resolution:
    """The smallest CV gap from which on 80 % of the pairs order the leaderboard rightly."""
    steps = _steps(pairs)
    shares = np.cumsum(pairs.right)[steps] / (steps + 1)
    at = int(_last_holding(shares[None], steps + 1, len(pairs.gaps))[0])
    if at < 0:
        return Resolution(float("nan"), 0, float("nan"))
    return Resolution(float(pairs.gaps[steps[at]]), int(steps[at]) + 1, float(shares[at]))


def resolve(pairs: RunPairs, counts: Floats) -> tuple[Resolution, pd.DataFrame]:
    """The resolution with its interval, and its curve: gap, n_pairs, share, low, high.

    The curve has up to 100 gaps, from that which 5 % of the pairs (and 10) reach down to the
    smallest one; `share` of the pairs with at least that gap are ordered rightly. `counts` says
    how often each run is in each resample [draws, runs]. The ends are NaN where all pairs or none
    are right: resampling tells nothing there.
    """
    found, steps = find_resolution(pairs), _steps(pairs)
    steps = steps[steps + 1 >= _fewest(len(pairs.gaps))]
    if not len(steps):
        columns = ["gap", "n_pairs", "share", "low", "high"]
        return found, pd.DataFrame(columns=columns, dtype=float)
    shown = np.unique(steps[np.linspace(0, len(steps) - 1, N_STEPS).astype(int)])
    resampled = resample_shares(pairs, shown, counts)
    shares = np.cumsum(pairs.right)[shown] / (shown + 1)
    ends = _ends(resampled, shares)
    curve = pd.DataFrame(
        {
            "gap": pairs.gaps[shown],
            "n_pairs": shown + 1,
            "share": shares,
            "low": ends[:, 0],
            "high": ends[:, 1],
        }
    )
    at = _last_holding(resampled, shown + 1, len(pairs.gaps))
    gaps = np.where(at < 0, np.inf, pairs.gaps[shown[at]])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(gaps, [tail, 100 - tail], method="nearest")
    return Resolution(found.gap, found.n_pairs, found.share, float(low), float(high)), curve


def share_by_gap(
    pairs: RunPairs, counts: Floats, splits: npt.NDArray[np.object_] | None = None
) -> pd.DataFrame:
    """What share of the pairs with at least a CV gap of .001, .002, .005, .01 the LB orders alike.

    Columns scope ("all pairs", "within split", and each split that has such pairs), gap, n_pairs,
    n_runs, share, low, high, one_run: the largest part of the pairs that has one run in it. NaN
    without pairs, the ends also where all pairs or none are right. `splits` names the split of
    each run, "" where it is unknown.
    """
    rows = _share_rows("all pairs", pairs, counts)
    if splits is not None:
        own = splits[pairs.first]
        inside = pairs.keep((own == splits[pairs.second]) & (own != ""))
        rows += _share_rows("within split", inside, counts)
        far = inside.gaps >= CLAIMED_GAPS[0]
        for name in pd.unique(splits[inside.first[far]]):
            rows += _share_rows(str(name), inside.keep(splits[inside.first] == name), counts)
    return pd.DataFrame(rows)


def _share_rows(scope: str, pairs: RunPairs, counts: Floats) -> list[dict[str, object]]:
    n_pairs = np.array([int((pairs.gaps >= gap).sum()) for gap in CLAIMED_GAPS])
    some = n_pairs > 0
    shares, ends = np.full(len(n_pairs), np.nan), np.full((len(n_pairs), 2), np.nan)
    if some.any():
        steps, place = np.unique(n_pairs[some] - 1, return_inverse=True)
        found = np.cumsum(pairs.right)[steps] / (steps + 1)
        shares[some] = found[place]
        ends[some] = _ends(resample_shares(pairs, steps, counts), found)[place]
    rows: list[dict[str, object]] = []
    for at, (gap, n) in enumerate(zip(CLAIMED_GAPS, n_pairs, strict=True)):
        members = np.bincount(np.r_[pairs.first[:n], pairs.second[:n]]) if n else np.zeros(1)
        rows.append(
            {
                "scope": scope,
                "gap": gap,
                "n_pairs": int(n),
                "n_runs": int((members > 0).sum()),
                "share": float(shares[at]),
                "low": float(ends[at, 0]),
                "high": float(ends[at, 1]),
                "one_run": float(members.max() / n) if n else float("nan"),
            }
        )
    return rows


def resample_shares(pairs: RunPairs, steps: Ints, counts: Floats) -> Floats:
    """The share that is right of the pairs up to each step, in each resample [draws, steps].

    Beyond 150 runs the sums over pairs are replaced by their linear part in `counts`, of which
    the rest is of order 1/n. Source: Hoeffding (1948), the projection of a U-statistic.
    """
    sums = _exact_sums if counts.shape[1] <= EXACT_RUNS else _linear_sums
    right, total = sums(pairs, steps, counts)
    return np.asarray(np.clip(right, 0, total) / np.where(total > 0, total, np.nan))


def _linear_sums(pairs: RunPairs, steps: Ints, counts: Floats) -> tuple[Floats, Floats]:
    n, used = counts.shape[1], int(steps[-1]) + 1
    level = counts * (n / counts.sum(axis=1, keepdims=True))
    bins = np.searchsorted(steps, np.arange(used))
    sums = []
    for weights in (pairs.right[:used].astype(float), None):
        per_run = np.zeros(n * len(steps))
        for runs in (pairs.first[:used], pairs.second[:used]):
            per_run += np.bincount(runs * len(steps) + bins, weights, minlength=len(per_run))
        table = per_run.reshape(n, len(steps))
        sums.append(np.cumsum(level @ table - table.sum(axis=0) / 2, axis=1))
    return sums[0], sums[1]


def _exact_sums(pairs: RunPairs, steps: Ints, counts: Floats) -> tuple[Floats, Floats]:
    used = int(steps[-1]) + 1
    counts = counts[: max(PAIR_NUMBERS // used, FEWEST_DRAWS)]
    weights = counts[:, pairs.first[:used]] * counts[:, pairs.second[:used]]
    starts = np.r_[0, steps[:-1] + 1]
    right = np.add.reduceat(weights * pairs.right[:used], starts, axis=1)
    return np.cumsum(right, axis=1), np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1)


def _ends(resampled: Floats, shares: Floats) -> Floats:
    """The 95 % intervals [steps, 2] of shares; NaN at exactly 0 and 1."""
    ends = np.array([percentiles(column) for column in resampled.T])
    return np.where(((shares > 0) & (shares < 1))[:, None], ends, np.nan)


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
