"""Correlations of CV and leaderboard: closed forms, scipy, brute force, simulations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from birdlab.study.cvlb_correlations import VALUES, correlate_scores
from birdlab.study.cvlb_order import find_resolution, pair_runs


def test_ten_points_say_little() -> None:
    lb = np.arange(10.0)
    rng = np.random.default_rng(0)
    cv = lb
    while abs(stats.spearmanr(cv, lb).statistic - 0.7) > 0.01:
        cv = rng.permutation(lb)
    found = correlate_scores("spearman", cv, lb)
    assert (found.low, found.high) == pytest.approx((0.04, 0.93), abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=15))
@settings(deadline=None, max_examples=40)
def test_values_are_scipys(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    found = {k: correlate_scores(k, x / 7, y / 7, n_draws=20) for k in VALUES}
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan([c.value for c in found.values()]).all()
        return
    theirs = {"spearman": stats.spearmanr, "kendall": stats.kendalltau, "pearson": stats.pearsonr}
    for kind, of in theirs.items():
        assert found[kind].value == pytest.approx(of(x, y).statistic, abs=1e-9)
    if len(points) > 3 and abs(found["pearson"].value) < 0.999:
        interval = stats.pearsonr(x, y).confidence_interval()
        assert (found["pearson"].low, found["pearson"].high) == pytest.approx(tuple(interval))


def order_share(cv: np.ndarray, lb: np.ndarray, gap: float) -> tuple[int, float]:
    """How many pairs differ on the leaderboard and by `gap` or more in CV, and the share right."""
    right = [
        (cv[i] > cv[j]) == (lb[i] > lb[j])
        for i, j in combinations(range(len(cv)), 2)
        if lb[i] != lb[j] and cv[i] != cv[j] and np.round(abs(cv[i] - cv[j]), 12) >= gap
    ]
    return len(right), float(np.mean(right)) if right else np.nan


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
@settings(deadline=None, max_examples=30)
def test_resolution_by_brute_force(points: list[tuple[float, float]]) -> None:
    cv, lb = np.round(np.array(points).T, 2)
    gaps = sorted({float(np.round(abs(a - b), 12)) for a in cv for b in cv} - {0.0})
    pairs = order_share(cv, lb, 0)[0]
    shares = {gap: order_share(cv, lb, gap) for gap in gaps}
    counted = {g: s for g, (n, s) in shares.items() if n >= max(10, 0.05 * pairs)}
    holding = [g for g in counted if all(s >= 0.8 for h, s in counted.items() if h >= g)]
    gap = find_resolution(pair_runs(cv, lb)).gap
    assert np.isnan(gap) if not holding else order_share(cv, lb, gap) == shares[min(holding)]


@pytest.mark.parametrize("kind", ["spearman", "kendall", "pearson"])
def test_intervals_cover_what_they_promise(kind: str) -> None:
    rng = np.random.default_rng(0)
    r = 0.6
    truth = {
        "spearman": 6 / np.pi * np.arcsin(r / 2),
        "kendall": 2 / np.pi * np.arcsin(r),
        "pearson": r,
    }
    inside = 0
    for _ in range(80):
        x, y = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 25).T
        found = correlate_scores(kind, x, y, n_draws=20)
        inside += found.low < truth[kind] < found.high
    assert 0.89 < inside / 80 <= 1.0


def test_the_same_data_gives_the_same_interval() -> None:
    x, y = np.random.default_rng(0).random((2, 30))
    assert repr(correlate_scores("kendall", x, y)) == repr(correlate_scores("kendall", x, y))
