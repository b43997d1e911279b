"""How well a run knows each species, what it takes for what, and what changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fold_tables import CODES, build_tables
from sklearn.metrics import average_precision_score, roc_auc_score
from test_study_tables import build_synthetic

from birdlab.errors import OutputsError
from birdlab.study.run_figures import plot_class_scores
from birdlab.study.species import find_confusions, pool_folds, score_species
from birdlab.study.species_changes import find_changes
from birdlab.study.species_view import (
    NOBODY,
    build_species_view,
    changes_words,
    pairs_words,
    species_words,
)
from birdlab.study.tables import StudyTables


def test_folds_are_pooled_as_means_over_seeds() -> None:
    tables = build_tables(seeds=(0, 1))
    pooled = pool_folds(tables)
    assert sorted(pooled.recordings) == sorted(f"r{i}" for i in range(60))
    place = pooled.recordings.index("r4")
    row = tables[1, 0].recordings.index("r4")
    both = (tables[1, 0].probs[row].astype(float) + tables[1, 1].probs[row]) / 2
    np.testing.assert_allclose(pooled.probs[place], both, rtol=1e-6)
    torn = {**tables, (0, 1): replace(tables[0, 1], recordings=("x",) * 20)}
    with pytest.raises(OutputsError, match="other recordings"):
        pool_folds(torn)
    with pytest.raises(OutputsError, match="nothing to study"):
        pool_folds({})


def test_scores_of_species_against_sklearn() -> None:
    tables = build_tables(seeds=(0, 1), skill=0.1)
    pooled, scores = pool_folds(tables), score_species(tables).set_index("code")
    ones = np.ones(5)
    seeds = [pool_folds({k: t for k, t in tables.items() if k[1] == s}).probs for s in (0, 1)]
    for column, code in enumerate(CODES[:3]):
        truth = pooled.targets[:, column]
        ap = np.mean(
            [average_precision_score(np.r_[ones, truth], np.r_[ones, p[:, column]]) for p in seeds]
        )
        auc = np.mean([roc_auc_score(truth, p[:, column]) for p in seeds])
        floor = average_precision_score(np.r_[ones, truth], np.r_[ones, np.zeros(len(truth))])
        assert scores.loc[code, "support"] == truth.sum()
        assert scores.loc[code, "ap"] == pytest.approx(ap)
        assert scores.loc[code, "floor"] == pytest.approx(floor)
        assert scores.loc[code, "above"] == pytest.approx((ap - floor) / (1 - floor))
        assert scores.loc[code, "auc"] == pytest.approx(auc)
    assert scores.loc["nobody", "support"] == 0
    assert scores.loc["nobody", ["ap", "floor", "above", "auc"]].isna().all()


def test_a_constant_stands_at_zero_and_a_perfect_predictor_at_one() -> None:
    tables = build_tables()
    for value, expected in ((lambda t: 0 * t.probs, 0.0), (lambda t: 0.5 * t.targets, 1.0)):
        made = {key: replace(table, probs=value(table)) for key, table in tables.items()}
        assert score_species(made)["above"][:3].tolist() == pytest.approx([expected] * 3)


def test_confusions_against_a_loop() -> None:
    tables = build_tables(seeds=(0, 1), skill=0.05)
    pooled, found = pool_folds(tables), find_confusions(tables)
    pairs = found.pairs.set_index(["species", "other"])
    for a, species in enumerate(CODES):
        for b, other in enumerate(CODES):
            rows = [
                r
                for r in range(60)
                if pooled.primary[r] == a and not pooled.targets[r, b] and a != b
            ]
            wrong = [r for r in rows if pooled.probs[r, b] > pooled.probs[r, a]]
            if not wrong:
                assert (species, other) not in pairs.index
                assert not found.matrix.loc[species, other] > 0
                continue
            excess = [float(pooled.probs[r, b] - pooled.probs[r, a]) for r in wrong]
            row = pairs.loc[(species, other)]
            assert (row["recordings"], row["mistaken"]) == (len(rows), len(wrong))
            assert row["share"] == found.matrix.loc[species, other] == len(wrong) / len(rows)
            assert row["excess"] == pytest.approx(np.mean(excess), rel=1e-5)
            assert row["example"] == pooled.recordings[wrong[int(np.argmax(excess))]]
    assert found.pairs["mistaken"].is_monotonic_decreasing and len(found.pairs) > 3
    assert np.isnan(np.diag(found.matrix)).all() and found.matrix.loc["nobody"].isna().all()


def test_equal_probabilities_are_no_mistake() -> None:
    tables = {k: replace(t, probs=0 * t.probs) for k, t in build_tables().items()}
    assert find_confusions(tables).pairs.empty


def test_a_species_that_got_better_is_named() -> None:
    before, after = build_tables(120, skill=0.05), build_tables(120, skill=0.05)
    owl = CODES.index("owl")
    for table in after.values():
        table.probs[:, owl] = 0.5 * table.targets[:, owl]
    people = {f"r{i}": f"person {i % 40}" for i in range(120)}
    changes = find_changes("new", after, "old", before, people)
    row = changes.table.set_index("code").loc["owl"]
    assert row["q"] < 0.05 and row["ap_b"] == pytest.approx(1) and row["low"] > 0
    assert changes.table["code"].iloc[0] == "owl" and row["n_recordists"] <= 40
    assert changes.sentences[0].startswith("new knows owl better than old does")
    back = find_changes("old", before, "new", after, people)
    assert back.sentences[0].startswith("old knows owl worse than new does")
    same = find_changes("new", before, "old", before, {})
    assert same.sentences[0].startswith("No species is shown")
    assert "who made the recordings" in same.sentences[1]


def test_runs_are_compared_on_the_seeds_and_recordings_that_both_have() -> None:
    many, one = build_tables(seeds=(0, 1, 2)), build_tables(seeds=(1,))
    same = find_changes("a", many, "b", one, {})
    assert same.table["delta"].tolist() == pytest.approx([0.0] * 3)
    none = find_changes("a", build_tables(seeds=(0,)), "b", build_tables(seeds=(5,)), {})
    assert "share no seed" in " ".join(none.sentences)
    fewer = find_changes("a", build_tables(40), "b", build_tables(60), {})
    assert any("20 recordings" in sentence for sentence in fewer.sentences)
    crossed = find_changes("a", build_tables(60), "b", build_tables(60, run=1, flip=True), {})
    assert crossed.table["support"].sum() == pool_folds(build_tables(60)).targets.sum()
    labels = sum(int(table.targets.sum()) for table in build_tables(40).values())
    assert fewer.table["support"].sum() == labels


def test_the_view_of_species() -> None:
    tables = build_synthetic(6)
    tables.runs.loc[4, "delta"] = "base"
    newest, base = tables.runs["run"].iloc[[5, 4]]
    own = {newest: build_tables(skill=0.2), base: build_tables(skill=0.3, run=1)}
    view = build_species_view(tables, lambda run: own.get(run, {}), lambda run: {})
    assert (view.run, view.other) == (newest, base)
    assert [option["value"] for option in view.options] == tables.runs["run"].tolist()[::-1]
    assert view.silent == ("nobody",)
    assert view.species["above"].is_monotonic_increasing and len(species_words(view)) == 3
    assert view.answer.startswith(f"run 5 knows {view.species['code'].iloc[0]} least")
    assert view.support is not None and "nobody" not in view.support.names
    assert len(plot_class_scores(view.support).data) == 2
    floors = dict(view.support.floor)
    row = view.species.iloc[0]
    assert np.interp(row["support"], list(floors), list(floors.values())) == pytest.approx(
        row["floor"], abs=0.01
    )
    assert list(changes_words(view)["species"]) == list(view.changes.table["code"])  # type: ignore[union-attr]
    assert len(pairs_words(view)) == len(view.pairs)
    far = {newest: own[newest], base: build_tables(codes=tuple("wxyz"))}
    apart = build_species_view(tables, lambda run: far[run], lambda run: {}, newest, base)
    assert "nothing in common" in apart.sentences[0] and len(apart.species) == 3
    alone = build_species_view(tables, lambda run: own.get(run, {}), lambda run: {}, newest, NOBODY)
    assert alone.changes is None and changes_words(alone).empty
    gone = build_species_view(tables, lambda run: {}, lambda run: {}, "no such run")
    assert gone.run == newest and "outputs of run 5 are gone" in gone.answer
    other = tables.runs["run"].iloc[0]
    half = build_species_view(tables, lambda run: own.get(run, {}), lambda run: {}, newest, other)
    assert half.other == other and "nothing is compared" in half.sentences[0]


def test_lines_of_a_ledger_are_not_offered() -> None:
    tables = build_synthetic(3)
    cells = tables.cells[tables.cells["run"] == tables.runs["run"].iloc[0]]
    bare = StudyTables(tables.runs, cells, tables.ledger)
    view = build_species_view(bare, lambda run: {}, lambda run: {})
    assert [option["value"] for option in view.options] == [tables.runs["run"].iloc[0]]
    empty = StudyTables(tables.runs, pd.DataFrame(columns=tables.cells.columns), tables.ledger)
    assert (
        "No run has stored outputs" in build_species_view(empty, lambda r: {}, lambda r: {}).answer
    )
