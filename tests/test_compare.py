"""Runs side by side: what they share, which model says what, and the verdicts on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import print_of
from crossed_simulations import simulate

from birdlab.errors import BirdlabError, DataError, ResolveError
from birdlab.evaluate.evidence import Cell, Evidence, FoldTable
from birdlab.evaluate.metrics import padded_cmap
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.recorded import load_record, load_records
from birdlab.run import run_experiment
from birdlab.runtables import load_fold_tables
from birdlab.spec import load_spec
from birdlab.study.compare import compare_runs, score_shared
from birdlab.study.crossed import judge_crossed, mean_error
from birdlab.study.noise import estimate_noise
from birdlab.study.noise_file import save_noise
from birdlab.study.rescoring import build_estimator, rescore_run
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.tracking.evidence import load_evidence, load_recordists
from birdlab.upkeep.foreign import import_foreign

CODES = ("kite", "rook", "wren")
RECORDINGS = [f"r{i:02d}" for i in range(60)]
TRUTH = np.random.default_rng(0).random((60, 3)) < (0.5, 0.3, 0.2)


def three(i: int) -> int:
    return i % 3


def made(
    name: str,
    *,
    split: Any = three,
    seeds: tuple[int, ...] = (0, 1),
    codes: tuple[str, ...] = CODES,
    skill: float = 0.0,
    rows: range = range(60),
    truth: np.ndarray[Any, Any] = TRUTH,
) -> RunTables:
    """A run whose every probability is its own, so that it can be found again."""
    columns = [CODES.index(code) if code in CODES else 0 for code in codes]
    tables: dict[Cell, FoldTable] = {}
    for seed in seeds:
        noise = np.random.default_rng([*name.encode(), seed]).random((60, len(codes)))
        probs = ((1 - skill) * noise + skill * TRUTH[:, columns]).astype(np.float32) * 0.99
        for fold in sorted({split(i) for i in rows}):
            held = [i for i in rows if split(i) == fold]
            tables[fold, seed] = FoldTable(
                tuple(RECORDINGS[i] for i in held),
                codes,
                np.full(len(held), len(codes) - 1, np.int64),
                truth[np.ix_(held, columns)],
                probs[held],
            )
    return RunTables(name, tables)


def said_of(run: RunTables, recording: str, seed: int, code: str) -> float:
    """What the one model of a run that had not heard a recording says of it."""
    ((table, row),) = [
        (table, table.recordings.index(recording))
        for (_, s), table in run.tables.items()
        if s == seed and recording in table.recordings
    ]
    return float(table.probs[row, table.codes.index(code)])


def assert_held_out(tables: Iterable[tuple[int, FoldTable]], run: RunTables) -> None:
    """Every prediction is that of the run's one model that had not heard the recording."""
    for seed, table in tables:
        for row, name in enumerate(table.recordings):
            for column, code in enumerate(table.codes):
                assert table.probs[row, column] == np.float32(said_of(run, name, seed, code))


def by_seed(tables: Mapping[Cell, FoldTable]) -> list[tuple[int, FoldTable]]:
    return [(seed, table) for (_, seed), table in tables.items()]


def test_equal_runs_are_compared_as_they_are() -> None:
    a, b = made("a"), made("b")
    shared = share_tables([a, b])
    assert (shared.base, shared.paired, shared.left_out, shared.notes) == ("a", True, (), ())
    assert (shared.folds, shared.codes, shared.seeds("b")) == ((0, 1, 2), CODES, [0, 1])
    for run in (a, b):
        for cell, table in run.tables.items():
            mine = shared.tables[run.name][cell]
            assert mine.recordings == table.recordings
            assert np.array_equal(mine.probs, table.probs)
            assert np.array_equal(mine.targets, table.targets)


