"""Members of an ensemble: how alike, what each adds and costs, what is still to be shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fold_tables import build_tables
from scipy import stats
from test_study_tables import build_synthetic

from birdlab.errors import OutputsError
from birdlab.evaluate.metrics import padded_cmap
from birdlab.evaluate.score import score_run
from birdlab.lab import Lab
from birdlab.study import ensemble_blends
from birdlab.study.ensemble import (
    align_members,
    correlate_members,
    judge_ensemble,
    weigh_members,
)
from birdlab.study.ensemble_gates import check_gates, table_costs, table_gates
from birdlab.study.ensemble_view import (
    build_ensemble_view,
    members_words,
    plot_correlation,
)
from birdlab.study.tables import StudyTables


def build_record(run: str, *, folds: int = 3, model: str = "net") -> dict[str, Any]:
    return {
        "spec_id": run,
        "name": run,
        "cells": [{"fold": fold, "seed": 0, "cell_id": f"{run}{fold}"} for fold in range(folds)],
        "evaluation": {"folds": list(range(folds)), "seeds": [0], "metric": "padded_cmap"},
        "spec": {
            "data": {"folds": {"n": 3}},
            "evaluate": {"hop_s": None},
            "competition": {
                "metric": "padded_cmap",
                "n_soundscapes": 10,
                "soundscape_s": 12.0,
                "window_s": 5.0,
                "cpu_minutes": 5.0,
            },
        },
        "model_id": model,
    }


def test_members_are_put_on_what_they_share() -> None:
    a, b = build_tables(60, seeds=(0, 1)), build_tables(40, run=1)
    members = align_members({"a": a, "b": b})
    assert members.recordings == tuple(
        r for fold in range(3) for r in a[fold, 0].recordings if int(r[1:]) < 40
    )
    assert members.left_out[0].startswith("Of a, what the others lack is left out: 20 recordings")
    for m, tables in enumerate((a, b)):
        seeds = sorted({seed for _, seed in tables})
        told = {
            (name, seed): row
            for (_, seed), table in tables.items()
            for name, row in zip(table.recordings, table.probs, strict=True)
        }
        for i, name in enumerate(members.recordings):
            mean = np.mean([told[name, seed] for seed in seeds], axis=0, dtype=float)
            np.testing.assert_allclose(members.probs[m, i], mean, rtol=1e-6)
            assert members.fold[i] == int(name[1:]) % 3
    alone = align_members({"a": a})
    assert len(alone.recordings) == 60 and alone.left_out == ()
    with pytest.raises(OutputsError, match="needs members"):
        align_members({})


def test_a_run_that_shares_nothing_is_left_out() -> None:
    a, b, far = build_tables(), build_tables(run=1), build_tables(run=2, codes=tuple("wxyz"))
    some = align_members({"a": a, "far": far, "b": b})
    assert some.names == ("a", "b") and "far is left out" in some.left_out[0]
    flip = build_tables(30, run=3, flip=True)
    same = align_members({"a": a, "flip": flip, "b": b})
    assert same.names == ("a", "b") and len(same.recordings) == 60
    assert "flip is left out: it was split otherwise than a" in same.left_out[0]
    one = align_members({"a": a, "far": far})
    assert one.names == ("a",) and "nothing in common" in one.left_out[0]


def test_labels_of_the_first_count() -> None:
    a, b = build_tables(), build_tables(run=1)
    only = {k: replace(t, targets=np.eye(4, dtype=bool)[t.primary]) for k, t in b.items()}
    members = align_members({"a": a, "b": only})
    assert members.targets.sum() == sum(int(t.targets.sum()) for t in a.values())
    assert "b has other labels" in members.left_out[0]


def test_rank_correlation_against_scipy() -> None:
    runs = {"a": build_tables(), "b": build_tables(run=1, skill=0.2), "c": build_tables(run=2)}
    for table in runs["c"].values():
        table.probs[:, 3] = 0.5
    found = correlate_members(align_members(runs))
    values = [
        stats.spearmanr(runs["a"][key].probs[:, c], runs["b"][key].probs[:, c]).statistic
        for key in runs["a"]
        for c in range(3)
    ]
    assert found.loc["a", "b"] == pytest.approx(np.mean(values))
    assert np.diag(found).tolist() == pytest.approx([1, 1, 1])
    np.testing.assert_allclose(found, found.T)
    flat = {k: replace(t, probs=0 * t.probs) for k, t in runs["a"].items()}
    assert correlate_members(align_members({"a": runs["a"], "flat": flat})).isna().all(axis=None)


def test_the_gain_of_members_against_a_loop() -> None:
    runs = {"a": build_tables(), "b": build_tables(run=1, skill=0.1), "c": build_tables(run=2)}
    table = weigh_members(align_members(runs)).set_index("name")

    def score(names: str) -> list[float]:
        return [
            padded_cmap(
                runs["a"][key].targets,
                np.mean([runs[n][key].probs for n in names], axis=0, dtype=float).astype("f4"),
            )
            for key in runs["a"]
        ]

    for name in "abc":
        assert table.loc[name, "alone"] == pytest.approx(score_run(runs[name])["cv/padded_cmap"])
        gain = np.subtract(score("abc"), score("abc".replace(name, "")))
        assert table.loc[name, "gain"] == pytest.approx(gain.mean())
        assert table.loc[name, "gain_low"] == pytest.approx(gain.min())
        assert table.loc[name, "gain_high"] == pytest.approx(gain.max())
        assert table.loc[name, "helps"] == f"{(gain > 0).sum()} of 3"
    alone = weigh_members(align_members({"a": runs["a"]}))
    assert alone["gain"].isna().all() and len(alone) == 1


def test_the_verdict_on_an_ensemble() -> None:
    assert judge_ensemble(align_members({"a": build_tables()})) is None
    twins = judge_ensemble(align_members({"a": build_tables(), "b": build_tables()}))
    assert twins is not None
    row = twins.table[twins.table["arm"] == "ensemble"].iloc[0]
    assert row["delta"] == pytest.approx(0) and row["verdict"] == "within noise"
    many = {f"run {i}": build_tables(300, folds=5, skill=0.05, run=i) for i in range(5)}
    better = judge_ensemble(align_members(many))
    assert better is not None and better.table["verdict"].tolist()[0] == "better"
    named = judge_ensemble(align_members({"ensemble": build_tables(), "b": build_tables(run=1)}))
    assert named is not None and len(named.table) == 2


def test_what_members_cost(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    records = {"a": build_record("a"), "b": build_record("b", folds=2, model="unknown")}
    lab.stores.mkdir()
    measured = {"cpu_ms_per_window": 4.0, "parameters": 1, "size_mb": 1.0, "processor": "P"}
    (lab.stores / "costs.json").write_text(json.dumps({"net": {"P": measured}}))
    table = table_costs(lab, records).set_index("name")
    assert table.loc["a", "ms"] == 12.0 and table.loc["a", "processor"] == "P"
    assert table.loc["a", "minutes"] == pytest.approx(10 * 3 * 12 / 60_000)
    assert table.loc["b", "processor"] == "not measured" and np.isnan(table.loc["b", "ms"])
    foreign = build_record("c") | {"spec": None, "model_id": ""}
    assert table_costs(lab, {"c": foreign})["minutes"].isna().all()


def test_gates_say_what_is_shown_and_what_to_do(tmp_path: Path) -> None:
    lab, tables = Lab(tmp_path), build_synthetic(24)
    records = {"a": build_record("a"), "b": build_record("b", folds=2)}
    costs = table_costs(lab, records)

    def gates() -> dict[str, pd.Series]:
        verdict = judge_ensemble(align_members({"a": build_tables(), "b": build_tables()}))
        table = table_gates(check_gates(lab, records, verdict, tables, costs))
        return {row["gate"]: row for _, row in table.iterrows()}

    found = gates()
    folds = found["all folds are finished"]
    assert (folds["state"], folds["found"]) == ("not met", "b: 2 of 3")
    assert folds["what to do"] == "birdlab extend b --folds all"
    assert found["it beats its best member"]["state"] == "not met"
    assert found["CV ranks the leaderboard"]["state"] == "met"
    assert found["its file equals its models"]["what to do"] == "birdlab promote a b"
    assert found["the CPU budget holds"]["found"] == "not measured"
    folder = lab.models / "m"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"x" * 2_000_000)
    card = {
        "model": "m",
        "spec_ids": ["b", "a"],
        "parity": {"noise": 2e-4, "silence": 0.0},
        "predicted_minutes": 6.0,
        "promoted_at": "2026",
    }
    (folder / "card.json").write_text(json.dumps(card))
    found = gates()
    assert found["its file equals its models"]["state"] == "not met"
    assert found["the CPU budget holds"]["found"] == "6.00 min, as one file"
    assert found["the CPU budget holds"]["state"] == "not met"
    assert found["its file can be uploaded"]["found"] == "2.0 MB"
    bare = StudyTables(tables.runs, tables.cells, tables.ledger.iloc[:0])
    some = StudyTables(tables.runs, tables.cells, tables.ledger.iloc[:4])
    for ledger, told in ((bare, "no leaderboard score"), (some, "4 runs")):
        gate = check_gates(lab, records, None, ledger, costs)[2]
        assert (gate.state, gate.number) == ("notice", told)
    assert check_gates(lab, records, None, bare, costs)[1].number == "one member"
    cv = tables.runs.set_index("run")["cv/padded_cmap"]
    exact = tables.ledger.assign(public=tables.ledger["run"].map(cv))
    for ledger, state, told in (
        (exact, "met", "ρ +1.00 (+1.00 to +1.00)"),
        (exact.assign(public=0.5), "notice", "a score never changes"),
    ):
        gate = check_gates(lab, records, None, replace(tables, ledger=ledger), costs)[2]
        assert (gate.state, gate.number) == (state, told)
    loose = build_synthetic(24, agreement=0.4)
    near = loose.runs["cv/padded_cmap"].rank(method="first").floordiv(5).astype(str)
    family = replace(loose, runs=loose.runs.assign(lineage=near))
    alone, few = (check_gates(lab, records, None, t, costs)[2].number for t in (loose, family))
    assert alone.split("(")[0] == few.split("(")[0] and alone != few


def test_the_view_of_an_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = build_synthetic(14)
    ranked = tables.runs.sort_values("cv/padded_cmap", ascending=False)["run"].tolist()
    own = {run: build_tables(run=i) for i, run in enumerate(ranked[:13])}

    def view(*wanted: str) -> Any:
        return build_ensemble_view(
            Lab(tmp_path), tables, wanted, lambda run: own.get(run, {}), build_record
        )

    first = view()
    assert first.runs == tuple(ranked[:3]) and first.correlation is not None
    assert (
        "The mean of 3 runs scores" in first.answer
        and "over 60 recordings in 3 folds" in first.answer
    )
    words = members_words(first)
    assert words["ms a window"].tolist() == ["not measured"] * 3
    assert any("--seeds 2" in sentence for sentence in first.sentences)
    figure = plot_correlation(first.correlation)
    assert np.asarray(figure.data[0].z).shape == (3, 3)
    assert first.blends is not None and len(first.blends.blends) == 4
    assert first.blends.shares["member"].tolist() == list(first.correlation.names)
    assert "optimism" in first.blends.sentences[0]
    monkeypatch.setattr(ensemble_blends, "MOST_WORK", 10)
    busy = view().blends
    assert busy is not None and len(busy.blends) == 0
    assert busy.sentences[0].endswith(f"birdlab ensemble {' '.join(first.runs)} --fit")
    single = view(ranked[0], "no such run")
    assert single.blends is None
    assert single.correlation is None and "Choose a second run" in single.answer
    assert "gain" not in members_words(single)
    assert len(view(*ranked[:13]).runs) == 10
    gone = view(ranked[13])
    assert gone.runs == () and "has no stored outputs" in gone.left_out[0]
