"""Sweeps: a ranking from trained cells, failures beside it."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest
from conftest import MakeLab
from simulations import assumed_noise

from birdlab.cli.summaries import summarise_sweep
from birdlab.errors import CellError
from birdlab.lab import Lab
from birdlab.spec.sweep import load_sweep
from birdlab.study.noise import paired_se
from birdlab.study.noise_file import save_noise
from birdlab.sweep.driver import run_sweep
from birdlab.sweep.dryrun import plan_sweep
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.result import SweepResult
from birdlab.sweep.slots import Inventory
from birdlab.tasks import Event, InProcess
from birdlab.tracking.index import load_record, load_runs, load_sweeps
from birdlab.tracking.resolve import resolve_run

BLEND = """\
base: tiny.yaml
name: blend
grid:
  output: [{clip: 1, time_max: 0}, {clip: 0.5, time_max: 0.5}]
"""


def sweep(lab: Lab, text: str, **given: Any) -> SweepResult:
    path = lab.root / "sweep.yaml"
    path.write_text(text)
    return run_sweep(load_sweep(path), lab, given.pop("executor", InProcess()), **given)


# ---------------------------------------------------------------- grids


def test_arms_share_cells_and_are_ranked(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab,
        "base: tiny.yaml\nname: s\nexpect: batch 4\ngrid:\n"
        "  what: {base: {}, blended: {output: {clip: 0.5, time_max: 0.5}}, "
        "other: {train.optimizer.lr: 1e-2}}\n",
    )
    assert result.failed == []
    assert {a.title: r.trained for a, r in result.scored} == {"base": 0, "blended": 0, "other": 2}
    scores = [r.cv for _, r in result.scored]
    assert scores == sorted(scores, reverse=True)
    assert result.scores.groupby("arm").size().to_dict() == {"base": 2, "blended": 2, "other": 2}
    assert result.ranking is not None
    assert set(result.ranking.table["arm"]) == {"base", "blended", "other"}
    record = load_sweeps(lab)["s"]
    assert [a["title"] for a in record["arms"]] == [a.title for a, _ in result.scored]
    assert record["sentences"] == list(result.ranking.sentences)
    best = result.scored[0]
    assert resolve_run(lab, "s:best")["spec_id"] == best[1].spec_id
    assert resolve_run(lab, "s:other")["scores"]["cv/padded_cmap"] == next(
        r.cv for a, r in result.scored if a.title == "other"
    )
    again = sweep(lab, (lab.root / "sweep.yaml").read_text())
    assert [r.trained for _, r in again.scored] == [0, 0, 0]


def test_a_grid_reports_interactions_and_multiples_of_the_noise(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    text = (
        "base: tiny.yaml\nname: s\ncorrection: dunnett\ncontrol: 'a, count'\ngrid:\n"
        "  blend: {a: {output: {clip: 1, time_max: 0}}, b: {output: {clip: 0, time_max: 1}}}\n"
        "  labels: {count: {evaluate.secondary: count}, ignore: {evaluate.secondary: ignore}}\n"
    )
    result = sweep(lab, text)
    assert result.ranking is not None and result.ranking.method == "dunnett"
    (found,) = result.interactions
    assert found.names == ("blend", "labels") and list(found.table["row"][:1]) == ["blend=a"]
    assert load_sweeps(lab)["s"]["interactions"][0]["sentences"] == list(found.sentences)
    said = summarise_sweep(result)
    assert "no verdict on 2 common folds, it takes 3" in said and "x noise" not in said
    assert result.ranking.table["noise_multiples"].isna().all()
    control = next(r for a, r in result.scored if a.title == "a, count")
    save_noise(lab, load_record(lab, control.spec_id), assumed_noise())
    again = sweep(lab, text)
    assert again.ranking is not None and "x noise" in summarise_sweep(again)
    rows = again.ranking.table.set_index("arm").drop("a, count")
    expected = rows["delta"] / paired_se(assumed_noise(), 2, 1)
    pd.testing.assert_series_equal(rows["noise_multiples"], expected, check_names=False)


def test_the_plan_of_a_sweep_counts_each_cell_once(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    (lab.root / "s.yaml").write_text(
        "base: tiny.yaml\ngrid: {output.clip: [0.75], evaluate.secondary: [count, ignore], "
        "train.batch: [4, 5]}\n"
    )
    plan = plan_sweep(load_sweep(lab.root / "s.yaml"), lab)
    assert len(plan.arms) == 4
    assert len(plan.cells) == 4
    assert len(plan.cached) == 2


def test_a_failing_arm_is_listed_and_stops_nobody(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    events: list[Event] = []
    result = sweep(
        lab,
        "base: tiny.yaml\nname: s\ngrid:\n  model.backbone: "
        "[no_such_network, mobilenetv3_small_050]\n  output: "
        "[{clip: 1, time_max: 0}, {clip: 0, time_max: 1}]\n",
        emit=events.append,
    )
    assert len(result.scored) == 2
    assert len(result.failed) == 2
    assert all(isinstance(error, CellError) for _, error in result.failed)
    assert result.ranking is not None
    assert len(result.ranking.table) == 2
    assert [e.kind for e in events].count("failed") == 2, "a cell of two arms fails once"
    record = load_sweeps(lab)["s"]
    assert len(record["failed"]) == 2
    assert "no_such_network" in record["failed"][0]["error"]
    assert len(record["arms"]) == 2


def test_outputs_that_cannot_be_read_cost_their_arm_alone(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    text = (
        "base: tiny.yaml\nname: s\nset: {data.folds.n: 3}\nrace: {}\ncontrol: batch=4\n"
        "cells: {folds: all, seeds: [0, 1]}\ngrid: {train.batch: [3, 4]}\n"
    )
    result = sweep(lab, text)
    broken = next(r for a, r in [*result.scored, *result.stopped] if a.title == "batch=3")
    cell_id = broken.cells["cell_id"].iloc[0]
    (file,) = (lab.cells / cell_id).glob("outputs-*/windows.parquet")
    file.write_bytes(b"rust")
    again = sweep(lab, text)
    assert [arm.title for arm, _ in again.scored] == ["batch=4"]
    ((arm, error),) = again.failed
    assert arm.title == "batch=3" and cell_id in str(error)


def test_a_failed_start_skips_what_stands_on_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    text = (
        "base: tiny.yaml\nset:\n  cells.folds: [0]\n  stages:\n"
        "    - pretrain: {data: abroad, train: {optimizer: {lr: 1e30}, loss: bce, "
        "length: {steps: 4}}}\n"
        "    - tune: {start: pretrain, transfer: backbone, augment: []}\n"
        "grid: {train.batch: [3, 4]}\n"
    )
    for build in (InProcess, lambda: LocalExecutor(Inventory(cores=1))):
        with build() as executor:
            result = sweep(lab, text, executor=executor)
        assert len(result.failed) == 2
        assert all("2 of 2 cells failed" in str(error) for _, error in result.failed)


def test_finalists_earn_more_evidence(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab, BLEND + "cells: {folds: [0]}\nthen: {top: 1, cells: {folds: all, seeds: [0]}}\n"
    )
    by_arm = result.scores.groupby("arm").size()
    assert sorted(by_arm.tolist()) == [1, 2]
    (finalist,) = (arm for arm, n in by_arm.items() if n == 2)
    first_fold = result.scores[result.scores["fold"] == 0].set_index("arm")["score"]
    assert first_fold.idxmax() == finalist


def test_one_arm_has_a_score_and_no_ranking(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(lab, "base: tiny.yaml\nname: s\ngrid: {train.batch: [4]}\n")
    assert result.ranking is None
    assert len(result.scored) == 1
    assert load_sweeps(lab)["s"]["ranking"] is None


def test_a_control_is_what_the_others_are_compared_with(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    text = (
        "base: tiny.yaml\nname: s\ncontrol: b\n"
        "grid: {g: {a: {output: {clip: 1, time_max: 0}}, b: {output: {clip: 0, time_max: 1}}}}\n"
    )
    for control in ("a", "b"):
        result = sweep(lab, text.replace("control: b", f"control: {control}"))
        assert result.ranking is not None
        assert result.ranking.base == control


# ---------------------------------------------------------------- races

FIRST = """\
base: tiny.yaml
name: race
set: {data.folds.n: 3}
cells: {folds: all, seeds: [0]}
grid: {train.optimizer.lr: [3e-3, 1e-3]}
"""


def race_of(lab: Lab) -> tuple[str, str, str]:
    """A sweep whose control is the arm that is ahead after the first seed; that arm, the other."""
    ahead, behind = (arm.title for arm, _ in sweep(lab, FIRST).scored)
    text = FIRST.replace("[0]", "[0, 1]") + f"control: {ahead}\nrace: {{level: 0.49}}\n"
    return text, ahead, behind


def test_a_race_stops_what_is_worse_and_says_what_it_saved(make_lab: MakeLab) -> None:
    lab = make_lab()
    text, ahead, behind = race_of(lab)
    (lab.runs / f"{resolve_run(lab, behind)['spec_id']}.json").unlink()
    events: list[Event] = []
    result = sweep(lab, text, emit=events.append)
    ((arm, run),) = result.stopped
    assert (arm.title, [a.title for a, _ in result.scored]) == (behind, [ahead])
    assert (run.scores, len(run.cells)) == ({}, 3)
    assert run.stopped_at.startswith("after round 1 of 2: -")
    assert "saved 3 of 12 cells" in result.race[1]
    assert [e.kind for e in events].count("done") == 3
    record = load_sweeps(lab)["race"]
    assert [a["title"] for a in record["stopped"]] == [behind]
    assert record["race"] == list(result.race)
    stored = json.loads(run.record.read_text())
    assert (stored["scores"], stored["evaluation"]["seeds"]) == ({}, [0])
    assert stored["sweeps"]["race"]["stopped_at"] == run.stopped_at
    assert math.isnan(load_runs(lab).set_index("run").loc[run.spec_id, "cv/padded_cmap"])
    assert resolve_run(lab, "race:best")["spec_id"] == result.scored[0][1].spec_id
    events.clear()
    again = sweep(lab, text, emit=events.append)
    assert [r.stopped_at for _, r in again.stopped] == [run.stopped_at]
    assert events == []


def test_a_score_that_is_known_outlasts_a_race(make_lab: MakeLab) -> None:
    lab = make_lab()
    text, _, behind = race_of(lab)
    known = resolve_run(lab, behind)["scores"]
    sweep(lab, text)
    record = resolve_run(lab, behind)
    assert record["scores"] == known != {}
    assert record["sweeps"]["race"]["stopped_at"]


def test_a_race_ends_alike_for_any_number_of_jobs_and_after_interruptions(
    make_lab: MakeLab,
) -> None:
    one, two = make_lab(), make_lab()
    text, _, _ = race_of(one)
    straight = sweep(one, text)

    def interrupt(event: Event) -> None:
        if event.kind == "done":
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep(two, text, emit=interrupt)
    with LocalExecutor(Inventory(cores=2)) as executor:
        other = sweep(two, text, executor=executor)
    stopped = [
        [(arm.title, r.stopped_at) for arm, r in result.stopped] for result in (straight, other)
    ]
    assert stopped[0] == stopped[1] != []
    pd.testing.assert_frame_equal(straight.scores, other.scores)