def test_only_what_all_have_is_compared_and_the_rest_is_named() -> None:
    a = made("a", seeds=(0, 1, 2))
    b = made("b", codes=("wren", "owl", "kite"), seeds=(0, 2), rows=range(0, 60, 2))
    c = made("c", seeds=(2, 0), rows=range(40))
    shared = share_tables([a, b, c])
    assert shared.codes == ("kite", "wren")
    assert sorted(shared.recordings) == RECORDINGS[:40:2]
    assert shared.seeds("a") == [0, 2]
    text = " ".join(shared.left_out)
    assert "Of a, what the others lack is left out: 40 recordings, species rook, seed 1." in text
    assert "Of b, what the others lack is left out: 10 recordings, species owl." in text
    for run in (a, b, c):
        assert_held_out(by_seed(shared.tables[run.name]), run)
    for table in shared.tables["b"].values():
        rows = [RECORDINGS.index(name) for name in table.recordings]
        assert np.array_equal(table.targets, TRUTH[rows][:, [0, 2]]), "of the base"


def test_folds_that_one_has_alone_are_left_out() -> None:
    few = made("few", rows=range(60), split=lambda i: i % 3)
    only_two = RunTables("two", {c: t for c, t in made("two").tables.items() if c[0] < 2})
    shared = share_tables([few, only_two])
    assert shared.folds == (0, 1)
    assert "20 recordings, fold 2" in shared.left_out[0]


