"""Estimators of a run: each against the plain way to count it, declared, named and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab
from pydantic import ValidationError
from sklearn.metrics import average_precision_score, roc_auc_score

from birdlab.cellfiles import outputs_folder
from birdlab.errors import SpecError
from birdlab.evaluate.estimators import Evidence, estimate, estimate_all
from birdlab.evaluate.evidence import FoldTable
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.record import collect
from birdlab.recorded import load_record
from birdlab.runresult import RunNote
from birdlab.runtables import load_table, tables_folder
from birdlab.scoring import name_sources, new_recordings
from birdlab.spec import kinds, load_spec
from birdlab.spec.estimators import EstimatorSpec
from birdlab.spec.parts import EvaluateSpec
from birdlab.tracking.index import load_cells, load_runs

ROOT = Path(__file__).parents[1]
CODES = ("kite", "rook", "wren")
FOLDS, SEEDS = (0, 1, 2), (0, 1)
Array = np.ndarray[Any, Any]


def declared(*estimators: Any) -> tuple[EstimatorSpec, ...]:
    return EvaluateSpec.model_validate({"estimators": list(estimators)}).estimators


def fold(number: int, seed: int, n: int = 40) -> FoldTable:
    rng = np.random.default_rng([number, seed])
    truth = np.random.default_rng(number).random((n, 3)) < (0.4, 0.25, 0.15)
    probs = (np.round(rng.random((n, 3)) * 0.6 + 0.3 * truth, 2)).astype(np.float32)
    names = tuple(f"r{number}-{i}" for i in range(n))
    return FoldTable(names, CODES, np.zeros(n, np.int64), truth, probs)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Three folds, two seeds, ties; seven rows of each fold by new recordists, none in fold 2."""
    tables = {(f, s): fold(f, s) for f in FOLDS for s in SEEDS}
    heard = {key: (t.targets[:30], t.probs[:30]) for key, t in tables.items()}
    new = {f: frozenset(tables[f, 0].recordings[3:10]) for f in FOLDS[:2]}
    return Evidence(tables, heard, new)


def padded(truth: Array, probs: Array, pad: int) -> float:
    ones = np.ones((pad, truth.shape[1]))
    truth, probs = np.vstack([truth, ones]), np.vstack([probs, ones])
    return float(np.mean([average_precision_score(truth[:, c], probs[:, c]) for c in range(3)]))


def auc(truth: Array, probs: Array, _pad: int = 0) -> float:
    return float(np.mean([roc_auc_score(truth[:, c], probs[:, c]) for c in range(3)]))


def by_fold(
    evidence: Evidence, count: Callable[..., float], pad: int = 5, rows: slice = slice(None)
) -> list[float]:
    """The mean over seeds of each fold."""
    return [
        float(np.mean([
            count(evidence.tables[f, s].targets[rows], evidence.tables[f, s].probs[rows], pad)
            for s in SEEDS
        ]))
        for f in FOLDS
    ]  # fmt: skip


def pooled(evidence: Evidence, count: Callable[..., float], pad: int = 5) -> float:
    joined = [
        [np.concatenate([getattr(evidence.tables[f, s], part) for f in FOLDS])
         for part in ("targets", "probs")]
        for s in SEEDS
    ]  # fmt: skip
    return float(np.mean([count(truth, probs, pad) for truth, probs in joined]))


