"""The split of a difference over species and recordings, against taking each row out in turn."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fold_tables import build_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from why_simulations import simulate_nothing, simulate_recordings, simulate_species

from birdlab.errors import DataError
from birdlab.evaluate.metrics import class_auc, class_average_precision, macro_auc, padded_cmap
from birdlab.evaluate.score import FoldTable
from birdlab.study.compare import compare_runs
from birdlab.study.delta_split import split_delta
from birdlab.study.influence import find_influence
from birdlab.study.rescoring import build_estimator
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.study.split_chance import seed_sd
from birdlab.study.split_evidence import SplitEvidence, weigh_evidence
from birdlab.study.split_words import fewest_for_half, split_sentences

SCORES = {"padded_cmap": padded_cmap, "macro_auc": macro_auc}


def draw_table(n_rows: int, n_levels: int, share: float, seed: int) -> FoldTable:
    """A table with ties, saturated scores and classes with no, one, some and all positives."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n_rows, 5)) < [share, share, 0.5, 0.0, 1.0]
    targets[:, 1] = False
    targets[rng.integers(n_rows), 1] = True
    probs = (rng.integers(0, n_levels, (n_rows, 5)) / n_levels).astype(np.float32)
    probs[rng.random(probs.shape) < 0.2] = np.nextafter(np.float32(1), np.float32(0))
    names = tuple(f"r{i}" for i in range(n_rows))
    return FoldTable(names, tuple("abcde"), np.zeros(n_rows, np.int64), targets, probs)


@given(st.integers(2, 25), st.integers(1, 9), st.floats(0.05, 0.9), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("metric", sorted(SCORES))
def test_each_row_taken_out(
    metric: str, n_rows: int, n_levels: int, share: float, seed: int
) -> None:
    table = draw_table(n_rows, n_levels, share, seed)
    found = find_influence(table, metric=metric)
    by_class = class_auc if metric == "macro_auc" else class_average_precision
    whole = by_class(table.targets, table.probs)
    np.testing.assert_allclose(found.values, whole, atol=1e-12)
    assert found.parts.sum() == pytest.approx(np.nanmean(whole), abs=1e-12)
    for row in range(n_rows):
        kept = np.arange(n_rows) != row
        without = by_class(table.targets[kept], table.probs[kept])
        if np.isnan(without).all():
            assert np.isnan(found.moved[row]).all()
            continue
        moved = np.nan_to_num(whole) / (~np.isnan(whole)).sum()
        moved = moved - np.nan_to_num(without) / (~np.isnan(without)).sum()
        np.testing.assert_allclose(found.moved[row], moved, atol=1e-12)


def runs(seeds: tuple[int, ...] = (0, 1), *, flip: bool = False) -> list[RunTables]:
    return [
        RunTables("a", build_tables(seeds=seeds, skill=0.1)),
        RunTables("b", build_tables(seeds=seeds, run=1, skill=0.3, flip=flip)),
    ]


@pytest.mark.parametrize("metric", sorted(SCORES))
@pytest.mark.parametrize("flip", [False, True])
def test_everything_sums_to_the_difference(metric: str, flip: bool) -> None:
    shared = share_tables(runs(flip=flip))
    found = split_delta(shared, "b", metric=metric)
    pairs = shared.pairs("b")
    score = SCORES[metric]
    deltas = [score(b.targets, b.probs) - score(a.targets, a.probs) for a, b in pairs.values()]
    assert found.delta == pytest.approx(np.mean(deltas), abs=1e-12) and abs(found.delta) > 0.01
    assert math.fsum(found.species["share"]) == found.delta
    assert found.recordings["share"].sum() == pytest.approx(found.delta, abs=1e-12)
    assert found.remainder == found.delta - math.fsum(found.recordings["influence"])
    assert len(found.recordings) == 60


def test_the_influence_of_a_recording_is_the_difference_without_it() -> None:
    shared = share_tables(runs())
    found = split_delta(shared, "b")
    for row in found.recordings.head(3).to_dict("records"):
        tables = [
            RunTables(run.name, {c: _without(t, row["recording"]) for c, t in run.tables.items()})
            for run in runs()
        ]
        without = split_delta(share_tables(tables), "b").delta
        assert row["influence"] == pytest.approx(found.delta - without, abs=1e-12)


def _without(table: FoldTable, name: str) -> FoldTable:
    kept = [i for i, own in enumerate(table.recordings) if own != name]
    return FoldTable(
        tuple(table.recordings[i] for i in kept),
        table.codes,
        table.primary[kept],
        table.targets[kept],
        table.probs[kept],
    )


def test_other_metrics_and_arms_are_refused() -> None:
    shared = share_tables(runs())
    with pytest.raises(DataError, match="does not split"):
        split_delta(shared, "b", metric="cmap_min5")
    with pytest.raises(DataError, match="not compared"):
        split_delta(shared, "c")
    with pytest.raises(DataError, match="padding"):
        split_delta(shared, "b", n_pad=0)


def test_what_moves_a_species() -> None:
    found = split_delta(share_tables(runs()), "b")
    assert set(found.parts["code"]) <= set(found.species["code"])
    assert found.parts.groupby("code").size().max() == 5
    assert found.parts["code"].drop_duplicates().tolist() == [
        code for code in found.species["code"] if code in set(found.parts["code"])
    ]
    unlabelled = found.parts[~found.parts["labelled"]]
    assert len(unlabelled) and (unlabelled["share"] == 0).all()
    sole = found.recordings["recording"][0]
    part = found.parts[(found.parts["recording"] == sole) & found.parts["labelled"]].iloc[0]
    row = found.recordings.iloc[0]
    assert part["prob_b"] == row["prob_b"] != part["prob_a"] == row["prob_a"]
    moved = found.moves.groupby("recording", sort=False)["influence"]
    assert next(iter(moved.groups)) == sole and moved.size().max() == 3
    whole = split_delta(share_tables(runs()), "b").recordings.set_index("recording")["influence"]
    np.testing.assert_allclose(moved.sum(), whole[list(moved.groups)], atol=1e-12)


def test_seeds_of_their_own_weigh_alike() -> None:
    a = RunTables("a", build_tables(seeds=(0, 1), skill=0.1))
    b = RunTables("b", build_tables(seeds=(5, 6, 7), run=1, skill=0.3))
    found = split_delta(share_tables([a, b]), "b")
    means = [
        np.mean([padded_cmap(t.targets, t.probs) for t in run.tables.values()]) for run in (a, b)
    ]
    assert found.delta == pytest.approx(means[1] - means[0], abs=1e-12)
    assert found.chance is not None and found.species["by_chance"].notna().all()


def test_one_seed_and_other_splits_say_nothing_of_chance() -> None:
    for shared in (share_tables(runs((0,))), share_tables(runs(flip=True))):
        found = split_delta(shared, "b")
        assert found.chance is None and "Not enough evidence" in found.sentences[-1]
        assert found.species["by_chance"].isna().all()
        assert found.recordings["by_chance"].isna().all()


def test_the_spread_by_seeds() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4, 2000)), rng.normal(0, 2, (2, 2000))
    assert (seed_sd((a, b)) ** 2).mean() == pytest.approx(1 / 4 + 4 / 2, rel=0.1)
    assert np.isnan(seed_sd((a, b[:1]))).all()


