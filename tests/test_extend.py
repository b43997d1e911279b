"""More of a finished run: folds, seeds and epochs, with everything that is there kept."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import MakeLab

from birdlab.cellfiles import is_finished
from birdlab.cli import app as entry
from birdlab.errors import SpecError
from birdlab.lab import Lab, open_lab
from birdlab.more import add_cells, add_stage
from birdlab.plan import plan_experiment
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.tracking.resolve import resolve_run


@dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def lab(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = make_lab(trained=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    return lab


@pytest.fixture
def cli(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def call(*args: str) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["birdlab", *args])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        return Answer(int(ended.value.code or 0), got.out, got.err)

    return call


def spec_of(lab: Lab, changes: dict[str, Any] | None = None) -> ExperimentSpec:
    return load_spec(lab.root / "tiny.yaml", changes or {})


def ids(spec: ExperimentSpec, lab: Lab) -> list[str]:
    return [cell.cell_id for cell in plan_experiment(spec, lab).cells]


# ---------------------------------------------------------------- the experiment that it becomes


@pytest.mark.parametrize(
    ("cells", "folds", "n_seeds", "expected"),
    [
        ({"folds": [0], "seeds": [0]}, "all", None, ("all", (0,))),
        ({"folds": [0], "seeds": [0]}, [1, 0], 3, ((0, 1), (0, 1, 2))),
        ({"folds": "all", "seeds": [0]}, [1], 2, ("all", (0, 1))),
        ({"folds": [1], "seeds": [7]}, None, 2, ((1,), (0, 1, 7))),
        ({"folds": "none", "seeds": [0]}, None, 2, ("none", (0, 1))),
    ],
)
def test_evidence_is_added_to_what_there_is(
    lab: Lab, cells: Any, folds: Any, n_seeds: int | None, expected: Any
) -> None:
    spec = spec_of(lab, {"cells": cells})
    more = add_cells(spec, folds, n_seeds)
    assert (more.cells.folds, more.cells.seeds) == expected
    assert more.model_copy(update={"cells": spec.cells}) == spec
    assert set(ids(spec, lab)) <= set(ids(more, lab))


def test_folds_that_cannot_be_added_are_refused(lab: Lab) -> None:
    for cells in ({"folds": [0], "seeds": [0]}, {"folds": "all", "seeds": [0]}):
        with pytest.raises(SpecError, match="has no fold 2"):
            add_cells(spec_of(lab, {"cells": cells}), [0, 2])
    with pytest.raises(SpecError, match="trained on all data"):
        add_cells(spec_of(lab, {"cells.folds": "none"}), "all")


def test_more_epochs_are_a_stage_with_a_schedule_of_its_own(lab: Lab) -> None:
    changes = {
        "train.schedule.warmup_epochs": 1,
        "train.freeze_epochs": 1,
        "train.optimizer": {"kind": "adamw", "lr": 1e-3, "backbone_lr": 1e-4},
        "stages": [{"a": {"data": "abroad"}}, {"b": {"start": "a", "transfer": "backbone"}}],
    }
    spec = spec_of(lab, changes)
    once = add_stage(spec, 5, 5e-4)
    assert once.stages[:-1] == spec.stages
    more, last = once.stages[-1], spec.stages[-1]
    assert (more.name, more.start, more.transfer, more.data) == ("more", "b", "all", None)
    assert more.train.length.epochs == 5 and more.train.length.steps is None
    assert more.augment == last.augment and more.train.schedule == last.train.schedule
    optimizer: Any = more.train.optimizer
    assert (optimizer.kind, optimizer.lr) == ("adamw", 5e-4)
    assert optimizer.backbone_lr == pytest.approx(5e-5)
    assert more.train.freeze_epochs == 0, "what was set free stays free"
    twice = add_stage(once, 3)
    assert [stage.name for stage in twice.stages] == ["a", "b", "more", "more-2"]
    assert (twice.stages[-1].start, twice.stages[-1].train.optimizer) == ("more", optimizer)
    assert ids(once, lab)[:2] == ids(spec, lab)[:2]
    assert set(ids(spec, lab)) < set(ids(once, lab)) < set(ids(twice, lab))
    frozen = spec_of(lab, {"train.freeze_epochs": "all"})
    assert add_stage(frozen, 1).stages[-1].train.freeze_epochs == "all"
    plan = plan_experiment(once, lab)
    assert all(cell.start and cell.start.stage.name == "b" for cell in plan.final_cells)


# ---------------------------------------------------------------- the command


def test_seeds_are_added_to_a_run_and_the_rest_is_cached(cli: Cli, lab: Lab) -> None:
    dry = cli("extend", "tiny", "--seeds", "2", "--dry-run")
    assert dry.code == 0, dry.err
    for part in (
        "cells     4, 2 of them cached",
        "train, fold 0, seed 0  cached",
        "train, fold 1, seed 1  4 steps",
        "draws ",
    ):
        assert part in dry.out, part
    assert len(list(lab.cells.glob("*/cell.json"))) == 2
    real = cli("extend", "tiny", "--seeds", "2", "--folds", "all", "--no-mlflow")
    assert real.code == 0, real.err
    for part in (
        "cells     4, 2 of them cached",
        "2 cells trained, 2 from the cache",
        "over 2 folds, 2 seeds",
        "next: birdlab ui | birdlab lb score",
    ):
        assert part in real.out, part
    record = resolve_run(lab, "tiny")
    assert [(c["fold"], c["seed"]) for c in record["cells"]] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    again = cli("extend", record["spec_id"][:8], "--seeds", "2", "--no-mlflow")
    assert "nothing was trained: every cell is in the cache" in again.out


def test_epochs_are_added_and_the_run_stays_beside_them(cli: Cli, lab: Lab) -> None:
    before = resolve_run(lab, "tiny")
    args = ("extend", "-1", "--epochs", "1", "--lr", "1e-3", "--no-mlflow")
    dry = cli(*args, "--dry-run")
    assert "more: folds of tiny" in dry.out and "starts from train (all)" in dry.out
    assert "cells     4, 2 of them cached" in dry.out
    real = cli(*args)
    assert real.code == 0, real.err
    assert "2 cells trained, 2 from the cache" in real.out
    assert "tiny+1  spec" in real.out
    after = resolve_run(lab, "tiny+1")
    assert after["spec_id"] != before["spec_id"] == resolve_run(lab, "tiny")["spec_id"]
    assert after["delta"] == {
        "stages.more.train.length.epochs": 1,
        "stages.more.train.optimizer.lr": 1e-3,
    }
    starts = {
        json.loads((lab.cells / cell["cell_id"] / "cell.json").read_text())["start"]
        for cell in after["cells"]
    }
    assert starts == {cell["cell_id"] for cell in before["cells"]}
    named = cli("extend", "tiny+1", "--epochs", "1", "--name", "longer", "--dry-run")
    assert "more-2: folds of tiny" in named.out and "longer  spec" in named.out
    assert "cells     6, 4 of them cached" in named.out


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ((), "nothing is asked for"),
        (("--lr", "1e-3"), "give --epochs too"),
        (("--folds", "a"), "--folds takes"),
        (("--folds", "0,-1"), "--folds takes"),
        (("--epochs", "1", "--lr", "-1"), "stages.more.train.optimizer.lr"),
    ],
)
def test_what_cannot_be_added_is_told(cli: Cli, args: tuple[str, ...], part: str) -> None:
    answer = cli("extend", "tiny", *args)
    assert answer.code == 1
    assert part in answer.err
    assert "Traceback" not in answer.err


def test_a_run_whose_data_changed_is_not_extended(cli: Cli, lab: Lab) -> None:
    shutil.copytree(lab.dataset_root("tiny"), lab.root / "birds")
    (lab.root / "birdlab.local.toml").write_text('[data]\ntiny = "birds"\n')
    table = lab.root / "birds" / "train_metadata.csv"
    assert cli("extend", "tiny", "--seeds", "2", "--dry-run").code == 0
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    answer = cli("extend", "tiny", "--seeds", "2", "--dry-run")
    assert answer.code == 1
    assert "changed after the run was made" in answer.err
    plan = plan_experiment(spec_of(open_lab(lab.root)), open_lab(lab.root))
    assert not all(is_finished(lab, cell) for cell in plan.cells)
