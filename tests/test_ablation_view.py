"""The page of ablations: what it shows of a sweep, of its stopped arms, and of one arm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_SPEC
from test_study_tables import build_synthetic

from birdlab.evaluate.score import FoldTable
from birdlab.spec import load_spec
from birdlab.study import arm_figures, figures
from birdlab.study.ablation_view import AblationView, build_ablation_view
from birdlab.study.arm_view import (
    compare_outputs,
    list_changes,
    list_curves,
    pair_cells,
    shown_species,
)
from birdlab.study.noise import NoiseFloor, estimate_noise
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.splits import count_split_folds
from birdlab.study.tables import StudyTables


def build_sweep() -> tuple[StudyTables, dict[str, dict[str, Any]]]:
    """The synthetic sweep of learning rates with a record; its last arm was stopped by the race."""
    tables = build_synthetic(24)
    runs = list(tables.runs["run"][:5])
    rates = [1e-2, 1e-3, 1e-4]
    arms = [{"title": "base", "delta": {}, "spec_id": runs[0]}]
    arms += [
        {"title": f"rate {rate:g}", "delta": {"train.optimizer.lr": rate}, "spec_id": run}
        for rate, run in zip(rates, runs[1:], strict=False)
    ]
    record = {
        "name": "lr",
        "spec": {
            "name": "lr",
            "one_factor": {"train.optimizer.lr": [*rates, 1e-5]},
            "smallest_effect": 0.02,
            "correction": "dunnett",
            "notes": "Which rate?",
            "expect": "none",
        },
        "arms": arms,
        "stopped": [{"title": "rate 1e-05", "spec_id": runs[4], "at": "after round 1 of 3"}],
        "failed": [{"title": "rate 10", "error": "the loss is not finite"}],
        "race": ["Racing stopped 1 of 5 arms."],
        "interactions": [
            {
                "names": ["a", "b"],
                "table": [
                    {"row": row, "column": column, "mean": 0.5}
                    for row in ("a=1", "a=2")
                    for column in ("b=1", "b=2")
                ],
                "sentences": ["It does."],
            }
        ],
    }
    return tables, {"lr": record}


def view_sweep(metric: str = "", noise: NoiseFloor | None = None) -> AblationView:
    tables, records = build_sweep()
    asked: list[tuple[str, str]] = []

    def find_noise(rows: str, classes: str) -> NoiseFloor | None:
        asked.append((rows, classes))
        return noise

    view = build_ablation_view(tables, "lr", metric, records=records, find_noise=find_noise)
    assert asked == ([] if metric == "macro_auc" else [("rows", "classes")])
    return view


def test_the_record_names_arms_base_and_what_was_asked() -> None:
    view = view_sweep()
    assert view.ranking is not None and view.forest is not None
    assert view.ranking.base == "base" and view.ranking.method == "dunnett"
    assert set(view.ranking.table["arm"]) == {"base", "rate 0.01", "rate 0.001", "rate 0.0001"}
    assert view.forest.smallest_effect == 0.02
    assert (view.question, view.expect) == ("Which rate?", "none")
    assert view.failed.to_dict("records") == [{"arm": "rate 10", "error": "the loss is not finite"}]
    tables, records = build_sweep()
    records["lr"]["arms"].append({"title": "rate 2", "delta": {}, "spec_id": "0" * 12})
    gone = build_ablation_view(tables, "lr", records=records).failed
    assert gone["arm"].tolist() == ["rate 10", "rate 2"] and "no longer" in gone["error"].iloc[1]


def test_the_interval_for_new_data_is_that_of_the_whole_split() -> None:
    tables, records = build_sweep()
    views = [
        build_ablation_view(tables, "lr", records=records, count_folds=lambda run, n=n: n)
        for n in (None, 10)
    ]
    few, many = (v.ranking.table.iloc[0] for v in views if v.ranking is not None)
    assert few["nb_low"] < many["nb_low"] and few["low"] == many["low"]
    record = {"spec": {"data": {"folds": {"kind": "stratified", "n": 10}}}}
    assert count_split_folds(record) == 10
    assert count_split_folds({"spec": {"data": {"folds": {"column": "fold"}}}}) is None
    assert count_split_folds({"spec": None}) is None


def test_few_arms_are_worth_what_other_sweeps_say() -> None:
    tables, records = build_sweep()
    prior = EffectPrior(0.0, 0.004, 9, 0.004, 0.004, "nine effects", np.array([0.004]), np.ones(1))
    asked = []

    def find_prior(sweep: str, rows_hash: str) -> EffectPrior:
        asked.append((sweep, rows_hash))
        return prior

    without = build_ablation_view(tables, "lr", records=records)
    view = build_ablation_view(tables, "lr", records=records, find_prior=find_prior)
    assert asked == [("lr", str(tables.runs["rows_hash"].iloc[0]))]
    assert without.ranking is not None and without.ranking.table["expected"].isna().all()
    assert view.ranking is not None and view.ranking.winner is not None
    assert view.ranking.winner.sentence in view.answer and "nine effects" in " ".join(
        view.sentences
    )
    assert view.forest is not None and np.isfinite(view.forest.expected).sum() == 3
    other = build_ablation_view(tables, "lr", "macro_auc", records=records, find_prior=find_prior)
    assert other.ranking is not None and other.ranking.winner is None and len(asked) == 1


def test_stopped_arms_are_listed_and_not_ranked() -> None:
    view = view_sweep()
    assert view.stopped.to_dict("records") == [
        {"arm": "rate 1e-05", "stopped": "after round 1 of 3"}
    ]
    assert "rate 1e-05" not in set(view.scores["arm"]) and "rate 1e-05" not in view.arms
    assert "1 stopped by the race" in view.answer
    assert "Racing stopped 1 of 5 arms." in view.sentences
    tables, _ = build_sweep()
    tables.runs.loc[4, ["status", "stopped_at"]] = ["stopped", "after round 1 of 3"]
    running = build_ablation_view(tables, "lr")
    assert running.ranking is not None and running.ranking.base == "base"
    assert len(running.ranking.table) == 4 and running.stopped["stopped"].tolist() == [
        "after round 1 of 3"
    ]


def test_the_newest_sweep_is_shown_and_offered_first() -> None:
    tables, _ = build_sweep()
    tables.runs.at[9, "sweeps"] = ["a", "zoom"]
    tables.runs.at[12, "sweeps"] = ["a"]
    view = build_ablation_view(tables)
    assert (view.sweep, view.options["sweep"]) == ("a", ["a", "zoom", "lr"])


def test_noise_and_interactions_belong_to_the_metric_of_the_sweep() -> None:
    cells = view_sweep().scores
    one = cells[cells["arm"] == "base"]
    twice = pd.concat([one, one.assign(seed=1, score=one["score"] + [0.01, -0.01, 0.0, 0.02, 0.0])])
    noise = estimate_noise(twice)
    view = view_sweep(noise=noise)
    assert view.ranking is not None and view.ranking.noise == noise
    assert [found.names for found in view.interactions] == [("a", "b")]
    other = view_sweep("macro_auc", noise)
    assert other.ranking is not None and other.ranking.noise is None and other.interactions == ()


def test_the_noise_band_is_two_standard_errors() -> None:
    view = view_sweep()
    assert view.forest is not None and view.ranking is not None
    folds = view.scores["fold"].nunique()
    assert view.forest.noise == pytest.approx(2 * view.ranking.residual_sd * np.sqrt(2 / folds))
    drawn = figures.plot_ranking(view.forest)
    lines = [shape.x0 for shape in drawn.layout.shapes if shape.type == "line"]
    assert lines == [0, -view.forest.noise, view.forest.noise]
    clicked = [arm for trace in drawn.data for arm in trace.customdata]
    assert sorted(clicked) == sorted(view.forest.arms), "what a click on a point names"
    bare = replace(view.forest, noise=float("nan"))
    assert len(figures.plot_ranking(bare).layout.shapes) == 2


def test_names_stand_above_rows_on_a_page() -> None:
    view = view_sweep()
    assert view.forest is not None
    beside = figures.plot_ranking(view.forest)
    above = figures.label_above(figures.plot_ranking(view.forest))
    assert [note.text for note in above.layout.annotations] == view.forest.arms
    assert [note.y for note in above.layout.annotations] == list(beside.layout.yaxis.categoryarray)
    assert above.layout.height > beside.layout.height
    assert figures.escape_all(['<b> & "quoted"']) == ['&lt;b&gt; &amp; "quoted"']


def test_cells_are_paired_by_fold_and_seed() -> None:
    scores = pd.DataFrame(
        [
            *[("base", f, s, 0.5 + f / 10) for f in range(3) for s in range(2)],
            *[("arm", f, 0, 0.6 + f / 10) for f in range(4)],
        ],
        columns=["arm", "fold", "seed", "score"],
    )
    cells = pair_cells(scores, "base", "arm")
    assert list(cells.columns) == ["fold", "seed", "base", "arm", "difference"]
    assert list(zip(cells["fold"], cells["seed"], strict=True)) == [(0, 0), (1, 0), (2, 0)]
    np.testing.assert_allclose(cells["difference"], 0.1)
    drawn = arm_figures.plot_cells(cells)
    assert [trace.name for trace in drawn.data] == ["mean of the fold", "seed 0"]
    assert list(drawn.data[1].y) == cells["difference"].tolist()


def test_changes_are_the_fields_that_differ(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_SPEC)
    base, arm = (
        {"spec": load_spec(tmp_path / "tiny.yaml", changes).model_dump(mode="json")}
        for changes in ({}, {"train.optimizer.lr": 0.25, "name": "other"})
    )
    changes = list_changes(base, arm)
    assert changes.to_dict("records") == [
        {"field": "train.optimizer.lr", "base": "0.003", "arm": "0.25"}
    ]
    assert list_changes({"spec": None}, arm).empty


def test_curves_are_those_of_the_last_stage() -> None:
    rows = [
        (stage, fold, 0, epoch, loss + fold)
        for stage, loss in (("pretrain", 9.0), ("train", 1.0))
        for fold in range(2)
        for epoch in range(3)
    ]
    table = pd.DataFrame(rows, columns=["stage", "fold", "seed", "epoch", "loss"]).assign(lr=0.1)
    (curve,) = list_curves({"base": table, "arm": table.assign(loss=table["loss"] / 2)})
    assert curve.key == "loss"
    assert curve.lines["base"].to_dict("list") == {
        "epoch": [0, 1, 2],
        "mean": [1.5] * 3,
        "low": [1.0] * 3,
        "high": [2.0] * 3,
    }
    drawn = arm_figures.plot_curve(curve).data
    assert list(drawn[1].y) == [1.5] * 3 and list(drawn[3].y) == [0.75] * 3
    assert list_curves({"base": pd.DataFrame(), "arm": pd.DataFrame()}) == ()


def build_outputs(lift: float) -> dict[tuple[int, int], FoldTable]:
    """Two folds of 60 recordings of 3 species; `lift` is added to what the first is known by."""
    tables = {}
    for fold in range(2):
        rng = np.random.default_rng(fold)
        primary = rng.integers(0, 3, 60)
        targets = np.eye(3, dtype=bool)[primary]
        probs = rng.uniform(0, 0.5, (60, 3)) + 0.05 * targets
        probs[:, 0] += lift * targets[:, 0]
        names = tuple(f"{fold}-{i}.ogg" for i in range(60))
        tables[fold, 0] = FoldTable(names, ("a", "b", "c"), primary, targets, probs.astype("f4"))
    return tables


def test_outputs_show_which_species_gained() -> None:
    base, arm = build_outputs(0.0), build_outputs(0.4)
    recordists = {name: name[-5:] for table in base.values() for name in table.recordings}
    found = compare_outputs(base, arm, recordists)
    assert found.recordings is not None and found.recordings.low > 0
    assert found.species["code"].iloc[0] == "a" and found.species["q"].iloc[0] < 0.05
    assert "1 shown to be better and 0 worse" in found.sentences[1]
    assert len(found.sentences) == 2, "who made the recordings is known"
    assert "narrower than they should be" in compare_outputs(base, arm, {}).sentences[2]
    drawn = arm_figures.plot_species(found.species)
    assert drawn.data[0].y[-1].startswith("a (") and drawn.layout.yaxis.categoryarray[-1][0] == "a"


def test_outputs_that_do_not_compare_are_said() -> None:
    base = build_outputs(0.0)
    none = compare_outputs(base, {}, {})
    assert none.species.empty and "No stored outputs" in none.sentences[0]
    other = {cell: replace(table, codes=("a", "b", "d")) for cell, table in base.items()}
    assert "scored on other codes" in compare_outputs(base, other, {}).sentences[0]


def test_the_species_that_moved_most_are_shown() -> None:
    species = pd.DataFrame({"code": [f"s{i}" for i in range(40)], "delta": np.arange(40.0)})
    assert shown_species(species)["delta"].tolist() == [39, 38, 37, 36, 35, 34, 5, 4, 3, 2, 1, 0]
    assert len(shown_species(species.head(5))) == 5