def test_half_of_a_side() -> None:
    shares = pd.Series([0.5, 0.3, 0.2, 0.1, -0.6])
    assert fewest_for_half(shares, 1) == (2, pytest.approx(0.8))
    assert fewest_for_half(shares, -1) == (1, pytest.approx(0.6))


def test_a_fold_that_hangs_on_one_recording() -> None:
    """Without its only positive a fold has no AUC: no influence, and no sum, is made up."""
    targets = np.array([[True, False], [False, False], [False, False]])
    tables = []
    for own in (0.1, 0.6):
        probs = np.array([[own, 0.5], [0.4, 0.5], [0.2, 0.5]], np.float32)
        one = FoldTable(("x", "y", "z"), ("a", "b"), np.zeros(3, np.int64), targets, probs)
        tables.append({(0, 0): one, (0, 1): one})
    runs = [RunTables(name, of) for name, of in zip("ab", tables, strict=True)]
    found = split_delta(share_tables(runs), "b", metric="macro_auc")
    influence = found.recordings.set_index("recording")["influence"]
    assert found.delta == 1 and np.isnan(influence["x"]) and influence["y"] == 0
    assert np.isnan(found.remainder) and "influences have no sum" in found.sentences[1]
    assert found.chance is not None and found.chance.largest_recording == 0
    assert found.moves.empty and not split_delta(share_tables(runs), "b").moves.empty


def test_gains_and_losses_in_words() -> None:
    def species_of(probs: list[float], base: tuple[float, ...] = (0.5,) * 4) -> list[str]:
        targets = np.eye(4, dtype=bool)
        names, codes = tuple("wxyz"), tuple("abcd")
        primary = np.arange(4)
        made = []
        for own in (base, probs):
            said = np.where(targets, own, 0.5).astype(np.float32)
            made.append(FoldTable(names, codes, primary, targets, said))
        both = [RunTables(n, {(0, 0): t}) for n, t in zip("ab", made, strict=True)]
        return list(split_delta(share_tables(both), "b").sentences)

    gain = (1 - (5 + 6 / 9) / 6) / 4
    assert species_of([0.9, 0.9, 0.5, 0.5])[0] == (
        f"+{2 * gain:.4f}, of which 50 % from 1 species (a)."
    )
    assert species_of([0.5] * 4) == [
        "Both score the same in every species: there is nothing to explain."
    ]
    assert "2 recordings gain" in species_of([0.9, 0.9, 0.5, 0.5])[1]
    assert "losses is made by 2" in species_of([0.5] * 4, (0.9, 0.9, 0.9, 0.5))[1]
    base = RunTables("a", build_tables(skill=0.2))
    # One species has all the gains, and losses are small: 125 % is no part of a difference.
    table = pd.DataFrame({"code": ["a", "b"], "share": [0.01, -0.002], "influence": 0.0})
    assert split_sentences(0.008, table, table, 0.008, None)[0] == (
        "+0.0080: gains of +0.0100 in 1 species, losses of -0.0020 in 1. "
        "1 species (a) make 100 % of the gains."
    )
    mixed = split_delta(share_tables([base, RunTables("b", build_tables(run=3, skill=0.2))]), "b")
    gains = mixed.species["share"].clip(lower=0).sum()
    assert f"gains of {gains:+.4f} in" in mixed.sentences[0]


