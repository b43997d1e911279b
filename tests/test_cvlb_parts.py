"""The statistics of CV against leaderboard one by one: brute force, closed forms, simulations."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from cvlb_simulations import coverage, draw_pairs, truth, within_coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from birdlab.study import cvlb_order, cvlb_resamples
from birdlab.study.cvlb import compare_estimators, study_cv_lb
from birdlab.study.cvlb_bands import cut_alone, cut_band, list_bands
from birdlab.study.cvlb_best import find_best
from birdlab.study.cvlb_correlations import correlate_scores
from birdlab.study.cvlb_estimators import shuffle_best
from birdlab.study.cvlb_groups import list_partial, pool_within
from birdlab.study.cvlb_influence import leave_one_out
from birdlab.study.cvlb_order import pair_runs, resolve, share_by_gap
from birdlab.study.cvlb_resamples import draw_counts, kendall, lineage_numbers, pearson, spearman
from birdlab.study.cvlb_rounding import count_digits, find_rounding
from birdlab.study.cvlb_shake import find_shake

FEW = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12)


@given(FEW, st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_weighted_correlations_are_those_of_the_runs_drawn(
    points: list[tuple[int, int]], seed: int
) -> None:
    x, y = np.array(points, dtype=float).T
    counts = draw_counts(np.arange(len(x)), 3, seed=seed)
    for ours, theirs in (
        (spearman, stats.spearmanr),
        (kendall, stats.kendalltau),
        (pearson, stats.pearsonr),
    ):
        for row, value in zip(counts.astype(int), ours(x, y, counts), strict=True):
            drawn = np.repeat(x, row), np.repeat(y, row)
            if np.ptp(drawn[0]) and np.ptp(drawn[1]):
                assert value == pytest.approx(theirs(*drawn).statistic, abs=1e-9)
            else:
                assert np.isnan(value)


@given(FEW)
@settings(deadline=None, max_examples=30)
def test_leave_one_out_by_brute_force(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    for at, value in enumerate(leave_one_out(x, y)):
        rest = np.delete(x, at), np.delete(y, at)
        if np.ptp(rest[0]) and np.ptp(rest[1]):
            assert value == pytest.approx(stats.spearmanr(*rest).statistic, abs=1e-9)
        else:
            assert np.isnan(value)


def test_lineages_of_one_run_give_the_plain_interval() -> None:
    x, y = draw_pairs(np.random.default_rng(0), 30, 0.6)
    for kind in ("spearman", "kendall", "pearson"):
        alone = correlate_scores(kind, x, y, np.arange(30))
        assert (alone.cluster_low, alone.cluster_high) == (alone.boot_low, alone.boot_high)
        shared = correlate_scores(kind, x, y, np.arange(30) // 3)
        assert (shared.boot_low, shared.boot_high) == (alone.boot_low, alone.boot_high)
        assert shared.cluster_low != alone.boot_low and shared.n_lineages == 10
    pairs = pd.DataFrame({"lineage": ["a", "", None, "a", "b", ""]})
    assert lineage_numbers(pairs).tolist() == [0, 1, 2, 0, 3, 4]


@pytest.mark.parametrize(("n", "rho"), [(20, 0.0), (20, 0.8), (60, 0.5)])
@pytest.mark.parametrize("kind", ["spearman", "kendall", "pearson"])
def test_intervals_hold_the_truth(kind: str, n: int, rho: float) -> None:
    formula, runs, _ = coverage(kind, n, rho, 120)
    assert formula > 0.88 and runs > 0.86


def test_only_lineages_drawn_whole_hold_the_truth_of_runs_that_are_alike() -> None:
    lineages = np.repeat(np.arange(16), 5)
    formula, runs, whole = coverage("spearman", 80, 0.3, 120, lineages=lineages, icc=0.7)
    assert max(formula, runs) < 0.86 < whole


def test_the_linear_part_is_close_to_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw_pairs(np.random.default_rng(0), 140, 0.6)
    counts, pairs = draw_counts(np.arange(140), 1000), pair_runs(x, y)
    exact, (found, curve) = kendall(x, y, counts), resolve(pairs, counts)
    monkeypatch.setattr(cvlb_resamples, "DENSE_RUNS", 100)
    monkeypatch.setattr(cvlb_order, "EXACT_RUNS", 100)
    near, (again, linear) = kendall(x, y, counts), resolve(pairs, counts)
    assert np.percentile(near, [2.5, 97.5]) == pytest.approx(
        np.percentile(exact, [2.5, 97.5]), abs=0.02
    )
    assert linear["gap"].equals(curve["gap"]) and linear["share"].equals(curve["share"])
    assert linear["low"].to_numpy() == pytest.approx(curve["low"].to_numpy(), abs=0.03)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), rel=0.2)


def test_shares_by_gap_by_hand() -> None:
    cv, lb = np.array([0.805, 0.81, 0.82, 0.84]), np.array([0.70, 0.69, 0.72, 0.72])
    splits = np.array(["a", "b", "a", "b"], dtype=object)
    table = share_by_gap(pair_runs(cv, lb), draw_counts(np.arange(4), 500), splits)
    rows = table[table["gap"] == 0.01].set_index("scope")
    # Of six pairs one ties on the leaderboard, and one has a gap of .005 and the wrong order.
    # The gap from .81 to .82 counts, though it is less than .01 in floats.
    assert 0.82 - 0.81 < 0.01
    assert rows.loc["all pairs", ["n_pairs", "share"]].tolist() == [4, 1.0]
    assert rows.loc["within split", ["n_pairs", "n_runs", "one_run"]].tolist() == [2, 4, 0.5]
    assert rows.loc["a", "n_pairs"] == rows.loc["b", "n_pairs"] == 1
    assert np.isnan(rows["low"]).all()
    row = table[(table["gap"] == 0.005) & (table["scope"] == "all pairs")].iloc[0]
    assert (row["n_pairs"], row["share"]) == (5, 0.8)


def test_the_curve_is_the_share_of_pairs_and_its_interval_holds_it() -> None:
    x, y = draw_pairs(np.random.default_rng(0), 60, 0.6)
    pairs = pair_runs(x, y)
    found, curve = resolve(pairs, draw_counts(np.arange(60), 500))
    for row in curve.iloc[::20].itertuples():
        inside = pairs.gaps >= row.gap
        assert row.n_pairs == inside.sum() and row.share == pytest.approx(
            pairs.right[inside].mean()
        )
    assert (curve["low"] <= curve["share"])[curve["share"] < 1].all()
    assert found.low < found.gap < found.high


@pytest.mark.parametrize(("rho", "n", "kept"), [(0.5, 108, 27), (0.8, 60, 30)])
def test_what_a_cut_leaves_is_the_closed_form_of_a_normal(rho: float, n: int, kept: int) -> None:
    r = 2 * np.sin(np.pi * rho / 6)
    at = stats.norm.isf(kept / n)
    hazard = stats.norm.pdf(at) / stats.norm.sf(at)
    left = 1 - hazard * (hazard - at)
    closed = r * np.sqrt(left / (1 - r**2 + r**2 * left))
    mean, low, high = cut_alone(rho, n, kept)
    # Of a truncated normal only Pearson has a closed form; Spearman is a few hundredths lower.
    assert closed - 0.06 < mean < closed + 0.01 and low < mean < high
    assert cut_alone(rho, n, n)[0] == pytest.approx(rho, abs=0.02)


def test_bands_keep_ties_and_leave_out_what_is_too_small() -> None:
    rng = np.random.default_rng(0)
    x, y = draw_pairs(rng, 40, 0.5)
    pairs = pd.DataFrame({"cv": np.round(x, 1), "lb": y, "split": ["a"] * 36 + ["b"] * 4})
    bands = list_bands(pairs, lb_from=0.0)
    assert {band.split for band in bands} == {"", "a"}
    for band in bands:
        inside = pairs if not band.split else pairs[pairs["split"] == band.split]
        inside = inside[inside[band.cut] >= band.at_least]
        assert band.n == len(inside)
        assert band.spearman == pytest.approx(
            stats.spearmanr(inside["cv"], inside["lb"]).statistic, abs=1e-9
        )
    assert bands[-1].part == "from 0" and cut_band(pairs, "cv", "top half").n >= 20


def test_within_groups_a_difference_between_them_is_gone() -> None:
    rng = np.random.default_rng(0)
    x, y = draw_pairs(rng, 90, 0.6)
    family = np.repeat([0, 1, 2], 30)
    pairs = pd.DataFrame({"cv": x + 9 * family, "lb": y - 9 * family, "family": family.astype(str)})
    assert stats.spearmanr(pairs["cv"], pairs["lb"]).statistic < -0.5
    row = list_partial(pairs).iloc[0]
    inside = [stats.spearmanr(g["cv"], g["lb"]).statistic for _, g in pairs.groupby("family")]
    assert row["within"] == "family" and row["n_groups"] == 3
    assert row["spearman"] == pytest.approx(np.mean(inside), abs=1e-9)
    formula, lineages = within_coverage((20, 10, 5, 5), 0.5, 50)
    assert formula > 0.86 and lineages > 0.86
    assert np.isnan(pool_within(pairs.iloc[[0, 30, 60]], ["family"])["spearman"])


def test_rounding_is_seen_and_its_reach_is_small_unless_scores_tie() -> None:
    assert [count_digits(np.array(v)) for v in ([0.8, 0.85], [0.812, 0.8], [1 / 3, 0.5])] == [
        2,
        3,
        None,
    ]
    x, y = draw_pairs(np.random.default_rng(0), 50, 0.7)
    fine, coarse = find_rounding(x, np.round(y, 2)), find_rounding(x, np.round(y, 0))
    assert fine.digits == 2 and coarse.digits == 0
    assert fine.high - fine.low < 0.02 < coarse.high - coarse.low and coarse.tied > 0.2
    assert np.isnan(find_rounding(x, y).low)


def test_the_best_run_by_all_resamples() -> None:
    folds = [[0.5, 0.9, 0.7], [0.81, 0.6, 0.69], [0.1, 0.1, 0.1], [0.2, 0.2]]
    pairs = pd.DataFrame({"run": list("abcd"), "cv": 0.0, "lb": [0.9, 0.8, 0.9, 1.0]})
    pairs["fold_scores"] = folds
    found = find_best(pairs)
    draws = [(i, j) for i in range(3) for j in range(3)]
    wins = np.mean([sum(folds[0][k] for k in d) > sum(folds[1][k] for k in d) for d in draws])
    assert found.probability == pytest.approx(wins, abs=0.04)
    assert found.shortfall == pytest.approx(0.1 * (1 - wins), abs=0.005)
    assert (found.n, found.n_folds, found.chance) == (3, 3, pytest.approx(2 / 3))
    assert found.left_out == ("1 run without the scores of 3 folds.",)
    assert set(found.candidates["run"]) == {"a", "b"}


def test_the_shake_by_hand() -> None:
    pairs = pd.DataFrame(
        {
            "run": list("abcde"),
            "cv": [0.5, 0.6, 0.9, 0.7, 0.8],
            "lb": [0.70, 0.75, 0.72, 0.80, 0.71],
            "private": [0.71, 0.74, 0.76, 0.70, np.nan],
            "selected": [False, True, False, True, False],
            "submitted_at": [f"2025-05-0{day}" for day in (1, 3, 2, 5, 4)],
        }
    )
    shake = find_shake(pairs)
    assert shake is not None and shake.n == 4 and shake.n_submissions == 5
    assert shake.change == pytest.approx(np.mean([0.01, -0.01, 0.04, -0.10]))
    t = stats.ttest_1samp([0.01, -0.01, 0.04, -0.10], 0).confidence_interval()
    assert (shake.change_low, shake.change_high) == pytest.approx(tuple(t))
    assert shake.moves.iloc[0][["run", "public_rank", "private_rank", "move"]].tolist() == [
        "d",
        1,
        4,
        -3,
    ]
    rows = shake.regrets.set_index("choice")
    assert rows["run"].to_dict() == {"selected": "b", "CV-best": "c", "public-best": "d"}
    assert rows["regret"].tolist() == pytest.approx([0.02, 0.0, 0.06])
    assert rows.loc["public-best", "luck"] == pytest.approx(shake.change + 0.10)
    assert shake.n_records == 4
    assert find_shake(pairs.assign(submitted_at="")).n_records is None
    assert find_shake(pairs.drop(columns="private")) is None


def test_estimators_are_ranked_over_the_runs_all_of_them_score() -> None:
    rng = np.random.default_rng(0)
    x, y = draw_pairs(rng, 50, 0.9)
    table = pd.DataFrame({"run": [f"r{i}" for i in range(50)], "cv": x, "lb": y})
    tables = {
        "noise": table.assign(cv=rng.normal(size=50)),
        "good": table.sample(frac=1, random_state=0),
        "close": table.assign(cv=x + rng.normal(0, 0.05, 50)).iloc[:45],
        "few": table.iloc[:20],
    }
    found = compare_estimators(tables)
    assert found.n == 45 and set(found.table["estimator"]) == {"good", "close", "noise"}
    assert "few is left out: it scores 20 of 50 runs." in found.left_out
    rows = found.table.set_index("estimator")
    assert rows.loc["good", "spearman"] == pytest.approx(
        stats.spearmanr(x[:45], y[:45]).statistic, abs=1e-9
    )
    assert rows.loc["noise", "behind_low"] > 0 > rows.loc["noise", "low"]
    assert rows["first"].sum() == pytest.approx(1) and rows.loc["noise", "first"] == 0
    assert found.p < 0.01 and "cannot be told from" in found.sentences[0]
    null = compare_estimators({k: v.assign(lb=rng.normal(size=len(v))) for k, v in tables.items()})
    assert null.sentences[0].startswith("No estimator is shown to predict the leaderboard better")
    nine = compare_estimators({"a": table[:9], "b": table[:9]})
    assert len(nine.sentences) == 1 and nine.sentences[0].startswith("No verdict: 9 runs have")
    assert compare_estimators({}).n == 0 and compare_estimators({"a": table[:1]}).n == 1


def test_an_estimator_that_never_changes_or_stands_alone_is_no_choice() -> None:
    x, y = draw_pairs(np.random.default_rng(0), 20, 0.9)
    table = pd.DataFrame({"run": np.arange(20).astype(str), "cv": x, "lb": y})
    found = compare_estimators({"flat": table.assign(cv=0.5), "good": table})
    assert found.left_out == ("flat is no judge: it scores all 20 runs alike.",)
    assert found.table["estimator"].tolist() == ["good", "flat"] and len(found.sentences) == 1
    assert "there is no other estimator" in found.sentences[0]
    (weak,) = compare_estimators({"weak": table.assign(lb=y[::-1])}).sentences
    assert weak.startswith("No estimator is shown to predict")
    assert np.isnan(compare_estimators({"flat": table.assign(cv=0.5)}).p)


def test_the_best_of_shuffles_grows_with_unlike_estimators_only() -> None:
    rng, lb = np.random.default_rng(0), np.arange(20.0)
    alike = np.tile(rng.normal(size=20), (10, 1))
    one, ten = shuffle_best(alike[:1], lb), shuffle_best(alike, lb)
    assert ten.mean() == pytest.approx(one.mean()) and abs(one.mean()) < 0.03
    best = shuffle_best(rng.normal(size=(10, 20)), lb)
    # Spearman of 20 shuffled runs has the SD 1/sqrt(19).
    expected = np.mean(rng.normal(size=(20_000, 10)).max(axis=1)) / np.sqrt(19)
    assert best.mean() == pytest.approx(expected, abs=0.05)


def test_truth_is_the_limit_of_many_runs() -> None:
    x, y = draw_pairs(np.random.default_rng(0), 20_000, 0.6)
    assert stats.spearmanr(x, y).statistic == pytest.approx(truth("spearman", 0.6), abs=0.01)
    assert stats.kendalltau(x, y).statistic == pytest.approx(truth("kendall", 0.6), abs=0.01)


def test_two_thousand_runs_are_studied_at_once() -> None:
    rng, n = np.random.default_rng(0), 2000
    x, y = draw_pairs(rng, n, 0.6)
    pairs = pd.DataFrame({"run": np.arange(n).astype(str), "cv": x, "lb": np.round(y, 3)})
    for name, k in (("split", 3), ("family", 5), ("lineage", 300)):
        pairs[name] = rng.integers(0, k, n).astype(str)
    pairs["fold_scores"] = (x[:, None] + rng.normal(size=(n, 5))).tolist()
    start = time.process_time()
    found = study_cv_lb(pairs, metric="m")
    assert time.process_time() - start < 10
    assert found.spearman.value == pytest.approx(truth("spearman", 0.6), abs=0.05)
    assert "linear part" in " ".join(found.methods) and found.kendall.boot_low > 0.3
