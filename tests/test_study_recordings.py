"""Differences over recordings: weighted scores, draws of recordists, and species one by one."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from simulations import draw_tables, excluded_share
from sklearn.metrics import average_precision_score

from birdlab.errors import DataError
from birdlab.evaluate.metrics import class_average_precision, padded_cmap
from birdlab.evaluate.score import FoldTable
from birdlab.study.recordings import MIN_RECORDISTS, weigh_recordists, weighted_precisions
from birdlab.study.species_differences import compare_species


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_weighted_precision_is_that_of_scikit_learn(n_rows: int, n_levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.random((n_rows, 3)) < 0.4
    probs = (rng.integers(0, n_levels, (n_rows, 3)) / n_levels).astype(np.float32)
    weights = np.c_[np.ones(n_rows), rng.exponential(size=(n_rows, 2))]
    found = weighted_precisions(targets, probs, weights)
    np.testing.assert_allclose(found[:, 0], class_average_precision(targets, probs), rtol=1e-14)
    ones = np.ones(5)
    for c, d in np.ndindex(3, 3):
        expected = average_precision_score(
            np.r_[ones, targets[:, c]],
            np.r_[ones, probs[:, c]],
            sample_weight=np.r_[ones, weights[:, d]],
        )
        assert found[c, d] == pytest.approx(expected)


def test_the_difference_is_that_of_the_fold_means() -> None:
    rng = np.random.default_rng(0)
    cells = [(0, 0), (0, 1), (1, 0)]
    made = {cell: draw_tables(rng, n_recordists=20, gain=0.4) for cell in cells}
    pairs = {cell: (tables[0], tables[1]) for cell, (tables, _) in made.items()}
    recordists = made[0, 0][1]
    found = weigh_recordists(pairs, recordists, n_draws=50)
    delta = {
        cell: padded_cmap(b.targets, b.probs) - padded_cmap(a.targets, a.probs)
        for cell, (a, b) in pairs.items()
    }
    expected = ((delta[0, 0] + delta[0, 1]) / 2 + delta[1, 0]) / 2
    assert found.delta == pytest.approx(expected, abs=1e-14)
    assert found.low < found.delta < found.high
    assert (found.n_recordists, found.n_recordings) == (20, 20)
    assert found == weigh_recordists(pairs, recordists, n_draws=50)
    assert weigh_recordists(pairs, {}, n_draws=50).n_recordists == 20
    one = weigh_recordists(pairs, dict.fromkeys(recordists, "p"), n_draws=50)
    assert "20 recordings of 1 recordist the difference" in one.sentence
    assert one.n_recordists == 1 and one.sentence.endswith("what other recordings would do.")


def test_few_recordists_with_many_recordings_say_little() -> None:
    tables, recordists = draw_tables(np.random.default_rng(1), n_recordists=10, n_each=40, gain=0.1)
    pairs = {(0, 0): (tables[0], tables[1])}
    by_person = weigh_recordists(pairs, recordists, n_draws=200)
    by_recording = weigh_recordists(pairs, {}, n_draws=200)
    assert by_person.high - by_person.low > 2 * (by_recording.high - by_recording.low)
    assert "10 recordists" in by_person.sentence


def test_equal_runs_differ_by_nothing() -> None:
    (table, _), recordists = draw_tables(np.random.default_rng(2), n_recordists=30)
    found = weigh_recordists({(0, 0): (table, table)}, recordists, n_draws=20)
    assert (found.delta, found.low, found.high) == (0, 0, 0) and "could turn" not in found.sentence
    species = compare_species({(0, 0): table}, {(0, 0): table}, recordists, n_draws=20)
    known = species[species["n_recordists"] >= MIN_RECORDISTS]
    assert len(known) and (known["p"] == 1).all() and (known["q"] == 1).all()


@pytest.mark.parametrize(("n_recordists", "n_each", "n_classes"), [(60, 2, 8), (200, 1, 30)])
def test_the_interval_holds_the_truth(n_recordists: int, n_each: int, n_classes: int) -> None:
    """Models that are alike in the long run: the interval leaves 0 out in about 5 %."""
    n = 150
    share = excluded_share(n, n_recordists, n_each, n_classes)
    assert stats.binomtest(round(n * share), n, 0.07, alternative="greater").pvalue > 0.01
    assert share > 0


def test_a_real_fold_takes_seconds() -> None:
    tables, recordists = draw_tables(
        np.random.default_rng(4), n_recordists=1700, n_each=2, n_classes=264
    )
    began = time.process_time()
    weigh_recordists({(0, 0): (tables[0], tables[1])}, recordists, n_draws=200)
    assert time.process_time() - began < 10


def test_species_that_changed_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(5)
    n_classes, false, found = 20, 0, 0
    for _ in range(8):
        tables, recordists = draw_tables(rng, n_recordists=300, n_classes=n_classes, like=0.2)
        a, b = tables
        probs = b.probs.copy()
        better = b.targets[:, 0]
        probs[better, 0] = 0.999 * special.expit(special.logit(probs[better, 0] / 0.999) + 3)
        b = replace(b, probs=probs)
        table = compare_species({(0, 0): a}, {(0, 0): b}, recordists, n_draws=150)
        sure = set(table.loc[table["q"] < 0.05, "code"])
        found += "s0" in sure
        false += len(sure - {"s0"})
    assert found == 8 and false <= 3


@pytest.mark.parametrize(("n_recordists", "n_each"), [(5, 3), (8, 1), (20, 2)])
def test_species_intervals_are_honest_for_few_recordists(n_recordists: int, n_each: int) -> None:
    rng = np.random.default_rng(n_recordists)
    p: list[float] = []
    for _ in range(12):
        tables, people = draw_tables(
            rng, n_recordists=n_recordists * 20, n_each=n_each, n_classes=20
        )
        table = compare_species({(0, 0): tables[0]}, {(0, 0): tables[1]}, people, n_draws=100)
        p += list(table["p"].dropna())
    assert stats.binomtest(sum(v < 0.05 for v in p), len(p), 0.06, alternative="greater").pvalue > (
        0.01
    )


def test_a_species_of_few_recordists_gets_no_interval() -> None:
    tables, recordists = draw_tables(np.random.default_rng(6), n_recordists=40, n_classes=12)
    a, b = tables
    table = compare_species({(0, 0): a, (0, 1): a}, {(0, 0): b, (0, 2): b}, recordists, n_draws=50)
    few = table["n_recordists"] < MIN_RECORDISTS
    assert few.any() and not few.all()
    for name in ("low", "high", "p", "q"):
        assert table[name].isna().equals(few)
    assert table["delta"].is_monotonic_decreasing and table["delta"].notna().all()
    one = table.set_index("code").loc["s3"]
    assert one["ap_a"] == pytest.approx(class_average_precision(a.targets, a.probs)[3])
    assert one["delta"] == pytest.approx(one["ap_b"] - one["ap_a"])
    known = table.dropna()
    expected = stats.false_discovery_control(known["p"])
    np.testing.assert_allclose(known["q"], expected)


def test_folds_are_pooled_for_species_and_species_without_recordings_left_out() -> None:
    rng = np.random.default_rng(7)
    (a, b), recordists = draw_tables(rng, n_recordists=50, n_classes=4)
    empty = a.targets.copy()
    empty[:, 2] = False
    a, b = replace(a, targets=empty), replace(b, targets=empty)
    half = len(a.recordings) // 2

    def cut(table: FoldTable, rows: slice) -> FoldTable:
        return FoldTable(
            table.recordings[rows], table.codes, table.primary[rows],
            table.targets[rows], table.probs[rows],
        )  # fmt: skip

    halves = (slice(0, half), slice(half, None))
    folds = [{(f, 0): cut(t, rows) for f, rows in enumerate(halves)} for t in (a, b)]
    whole = compare_species({(0, 0): a}, {(0, 0): b}, recordists, n_draws=40)
    assert compare_species(*folds, recordists, n_draws=40).equals(whole)
    assert set(whole["code"]) == {"s0", "s1", "s3"}


def test_tables_that_do_not_pair_are_refused() -> None:
    (a, b), recordists = draw_tables(np.random.default_rng(8), n_recordists=10)
    with pytest.raises(DataError, match="share no fold"):
        compare_species({(0, 0): a}, {(1, 0): b}, recordists)
    for spoilt, says in (
        (replace(b, recordings=b.recordings[::-1]), "other recordings"),
        (replace(b, codes=b.codes[::-1]), "other codes"),
        (replace(b, targets=~b.targets), "other labels"),
    ):
        with pytest.raises(DataError, match=says):
            weigh_recordists({(0, 0): (a, spoilt)}, recordists)
