"""One cell by fold, seed and stage: the bits of a whole run, and no record of one."""

from __future__ import annotations

import os

import pytest
from conftest import MakeLab
from typer.testing import CliRunner

from birdlab.cellfiles import is_finished
from birdlab.cli import app as cli
from birdlab.errors import CellError, SpecError
from birdlab.onecell import finish_one
from birdlab.run import run_experiment
from birdlab.spec import load_spec
from birdlab.tasks import Event

STAGES = [
    {"pretrain": {"data": "abroad", "augment": [], "train": {"length": {"steps": 2}}}},
    {"tune": {"start": "pretrain", "transfer": "backbone"}},
]


def test_a_stage_then_the_cell_on_it_then_a_run_that_lacks_one(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    whole = load_spec(lab.root / "tiny.yaml", {"stages": STAGES})
    spec = load_spec(lab.root / "tiny.yaml", {"stages": STAGES, "cells.folds": [1]})
    first = finish_one(spec, lab, stage="pretrain", emit=events.append)
    assert first.stage.name == "pretrain"
    cell = finish_one(spec, lab, emit=events.append)
    assert (cell.fold, cell.seed, cell.start and cell.start.cell_id) == (1, 0, first.cell_id)
    assert [e.cell_id for e in events if e.kind == "done"] == [first.cell_id, cell.cell_id]
    assert not lab.runs.exists(), "a cell alone is no run"
    assert run_experiment(whole, lab=lab).trained == 1, "the other fold"
    events.clear()
    finish_one(spec, lab, emit=events.append)
    assert events == []
    with pytest.raises(SpecError, match="no stage 'tuen'") as caught:
        finish_one(spec, lab, stage="tuen")
    assert "pretrain, tune" in str(caught.value)
    with pytest.raises(SpecError, match="one fold and one seed"):
        finish_one(whole, lab)


def test_a_start_whose_weights_went_is_trained_again(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {"stages": STAGES, "cells.folds": [0], "keep": "final"}
    assert run_experiment(load_spec(lab.root / "tiny.yaml", changes), lab=lab).trained == 2
    cell = finish_one(load_spec(lab.root / "tiny.yaml", {**changes, "cells.folds": [1]}), lab)
    assert is_finished(lab, cell)


def test_the_command_trains_one_cell_and_fails_in_words(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    if not cli.app.registered_commands:
        cli._register()
    arguments = ["--lab", str(lab.root), "cell", str(lab.root / "tiny.yaml"), "--fold", "0"]
    before = os.environ.get("BIRDLAB_HOME")
    try:
        done = CliRunner().invoke(cli.app, arguments)
        failed = CliRunner().invoke(cli.app, [*arguments, "--set", "model.backbone=no_such"])
    finally:
        os.environ.pop("BIRDLAB_HOME") if before is None else None
    assert done.exit_code == 0, done.output
    assert failed.exit_code == 1 and isinstance(failed.exception, CellError | SpecError)
