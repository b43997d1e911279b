"""CV against the leaderboard: closed forms, scipy, simulations and the real ledger of 2025."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_study_tables import load_2025

from birdlab.errors import DataError
from birdlab.study.cvlb import correlate
from birdlab.study.cvlb_order import find_resolution, order_share, pair_runs
from birdlab.study.tables import pair_cv_lb


def test_the_ledger_of_2025() -> None:
    tables = load_2025()
    pairs = pair_cv_lb(tables, metric="macro_auc", cv="cv/macro_auc")
    found = correlate(pairs["cv"], pairs["lb"], metric="macro_auc")
    assert found.n == 108
    assert found.spearman.value == pytest.approx(0.50, abs=0.005)
    assert found.spearman.low == pytest.approx(0.33, abs=0.02)
    assert found.spearman.high == pytest.approx(0.645, abs=0.02)
    assert found.spearman.boot_low == pytest.approx(0.33, abs=0.05)
    assert order_share(pairs["cv"], pairs["lb"], 0.002)[1] == pytest.approx(0.79, abs=0.005)
    assert order_share(pairs["cv"], pairs["lb"], 0.005)[1] == pytest.approx(0.95, abs=0.005)
    assert 0.0018 < found.resolution.gap < 0.0025 and found.resolution.share >= 0.8
    assert "better than chance, but not safely: Spearman +0.50" in found.verdict
    split = dict(zip(tables.runs["run"], tables.runs["project"], strict=True))
    for name, rho in (("28032025_group_allrarebirds_hdf5_noleak", 0.14), ("allbirds_hdf5", 0.56)):
        inside = pairs[[split[run].endswith(name) for run in pairs["run"]]]
        value = correlate(inside["cv"], inside["lb"], metric="macro_auc").spearman.value
        assert value == pytest.approx(rho, abs=0.01)
    top = pairs[pairs["lb"] >= 0.90]
    assert correlate(top["cv"], top["lb"], metric="macro_auc").spearman.value == pytest.approx(
        -0.05, abs=0.01
    )
    pooled = pair_cv_lb(tables, metric="macro_auc", cv="cv/macro_auc_pooled")
    assert correlate(pooled["cv"], pooled["lb"], metric="macro_auc").spearman.value == (
        pytest.approx(0.35, abs=0.01)
    )


def test_ten_points_say_little() -> None:
    lb = np.arange(10.0)
    rng = np.random.default_rng(0)
    cv = lb
    while abs(stats.spearmanr(cv, lb).statistic - 0.7) > 0.01:
        cv = rng.permutation(lb)
    found = correlate(cv, lb, metric="m").spearman
    assert (found.low, found.high) == pytest.approx((0.04, 0.93), abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=15))
@settings(deadline=None, max_examples=40)
def test_values_are_scipys(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    found = correlate(x / 7, y / 7, metric="m")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan([found.spearman.value, found.kendall.value, found.pearson.value]).all()
        assert found.verdict.startswith("No verdict")
        return
    assert found.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert found.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)
    assert found.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    if len(points) > 3 and abs(found.pearson.value) < 0.999:
        interval = stats.pearsonr(x, y).confidence_interval()
        assert (found.pearson.low, found.pearson.high) == pytest.approx(tuple(interval))


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
        found = getattr(correlate(x, y, metric="m"), kind)
        inside += found.low < truth[kind] < found.high
    assert 0.89 < inside / 80 <= 1.0


def test_the_verdict_follows_the_interval() -> None:
    rng = np.random.default_rng(2)
    x = rng.random(200)
    say = lambda y: correlate(x, y, metric="padded_cmap").verdict  # noqa: E731
    assert say(x + rng.normal(0, 0.05, 200)).startswith("CV ranks models well")
    assert say(-x + rng.normal(0, 0.3, 200)).startswith("CV ranks models the wrong way round")
    noise = say(rng.random(200))
    assert noise.startswith("CV cannot be told from no ranking") and "No CV gap" in noise
    assert say(x**3) == "CV and leaderboard (padded_cmap) put all 200 runs in the same order."
    few = correlate(x[:9], x[:9], metric="padded_cmap").verdict
    assert few.startswith("No verdict: 9 runs have both") and "under 10" in few
    assert correlate([], [], metric="m").verdict.startswith("No verdict: 0 runs")
    assert correlate([0.5], [0.5], metric="m").verdict.startswith("No verdict: 1 run has")


def test_the_same_data_gives_the_same_interval() -> None:
    x, y = np.random.default_rng(0).random((2, 30))
    assert repr(correlate(x, y, metric="m")) == repr(correlate(x, y, metric="m"))


@pytest.mark.parametrize("lb", [[0.1, 0.2], [0.1, 0.2, np.nan], [[0.1, 0.2, 0.3]]])
def test_scores_that_do_not_pair_up_are_refused(lb: list[float]) -> None:
    with pytest.raises(DataError, match="pair up"):
        correlate([0.1, 0.2, 0.3], lb, metric="m")