def test_other_splits_are_compared_where_one_model_of_each_speaks() -> None:
    """A piece holds what a fold of each has in common; nobody had heard what they speak of."""
    a, b = made("a"), made("b", split=lambda i: i // 12)
    shared = share_tables([a, b, made("c")])
    assert (list(shared.tables), list(shared.crossed), shared.arms) == (
        ["a", "c"],
        ["b"],
        ["c", "b"],
    )
    pieces = shared.crossed["b"]
    assert sorted(pieces) == [(fold, own) for fold in range(3) for own in range(5)]
    for (fold, own), pairs in pieces.items():
        for seed, (base, arm) in pairs.items():
            rows = [i for i in range(60) if (i % 3, i // 12) == (fold, own)]
            assert base.recordings == arm.recordings == tuple(RECORDINGS[i] for i in rows)
            assert np.array_equal(base.targets, TRUTH[rows])
            assert np.array_equal(base.targets, arm.targets)
            assert_held_out([(seed, base)], a)
            assert_held_out([(seed, arm)], b)
    (note,) = shared.notes
    assert "b was split otherwise" in note


def test_folds_of_other_numbers_are_the_same_and_few_that_moved_are_left_out() -> None:
    a, b = made("a"), made("b", split=lambda i: 7 - i % 3)
    shared = share_tables([a, b])
    assert (shared.crossed, shared.notes, shared.left_out) == ({}, (), ())
    assert_held_out(by_seed(shared.tables["b"]), b)
    moved = made("moved", split=lambda i: 0 if i in (1, 2, 4) else i % 3)
    shared = share_tables([a, moved])
    assert set(RECORDINGS) - set(shared.recordings) == {"r01", "r02", "r04"}
    assert "3 recordings lie in another fold of moved: left out." in shared.left_out
    assert_held_out(by_seed(shared.tables["moved"]), moved)


def test_runs_of_other_folds_get_a_verdict_from_pieces() -> None:
    a, rng = made("a"), np.random.default_rng(1)
    splits = [rng.permutation(60) % 5 for _ in range(2)]
    good = made("good", split=lambda i: splits[0][i], skill=0.8)
    found = compare_runs([a, good, made("c", split=lambda i: splits[1][i])], {}, n_draws=20)
    assert found.ranking is None
    better, equal = found.crossed
    assert (better.verdict, equal.verdict) == ("better", "undecided")
    assert better.low > 0 > equal.low and better.n_folds == (3, 5)
    pairs = found.shared.pairs("good").values()
    deltas = [
        padded_cmap(arm.targets, arm.probs) - padded_cmap(base.targets, base.probs)
        for base, arm in pairs
    ]
    assert better.delta == pytest.approx(np.mean(deltas))
    assert found.recordings["good"].delta == pytest.approx(better.delta)
    assert "good: +" in better.sentence("a") and "3 by 5 folds" in better.sentence("a")


def test_pieces_that_are_empty_or_few_give_no_verdict() -> None:
    scores = np.random.default_rng(0).random((2, 4, 4))
    holed = scores.copy()
    holed[:, 1, 2] = np.nan
    for base, arm, words in (
        (*holed, "1 are empty"),
        (*scores[:, :2], "no verdict under 3 folds"),
    ):
        said = judge_crossed("b", base, arm)
        assert said.verdict == "no verdict" and words in said.sentence("a")
        assert said.delta == pytest.approx(np.nanmean(arm) - np.nanmean(base))


def test_the_error_of_a_mean_over_pieces() -> None:
    """Against the variance of the mean itself, for rows, columns and rest of several sizes."""
    rng, n = np.random.default_rng(0), 3000
    for sds in ((0.01, 0.01, 0.01), (0.02, 0.0, 0.01), (0.0, 0.0, 0.02)):
        rows, columns, rest = (
            rng.normal(0, sd, size)
            for sd, size in zip(sds, ((n, 5, 1), (n, 1, 4), (n, 5, 4)), strict=True)
        )
        tables = rows + columns + rest
        true = sds[0] ** 2 / 5 + sds[1] ** 2 / 4 + sds[2] ** 2 / 20
        assert tables.mean(axis=(1, 2)).var() == pytest.approx(true, rel=0.1)
        squares = np.mean([mean_error(table)[0] ** 2 for table in tables])
        assert true * 0.93 < squares < true * 1.6, "never below the truth on average"
        false = np.mean([judge_crossed("b", 0 * table, table).p < 0.05 for table in tables])
        assert false < 0.06, sds


@pytest.mark.slow
def test_equal_runs_of_other_folds_are_rarely_told_apart() -> None:
    for level in (0.0, 1.0):
        found = simulate(200, level, metric=build_estimator("padded_cmap"))
        assert found["better"] + found["worse"] < 0.09
        assert abs(found["delta"]) < 0.002
    assert found["whole_worse"] > 0.2, "why pieces are needed"


def test_a_run_without_tables_is_left_out() -> None:
    a, none = made("a"), RunTables("none", {})
    shared = share_tables([a, none, made("b")])
    assert (shared.arms, shared.left_out) == (
        ["b"],
        ("none is left out: it shares no held-out recording with the others.",),
    )
    for runs in ([a, none], [none, a]):
        with pytest.raises(DataError, match="nothing in common"):
            share_tables(runs)


def test_a_recording_in_two_folds_is_refused() -> None:
    a = made("a")
    moved = RunTables("b", {**a.tables, (0, 1): a.tables[1, 1]})
    with pytest.raises(DataError, match="held out by two folds"):
        share_tables([a, moved])


def test_runs_without_a_common_seed_are_paired_by_fold_alone() -> None:
    a, b = made("a", seeds=(0, 1)), made("b", seeds=(5, 6, 7), skill=0.3)
    shared = share_tables([a, b])
    assert not shared.paired and "share no seed" in shared.notes[0]
    pairs = shared.pairs("b")
    assert len(pairs) == 3 * 2 * 3
    crossed = share_tables([a, made("c", seeds=(5, 6, 7), split=lambda i: i // 12)])
    assert len(crossed.pairs("c")) == 15 * 2 * 3 and crossed.seeds("c") == list(range(6))
    scores = score_shared(shared, build_estimator("padded_cmap"))
    assert scores["seed"].unique().tolist() == [0]
    mean = np.mean([padded_cmap(t.targets, t.probs) for (f, _), t in b.tables.items() if f == 1])
    assert scores.query("arm == 'b' and fold == 1")["score"].item() == pytest.approx(mean)
    found = compare_runs([a, b], {}, n_draws=20)
    row = found.ranking.table.set_index("arm").loc["b"]
    assert row["delta"] == pytest.approx(found.recordings["b"].delta)


def test_the_truth_is_that_of_the_base() -> None:
    other = TRUTH.copy()
    other[[3, 9]] = ~other[[3, 9]]
    shared = share_tables([made("a"), made("b", truth=other)])
    assert "b has other labels for 2 recordings: it is scored by those of a." in shared.notes
    for cell, table in shared.tables["b"].items():
        assert np.array_equal(table.targets, shared.tables["a"][cell].targets)


def test_what_shares_nothing_is_left_out_or_refused() -> None:
    a, far = made("a", rows=range(30)), made("far", rows=range(30, 60))
    with pytest.raises(DataError, match="nothing in common") as caught:
        share_tables([a, far])
    assert "far is left out: it shares no held-out recording" in str(caught.value)
    with pytest.raises(DataError, match="two runs with names"):
        share_tables([a, a])
    shared = share_tables([a, far, made("c", rows=range(30))])
    assert list(shared.tables) == ["a", "c"]
    assert shared.left_out[0].startswith("far is left out")


def test_verdicts_are_those_of_the_shared_cells() -> None:
    """A skilled run is better, a copy is within noise; every number from the shared tables."""
    a = made("a")
    copy = RunTables("copy", a.tables)
    found = compare_runs([a, made("b", skill=0.8), copy], {"r00": "x", "r01": "x"}, n_draws=50)
    verdicts = found.ranking.table.set_index("arm")["verdict"].to_dict()
    assert verdicts == {"a": "base", "b": "better", "copy": "within noise"}
    for row in found.scores.to_dict("records"):
        table = found.shared.tables[row["arm"]][row["fold"], row["seed"]]
        assert row["score"] == pytest.approx(padded_cmap(table.targets, table.probs))
    assert found.recordings["b"].low > 0 and found.recordings["b"].n_recordists == 59
    assert (found.species["b"]["delta"] > 0).all()
    assert (found.species["copy"]["delta"] == 0).all()
    assert found.sentences[0] == (
        "padded_cmap on 60 recordings and 3 species that all have: folds 0-2 of a, seeds 0, 1."
    )
    assert "not known for 58 of 60" in found.sentences[1]
    auc = compare_runs([a, made("b", skill=0.8)], {}, metric=build_estimator("macro_auc"))
    assert auc.metric == "macro_auc" and auc.ranking.table["mean"].max() > 0.9
    with pytest.raises(DataError, match="cannot be compared"):
        compare_runs([a, copy], {}, metric=build_estimator("mean_minus_sd"))


# ---------------------------------------------------------------- rescoring


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"metric": "macro_au"}, "macro_auc"),
        ({"metric": "mean_minus_sd", "validator": "pooled"}, "padded_cmap"),
        ({"metric": "macro_auc", "pad": 3}, "leave --pad out"),
        ({"metric": "cmap_min5", "pad": 3}, "leave --pad out"),
        ({"metric": "padded_cmap", "pad": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(BirdlabError, match=fault):
        build_estimator(**given)


def test_a_score_comes_with_its_floor_and_rows() -> None:
    run = made("a")
    new = {0: frozenset(RECORDINGS[:12]), 1: frozenset(RECORDINGS[:6])}
    evidence = Evidence(run.tables, new=new)
    found = rescore_run(evidence, build_estimator("padded_cmap", pad=2))
    folds = [
        np.mean([padded_cmap(run.tables[f, s].targets, run.tables[f, s].probs, 2) for s in (0, 1)])
        for f in range(3)
    ]
    assert found.score == pytest.approx(np.mean(folds))
    assert found.sd == pytest.approx(np.std(folds, ddof=1))
    flat = [padded_cmap(t.targets, np.zeros(t.probs.shape), 2) for t in run.tables.values()]
    assert found.floor == pytest.approx(np.mean(flat))
    assert (found.n_folds, found.n_seeds, found.n_rows, found.n_classes) == (3, 2, 60, 3)
    assert rescore_run(evidence, build_estimator("macro_auc", "pooled")).floor == 0.5
    few = rescore_run(evidence, build_estimator("padded_cmap", "new_recordists"))
    assert few.n_rows == 4 + 2
    assert rescore_run(evidence, build_estimator("one_fold")).n_rows == 20
    none = rescore_run(evidence, build_estimator("padded_cmap", "soundscapes"))
    assert np.isnan(none.score) and none.n_rows == 0 and "no labelled soundscape" in none.why


# ---------------------------------------------------------------- in a lab


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Lab:
    """A lab with the tiny run, another blend of it, another split, and a foreign run."""
    import shutil

    from birdlab.lab import open_lab

    root = tmp_path_factory.mktemp("several") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    blend = {"output": {"clip": 0.0, "time_max": 1.0}, "name": "blend"}
    run_experiment(load_spec(root / "tiny.yaml", blend), lab=lab)
    split = {"data.folds.n": 3, "name": "three folds"}
    run_experiment(load_spec(root / "tiny.yaml", split), lab=lab)
    plan = plan_experiment(load_spec(root / "tiny.yaml"), lab)
    table = pd.DataFrame({"recording": plan.rows.names, "fold": plan.rows.table["fold"]})
    probs = np.random.default_rng(1).random((len(table), len(plan.data.classes))).round(3) * 0.9
    for i, code in enumerate(plan.data.classes):
        table[code] = probs[:, i]
    table.to_csv(root / "oof.csv", index=False)
    import_foreign(lab, plan, root / "oof.csv", "theirs", like=plan.spec_id)
    return lab


def record_of(lab: Lab, name: str) -> dict[str, Any]:
    (record,) = [record for record in load_records(lab) if record["name"] == name]
    return record


def test_runs_of_a_lab_are_compared(several: Lab) -> None:
    found = json.loads(print_of(several, "compare", "tiny", "blend", "theirs", "--json"))
    assert found["base"] == "tiny" and found["folds"] == [0, 1] and found["n_recordings"] == 24
    means = {arm["arm"]: arm["mean"] for arm in found["arms"]}
    records = {name: load_record(several, run) for name, run in found["runs"].items()}
    for name, record in records.items():
        assert means[name] == pytest.approx(record["scores"]["cv/padded_cmap"]), name
    recordists = load_recordists(several, records["tiny"])
    unknown = 24 - len(recordists)
    assert found["recordings"]["blend"]["n_recordists"] == len(set(recordists.values())) + unknown
    text = print_of(several, "compare", "blend", "tiny", "--base", "tiny", "--pad", "1")
    assert "padded_cmap_pad1 on 24 recordings and 4 species" in text
    assert "no verdict under 3 folds" in text
    one = print_of(several, "compare", "tiny", "blend", "--draws", "9", "--species", "0")
    assert "nan" not in one and "\n\n\n" not in one and not one.endswith("\n\n")


def test_differences_are_shown_in_multiples_of_a_measured_noise(several: Lab) -> None:
    cells = [(fold, seed, fold + seed % 2) for fold in (0, 1) for seed in (0, 1, 2)]
    noise = estimate_noise(pd.DataFrame(cells, columns=["fold", "seed", "score"]))
    path = save_noise(several, record_of(several, "tiny"), noise)
    for metric, known in (("padded_cmap", True), ("macro_auc", False)):
        words = ("compare", "tiny", "blend", "--metric", metric, "--draws", "0", "--json")
        arms = {arm["arm"]: arm for arm in json.loads(print_of(several, *words))["arms"]}
        assert (arms["blend"]["noise_multiples"] is not None) == known
    path.unlink()


def test_a_foreign_run_has_the_estimators_of_its_like(several: Lab) -> None:
    own, theirs = record_of(several, "tiny"), record_of(several, "theirs")
    assert theirs["estimators"] == own["estimators"]
    lacking = set(own["scores"]) - set(theirs["scores"])
    assert {name for name in lacking if not name.endswith("_apart")} == {
        "cv/padded_cmap_new_recordists",
        "cv/padded_cmap_new_sites",
    }, "its training rows are not known"
    for cell in theirs["cells"]:
        assert 0 < cell["padded_cmap_pad1"] < cell["padded_cmap"]
    assert load_recordists(several, theirs) == load_recordists(several, own)


def test_other_splits_of_a_lab_are_compared_in_words(several: Lab) -> None:
    text = print_of(several, "compare", "three folds", "tiny", "--draws", "0")
    assert "tiny was split otherwise" in text and "of 3 by 2 folds" in text
    assert "no verdict under 3 folds of each" in text or "are empty: no verdict" in text
    assert "Species" not in text
    found = json.loads(
        print_of(several, "compare", "three folds", "tiny", "--draws", "0", "--json")
    )
    assert found["arms"] == [] and found["crossed"][0]["arm"] == "tiny"
    text = print_of(several, "compare", "three folds", "tiny", "--draws", "0", "--costs")
    assert "No gain is weighed against its cost: tiny and three folds share no cell." in text


def test_a_run_without_outputs_is_refused_with_the_reason(several: Lab) -> None:
    with pytest.raises(ResolveError, match="needs two runs"):
        print_of(several, "compare", "tiny", "tiny")
    record = record_of(several, "theirs")
    for changed, why in (
        ({"cells": []}, "trained on all data"),
        ({"fold_scores": {}}, "line of an imported ledger"),
    ):
        with pytest.raises(ResolveError, match=why):
            load_fold_tables(several, {**record, **changed})


def lines_of_a_ledger(lab: Lab, n: int) -> list[Path]:
    """Records of runs that have scores alone."""
    record = record_of(lab, "theirs")
    paths = [lab.runs / f"00000000000{i}.json" for i in range(n)]
    for i, path in enumerate(paths):
        line = {**record, "spec_id": path.stem, "name": f"line {i}", "fold_scores": []}
        path.write_text(json.dumps({**line, "created_at": f"2020-01-0{i + 1}"}))
    return paths


def test_a_score_that_its_rows_helped_to_choose_is_remarked(several: Lab) -> None:
    """Also where only some cells count: one fold without a spread is no `nan` on the screen."""
    record = record_of(several, "blend")
    path = several.runs / f"{record['spec_id']}.json"
    kept = path.read_text()
    only = [cell for cell in record["cells"] if cell["fold"] == 0]
    changed = {"chosen": "best epoch", "stopped_at": "round 1 of 3", "cells": only}
    path.write_text(json.dumps({**record, **changed}))
    try:
        for words in (("compare", "tiny", "blend", "--draws", "0"), ("rescore", "tiny", "blend")):
            text = print_of(several, *words)
            assert "blend: stopped by a race" in text and "tiny: stopped" not in text
            assert "blend: the recordings that are scored also picked its weights (best" in text
            assert "nan" not in text
        assert len(json.loads(print_of(several, "rescore", "blend", "--json"))["remarks"]) == 2
    finally:
        path.write_text(kept)


def test_rescoring_says_what_the_record_says(several: Lab) -> None:
    before = {p: p.read_bytes() for p in several.runs.glob("*.json")}
    found = json.loads(print_of(several, "rescore", "--all", "--metric", "padded_cmap", "--json"))
    assert {row["name"] for row in found["runs"]} == {"tiny", "blend", "three folds", "theirs"}
    for row in found["runs"]:
        scores = load_record(several, row["run"])["scores"]
        assert row["score"] == pytest.approx(scores["cv/padded_cmap"])
        assert row["floor"] == pytest.approx(scores["cv/floor"])
    for metric, validator, name in (
        ("macro_auc", "pooled", "cv/macro_auc_pooled"),
        ("padded_cmap", "new_recordists", "cv/padded_cmap_new_recordists"),
    ):
        said = print_of(several, "rescore", "tiny", "--metric", metric, "--validator", validator)
        record = record_of(several, "tiny")
        assert f"{record['scores'][name]:.4f}" in said
    text = print_of(several, "rescore", "--all", "--validator", "new_recordists")
    assert "theirs: a foreign run has no spec" in text
    copies = lines_of_a_ledger(several, 7)
    text = print_of(several, "rescore", "--all")
    assert "line 0, line 1, line 2, line 3, line 4 and 2 more: the run is a line of an im" in text
    for path in copies:
        path.unlink()
    assert "over 2 sets of rows" in print_of(several, "rescore", "tiny", "three folds")
    assert {p: p.read_bytes() for p in several.runs.glob("*.json")} == before
    for words in (("rescore",), ("rescore", "tiny", "--all"), ("rescore", "--sweep", "none")):
        with pytest.raises(ResolveError):
            print_of(several, *words)
    with pytest.raises(DataError, match="no stored outputs on labelled soundscapes"):
        print_of(several, "rescore", "tiny", "--validator", "soundscapes")


def test_training_rows_that_changed_are_noticed(several: Lab) -> None:
    record = record_of(several, "tiny")
    with pytest.raises(ResolveError, match="no longer that of the run"):
        load_evidence(several, {**record, "spec_id": "0" * 12}, new=True)
