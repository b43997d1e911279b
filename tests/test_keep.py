"""`keep:`: which weights stay when a run is scored, and how they come back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeLab
from filelock import FileLock

from birdlab.cellfiles import WEIGHTS
from birdlab.errors import CellError, PromotionError, SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.keeping import drop_weights
from birdlab.lab import Lab
from birdlab.more import add_stage
from birdlab.network import weights_path
from birdlab.plan import plan_experiment
from birdlab.promote.members import plan_of
from birdlab.recorded import load_record
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.spec import load_spec

PRETRAINED = {
    "stages": [{"pre": {"data": "abroad"}}, {"tune": {"start": "pre", "transfer": "backbone"}}]
}


def run(lab: Lab, changes: dict[str, Any]) -> RunResult:
    return run_experiment(load_spec(lab.root / "tiny.yaml", {"name": "k", **changes}), lab=lab)


def weights(lab: Lab) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in lab.cells.glob(f"*/{WEIGHTS}")}


def test_keep_is_no_part_of_the_identity(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plans = [
        plan_experiment(load_spec(lab.root / "tiny.yaml", {"keep": keep}), lab)
        for keep in ("all", "final", "outputs")
    ]
    assert len({plan.spec_id for plan in plans}) == 1
    assert len({tuple(c.cell_id for c in plan.cells) for plan in plans}) == 1
    with pytest.raises(SpecError, match="leaves nothing"):
        load_spec(lab.root / "tiny.yaml", {"keep": "outputs", "cells.folds": "none"})


def test_weights_go_and_scores_stay_and_the_same_weights_come_back(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    before = weights(lab)
    assert len(before) == 2
    slim = run(lab, {"keep": "outputs"})
    assert (slim.trained, slim.cached) == (0, 2)
    assert weights(lab) == {}
    again = run(lab, {"keep": "outputs"})
    assert (again.trained, again.scores) == (0, slim.scores), "answered without weights"

    record = load_record(lab, slim.spec_id)
    with pytest.raises(PromotionError, match="weights of the run") as told:
        plan_of(lab, record)
    assert f"birdlab rerun {slim.spec_id} --keep final" in str(told.value)
    with pytest.raises(CellError, match="not in the lab"):
        weights_path(lab, next(iter(before)))

    back = run(lab, {"keep": "all"})
    assert (back.trained, back.scores) == (2, slim.scores)
    assert weights(lab) == before, "the same bits as the first time"
    assert not list(lab.cells.glob(".*.part"))
    plan_of(lab, load_record(lab, slim.spec_id))


def test_a_stage_that_starts_from_dropped_weights_trains_them_again(make_lab: MakeLab) -> None:
    lab = make_lab()
    first = run(lab, {**PRETRAINED, "keep": "final", "cells.folds": [0]})
    plan = plan_experiment(first.spec, lab)
    pre, tuned = plan.cells
    assert set(weights(lab)) == {tuned.cell_id}, "only the last stage is kept"
    assert run(lab, {**PRETRAINED, "keep": "final", "cells.folds": [0]}).trained == 0
    wider = run(lab, {**PRETRAINED, "keep": "final"})
    assert (wider.trained, wider.cached) == (2, 1), "the second fold, and what it starts from"
    assert pre.cell_id not in weights(lab)


def test_weights_that_another_run_keeps_or_someone_holds_stay(make_lab: MakeLab) -> None:
    lab = make_lab()
    keeper = run(lab, {**PRETRAINED, "cells.folds": [0]})
    held = weights(lab)
    run(
        lab,
        {
            **PRETRAINED,
            "keep": "outputs",
            "train.batch": 8,
            "cells.folds": [0],
            "stages.pre.train.batch": 4,
        },
    )
    assert weights(lab) == held, "the pretraining is the other run's too"
    cell = keeper.cells["cell_id"].iloc[0]
    with FileLock(lab.cells / f".{cell}.lock"):
        run(lab, {**PRETRAINED, "keep": "outputs", "cells.folds": [0]})
    assert set(weights(lab)) == {cell}


def test_the_checkpoint_of_weights_on_their_way_back_is_left_alone(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    run(lab, {"keep": "outputs"})
    one, two = sorted(p for p in lab.cells.iterdir() if p.is_dir() and p.name[0] != ".")
    shutil.copy(two / "cell.json", two / WEIGHTS)
    parts = [lab.cells / f".{cell.name}.part" for cell in (one, two)]
    for part in parts:
        part.mkdir()
    with job_folder(lab):
        assert [part.exists() for part in parts] == [True, False]
    assert Path(one / "cell.json").is_file()


def test_weights_that_another_driver_starts_from_stay(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    final = load_spec(lab.root / "tiny.yaml", {"keep": "outputs"})
    more = plan_experiment(add_stage(load_spec(lab.root / "tiny.yaml"), 1), lab)
    cell = next(c for c in more.cells if c.start is not None)
    assert cell.start is not None
    with job_folder(lab) as jobs:
        save_job(more, cell, jobs)
        dropped = drop_weights(lab, [plan_experiment(final, lab)], [])
        assert set(weights(lab)) == {cell.start.cell_id}
    assert len(dropped) == 1