@pytest.mark.parametrize("metric", ["padded_cmap", "macro_auc"])
def test_evidence_is_asked_of_folds_and_of_recordings(metric: str) -> None:
    """A large difference is shown; one of equal runs or of one fold is not, and it is said why."""

    def weighed(skill: float, n_draws: int = 50, folds: int = 5) -> SplitEvidence:
        tables = [
            RunTables(name, build_tables(200, folds=folds, skill=of, run=i, seeds=(0, 1)))
            for i, (name, of) in enumerate((("a", 0.1), ("b", skill)))
        ]
        found = compare_runs(tables, {}, metric=build_estimator(metric), n_draws=n_draws)
        return weigh_evidence(split_delta(found.shared, "b", metric=metric), found)

    large, none, one = weighed(0.45), weighed(0.1), weighed(0.45, 0, folds=1)
    assert large.enough and large.sentences[0].startswith("The difference is shown: better on 5")
    assert ("recordists)" in large.sentences[0]) == (metric == "padded_cmap")
    assert not none.enough and "Not enough evidence that b and a differ" in none.sentences[0]
    assert "choose no species" in none.sentences[-1]
    if metric == "padded_cmap":
        assert "could turn it round" in none.sentences[0]
    assert not one.enough and "no verdict on 1 fold, where it takes 3" in one.sentences[0]


def test_evidence_of_other_people_splits_and_metrics() -> None:
    found = compare_runs(runs(flip=True), dict.fromkeys((f"r{i}" for i in range(60)), "p"))
    split = split_delta(found.shared, "b")
    weighed = weigh_evidence(split, found)
    assert not weighed.enough and "1 recordist are too few" not in weighed.sentences[0]
    assert "1 recordist is too few to say" in weighed.sentences[0]
    empty = replace(found.crossed[0], verdict="no verdict", n_empty=2)
    said = weigh_evidence(split, replace(found, crossed=(empty,))).sentences[0]
    assert "no verdict on the pieces of 3 by 3 folds, of which 2 are empty" in said
    auc = split_delta(found.shared, "b", metric="macro_auc")
    with pytest.raises(DataError, match="two metrics"):
        weigh_evidence(auc, found)
    with pytest.raises(DataError, match="does not hold"):
        weigh_evidence(replace(split, arm="c"), found)
    assert split_delta(found.shared, "b", n_pad=3).metric == "padded_cmap_pad3"


def test_the_cause_that_was_planted_is_named() -> None:
    """Four of 40 species, or 20 of 600 recordings: far more than luck finds; see docs/why.md."""
    species = simulate_species(5, noise=0.5)
    assert species["found"] > 0.7 and species["theirs"] == pytest.approx(1, abs=0.4)
    recordings = simulate_recordings(5, noise=0.5)
    assert recordings["influence"] > 0.4 and recordings["share"] > 0.4


def test_chance_is_what_equal_runs_show() -> None:
    found = simulate_nothing(12, noise=1.0)
    for name in ("sd", "gains", "largest", "recording"):
        assert found[name] == pytest.approx(found[f"{name}_said"], rel=0.5)
    assert 0.1 < found["above"] < 0.9


def test_thousands_of_recordings_take_seconds() -> None:
    """3,400 recordings of 264 species, both scores of one fold and seed on one core."""
    rng = np.random.default_rng(0)
    primary = rng.integers(0, 264, 3400)
    targets = np.eye(264, dtype=bool)[primary]
    codes = tuple(f"s{i}" for i in range(264))
    names = tuple(f"r{i}" for i in range(3400))
    tables = [
        FoldTable(names, codes, primary, targets, rng.random((3400, 264), np.float32))
        for _ in range(2)
    ]
    shared = share_tables(
        [RunTables(name, {(0, 0): table}) for name, table in zip("ab", tables, strict=True)]
    )
    start = time.process_time()
    found = split_delta(shared, "b")
    assert time.process_time() - start < 10 and len(found.recordings) == 3400