EXPECTED: dict[str, tuple[Any, Callable[[Evidence], float]]] = {
    "padded_cmap_pad1": ({"padded_cmap": 1}, lambda e: np.mean(by_fold(e, padded, 1))),
    "macro_auc": ("macro_auc", lambda e: np.mean(by_fold(e, auc))),
    "padded_cmap_pooled_pad3": ({"pooled": {"pad": 3}}, lambda e: pooled(e, padded, 3)),
    "macro_auc_pooled": ({"pooled": "macro_auc"}, lambda e: pooled(e, auc)),
    "padded_cmap_fold1": ({"one_fold": 1}, lambda e: by_fold(e, padded)[1]),
    "macro_auc_fold0": ({"one_fold": {"metric": "macro_auc"}}, lambda e: by_fold(e, auc)[0]),
    "padded_cmap_minus_2sd_pad9": (
        {"mean_minus_sd": {"sds": 2.0, "pad": 9}},
        lambda e: np.mean(by_fold(e, padded, 9)) - 2 * np.std(by_fold(e, padded, 9), ddof=1),
    ),
    "padded_cmap_new_recordists": (
        "new_recordists",
        lambda e: np.mean(by_fold(e, padded, rows=slice(3, 10))[:2]),
    ),
    "soundscapes_macro_auc": (
        {"soundscape_windows": "macro_auc"},
        lambda e: np.mean(by_fold(e, auc, rows=slice(30))),
    ),
    "cmap_min5": (
        "cmap_min5",
        lambda e: np.mean([
            np.mean([
                np.mean([
                    average_precision_score(t.targets[:, c], t.probs[:, c])
                    for c in range(3) if t.targets[:, c].sum() >= 5
                ])
                for t in (e.tables[f, s] for s in SEEDS)
            ])
            for f in FOLDS
        ]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_an_estimator_counts_what_it_says(evidence: Evidence, name: str) -> None:
    raw, expected = EXPECTED[name]
    (estimator,) = declared(raw)
    found = estimate(estimator, evidence)
    assert estimator.name == name
    assert found.score == pytest.approx(expected(evidence), abs=1e-9)
    if found.cells:
        folds = {f for f, _ in found.cells}
        means = [np.mean([found.cells[f, s] for s in SEEDS]) for f in folds]
        assert np.mean(means) == pytest.approx(found.score)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"one_fold": 7}, "no fold 7"),
        ("mean_minus_sd", "no spread"),
        ("new_recordists", "also in its training"),
        ("soundscape_windows", "no labelled soundscape"),
        ("cmap_min5", "5 positives"),
    ],
)
def test_what_cannot_be_said_is_left_out_with_the_reason(raw: Any, why: str) -> None:
    (estimator,) = declared(raw)
    few = fold(0, 0, n=8)
    few = replace(few, targets=np.eye(8, 3, dtype=bool))
    alone = Evidence({(0, 0): few})
    found = estimate(estimator, alone)
    assert np.isnan(found.score) and why in found.why
    assert estimate_all([estimator], alone) == ({}, {(0, 0): {}})


@pytest.mark.parametrize("raw", [{"one_fold": {"fold": 1}}, {"mean_minus_sd": {}}])
def test_a_fold_without_positives_has_no_auc_and_that_is_said(
    raw: dict[str, dict[str, Any]], evidence: Evidence
) -> None:
    mute = {k: replace(t, targets=t.targets & (k[0] != 1)) for k, t in evidence.tables.items()}
    (estimator,) = declared({kind: {**own, "metric": "macro_auc"} for kind, own in raw.items()})
    found = estimate(estimator, Evidence(mute))
    assert np.isnan(found.score) and "no class to count" in found.why


def test_names_are_short_and_mean_one_thing() -> None:
    both = declared({"padded_cmap": 1}, {"padded_cmap": {"pad": 3}}, {"mine": {"kind": "pooled"}})
    assert [e.name for e in both] == ["padded_cmap_pad1", "padded_cmap_pad3", "mine"]
    assert declared() == ()
    again = EvaluateSpec.model_validate_json(EvaluateSpec(estimators=both).model_dump_json())
    assert again.estimators == both


@pytest.mark.parametrize(
    "raw",
    [
        {"macro_auc": {"kind": "padded_cmap"}},
        {"cmap_min5": {"kind": "pooled", "metric": "padded_cmap"}},
        {"padded_cmap_5": {"kind": "padded_cmap"}},
        {"cmap_gt5": {"kind": "cmap_min5"}},
        {"n_rows": {"kind": "pooled"}},
        {"mine_sd": {"kind": "pooled"}},
        {"mine_apart": {"kind": "pooled"}},
        {"soundscapes_mine": {"kind": "pooled"}},
    ],
)
def test_a_name_that_means_another_score_is_refused(raw: Any) -> None:
    with pytest.raises(ValidationError, match="is the name of another score"):
        declared(raw)


def test_a_fold_that_the_spec_does_not_make_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    changes = {"evaluate.estimators": [{"one_fold": 2}]}
    with pytest.raises(SpecError, match="asks for fold 2"):
        load_spec(lab.root / "tiny.yaml", changes)


# ---------------------------------------------------------------- in a lab


def planned(lab: Lab, *estimators: Any, **changes: Any) -> Plan:
    given = {"evaluate.estimators": list(estimators)} if estimators else {}
    return plan_experiment(load_spec(lab.root / "tiny.yaml", {**given, **changes}), lab)


def test_scores_are_in_the_record_and_in_the_tables(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = planned(lab, {"padded_cmap": 1}, "mean_minus_sd", {"one_fold": 1})
    result = collect(plan, lab, RunNote(), set())
    record = load_record(lab, plan.spec_id)
    names = ["padded_cmap_pad1", "padded_cmap_minus_1sd", "padded_cmap_fold1"]
    assert record["estimators"] == names
    row = load_runs(lab).iloc[0]
    assert [row[f"cv/{n}"] for n in names] == [result.scores[f"cv/{n}"] for n in names]
    cells = load_cells(lab)
    assert cells["padded_cmap_pad1"].mean() == pytest.approx(row["cv/padded_cmap_pad1"])
    assert cells["padded_cmap"].to_list()[1] == pytest.approx(row["cv/padded_cmap_fold1"])
    assert "padded_cmap_minus_1sd" not in cells, "it is no mean over cells"
    spread = cells["padded_cmap"].std(ddof=1)
    assert row["cv/padded_cmap_minus_1sd"] == pytest.approx(cells["padded_cmap"].mean() - spread)


def test_another_list_makes_other_scores_and_no_other_run(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    one, other = planned(lab), planned(lab, "cmap_min5")
    assert (one.spec_id, [c.cell_id for c in one.cells]) == (
        other.spec_id,
        [c.cell_id for c in other.cells],
    )
    assert name_sources(one, lab) != name_sources(other, lab) != ""
    first = collect(one, lab, RunNote(), set())
    second = collect(other, lab, RunNote(), set())
    assert "cv/macro_auc_pooled" in first.scores and "cv/macro_auc_pooled" not in second.scores
    assert first.cv == second.cv


def test_new_recordists_are_those_of_whom_no_training_row_is(make_lab: MakeLab) -> None:
    """Against the table itself; a change of authors is noticed though no id holds them."""
    lab = make_lab(trained=True)
    plan = planned(lab)
    table = plan.rows.table
    pairs = table[["author", "recording"]].itertuples(index=False)
    who = np.asarray([author.strip().casefold() or name for author, name in pairs])
    for number, found in new_recordings(plan.final_cells).items():
        held = (table["fold"] == number).to_numpy()
        fresh = held & ~np.isin(who, who[~held])
        assert found == set(table["recording"][fresh])
    table.loc[0, "author"] = "Somebody Else"
    again = replace(plan, cells=tuple(
        replace(c, rows=type(c.rows)(table.copy(), c.rows.keys)) for c in plan.cells
    ))  # fmt: skip
    assert name_sources(again, lab) != name_sources(plan, lab)


def test_recordings_lie_beside_the_record(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = planned(lab)
    saved = load_table(tables_folder(lab, plan.spec_id), "recordings")
    assert list(saved.columns) == ["recording", "fold", "recordist", "primary_label"]
    for cell in plan.final_cells:
        stored = pd.read_parquet(outputs_folder(lab, cell) / "recordings.parquet")
        mine = saved[saved["fold"] == cell.fold]
        assert sorted(mine["recording"]) == sorted(stored["recording"])
    unknown = saved[saved["recordist"] == saved["recording"]]
    blank = plan.rows.table["author"].str.strip() == ""
    assert len(unknown) == blank.sum() > 0
    assert len(saved) == 24 and saved["recordist"].str.islower().any()


@pytest.fixture
def forgotten_kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_KINDS", "_FUNCTIONS", "_loaded"):
        monkeypatch.setattr(kinds, name, dict(getattr(kinds, name)))
    yield


@pytest.mark.usefixtures("forgotten_kinds")
def test_an_extension_adds_an_estimator(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    file = lab.root / "worst_fold.py"
    shutil.copy(ROOT / "experiments" / "extensions" / "worst_fold.py", file)
    toml = lab.root / "birdlab.toml"
    toml.write_text('extensions = ["worst_fold.py"]\n' + toml.read_text())
    lab = open_lab(lab.root)
    plan = planned(lab, "worst_fold")
    result = collect(plan, lab, RunNote(), set())
    assert result.scores["cv/worst_fold"] == result.cells["padded_cmap"].min()
    named = name_sources(plan, lab)
    file.write_text(file.read_text() + "\n# another source\n")
    lab = open_lab(lab.root)
    assert name_sources(planned(lab, "worst_fold"), lab) != named
