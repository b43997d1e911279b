"""The crash contract: real commands, real kills, and what every next command finds.

After a crash no run of MLflow is RUNNING that is dead, none that failed is FINISHED, no finished
epoch is trained twice that a checkpoint was worth, no finished cell is lost, and the same command
ends with the table of a sweep that nobody disturbed. Here a driver is killed at one moment, and
two run at once; `make crash` takes many moments, kills cells, stops drivers and fills disks as
well. That a killed cell costs itself alone, that a signal saves cells and what a full disk leaves
is in test_local, test_recovery and test_drivers.
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from conftest import MakeLab

from birdlab.cellfiles import is_finished, part_folder
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.sed.checkpoint import saved_epoch
from birdlab.spec.arms import sweep_arms
from birdlab.spec.sweep import load_sweep
from birdlab.sweep.driver import run_sweep
from birdlab.tasks import InProcess
from birdlab.tracking.drivernotes import load_drivers
from birdlab.tracking.index import load_cells, load_sweeps

REPOSITORY = Path(__file__).parents[1]
EVERY_EPOCH = (
    "import birdlab.cli.progress as shown; shown.LINE_EVERY_S = 0\n"
    "from birdlab.cli.app import main; main()"
)
SWEEP = """\
base: tiny.yaml
set: {train.length: {epochs: 5}, train.batch: 2, train.ema_decay: 0.9}
grid: {train.optimizer.lr: [3e-3, 1e-3]}
"""
EPOCHS, CELLS = 5, 4
SIZE_LIMITS = [2_000_000, 300_000]
"""Bytes that a file may have: no checkpoint fits; MLflow's database fits into the first only."""


@dataclass
class Command:
    """A birdlab command in a process group of its own, and what it printed."""

    process: subprocess.Popen[str]
    log: Path
    said: str = field(default="", init=False)

    def end(self, seconds: float = 180) -> int:
        code = self.process.wait(seconds)
        self.said = self.log.read_text()
        return code

    def children(self) -> list[psutil.Process]:
        """The processes that train cells, by their command line."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [p for p in below if "birdlab.sweep.child" in " ".join(p.cmdline())]
        except psutil.Error:
            return []


class Stage:
    """A lab with a sweep in it, and the commands that were given there."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.commands: list[Command] = []
        (lab.root / "lr.yaml").write_text(SWEEP)

    def start(self, *arguments: str, limit: int | None = None) -> Command:
        log = self.lab.root / f"log{len(self.commands)}.txt"

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", EVERY_EPOCH, *arguments],
                cwd=self.lab.root,
                env={
                    **os.environ,
                    "BIRDLAB_HOME": str(self.lab.root),
                    "PYTHONPATH": str(REPOSITORY),
                },
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=limited,
            )
        self.commands.append(Command(process, log))
        return self.commands[-1]

    def sweep(self, **given: Any) -> Command:
        return self.start("sweep", "lr.yaml", "--jobs", "2", **given)

    def finished(self) -> set[str]:
        """The cells that are whole."""
        return {p.parent.name for p in self.lab.cells.glob("[!.]*/cell.json")}

    def wait_for(self, condition: Callable[[], bool], command: Command) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert command.process.poll() is None, command.log.read_text()
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.01)

    def wait_for_moment(self, moment: int, command: Command) -> None:
        """Into the training of some cell: the first where moment is 0, else by chance."""
        chance = random.Random(moment)
        whole = chance.randrange(3) if moment else 0
        self.wait_for(lambda: len(self.finished()) >= whole, command)
        self.wait_for(lambda: any(self.lab.cells.glob(".*.part/checkpoint.pt")), command)
        time.sleep(chance.uniform(0, 0.6) if moment else 0)

    def statuses(self) -> dict[str, str]:
        """The status of every parent run in MLflow by run id."""
        return {run.info.run_id: run.info.status for run in self._runs()}

    def _runs(self) -> list[Any]:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.lab.tracking_uri)
        found = client.search_runs([e.experiment_id for e in client.search_experiments()])
        return [run for run in found if run.data.tags.get("birdlab.kind") == "run"]

    def epochs(self) -> Counter[str]:
        """How often each epoch of each cell was told as finished."""
        said = "\n".join(command.log.read_text() for command in self.commands)
        return Counter(re.findall(r"^(.* seed \d+: epoch \d+/\d+)", said, re.MULTILINE))

    def assert_truthful(self) -> None:
        """What holds after any command, whatever happened before it."""
        assert not [n.name for n in load_drivers(self.lab) if n.state == "running"]
        scored = {r.info.run_id for r in self._runs() if "cv/padded_cmap" in r.data.metrics}
        statuses = self.statuses()
        assert "RUNNING" not in statuses.values()
        assert {run for run, status in statuses.items() if status == "FINISHED"} == scored

    def look(self) -> None:
        """Give the next command, which only lists runs, and see what it leaves."""
        following = self.start("runs")
        assert following.end() == 0, following.said
        self.assert_truthful()

    def saved(self) -> dict[str, int]:
        """By the title of each unfinished cell the epoch, from 1, that its checkpoint begins."""
        arms = sweep_arms(load_sweep(self.lab.root / "lr.yaml"))
        plans = [plan_experiment(arm.spec, self.lab) for arm in arms]
        left = [
            (f"{plan.spec.name}: {cell.title}", part_folder(self.lab, cell.cell_id))
            for plan in plans
            for cell in plan.cells
            if not is_finished(self.lab, cell)
        ]
        return {title: saved_epoch(part) for title, part in left}

    def assert_ends_as(
        self, straight: pd.DataFrame, before: set[str], saved: Mapping[str, int] | None = None
    ) -> None:
        """The same command does what is missing, and ends with the table of an undisturbed one.

        Epochs that a killed cell had finished since its checkpoint, by `saved`, come again.
        """
        last = self.sweep()
        assert last.end() == 0, last.said
        assert before <= self.finished()
        for told, n in self.epochs().items():
            cell, epoch = told.split(": epoch ")
            again = int(epoch.split("/")[0]) >= (saved or {}).get(cell, EPOCHS + 1)
            assert n <= 1 + again, f"{told} was trained again"
        pd.testing.assert_frame_equal(table_of(self.lab), straight)
        self.assert_truthful()
        assert list(self.statuses().values()).count("FINISHED") == 2
        assert not list(self.lab.cells.glob(".*.part"))


def table_of(lab: Lab) -> pd.DataFrame:
    """The scores of a lab's cells, in one order, without what each took."""
    cells = load_cells(lab).drop(columns=["seconds"])
    assert [a["title"] for a in load_sweeps(lab)["lr"]["arms"]]
    return cells.sort_values(["run", "fold", "seed"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> pd.DataFrame:
    """The table of the sweep that nobody disturbed, in one process."""
    root = tmp_path_factory.mktemp("straight") / "lab"
    shutil.copytree(trained_lab, root, ignore=shutil.ignore_patterns("cells", "runs"))
    stage = Stage(open_lab(root))
    assert run_sweep(load_sweep(root / "lr.yaml"), stage.lab, InProcess()).failed == []
    return table_of(stage.lab)


@pytest.fixture
def stage(make_lab: MakeLab) -> Iterator[Stage]:
    stage = Stage(make_lab(mlflow=True))
    yield stage
    for command in stage.commands:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()


@pytest.mark.crash
@pytest.mark.parametrize("moment", range(4))
def test_a_cell_that_is_killed_is_tried_again(
    stage: Stage, straight: pd.DataFrame, moment: int
) -> None:
    command = stage.sweep()
    stage.wait_for_moment(moment, command)
    children, saved = command.children(), stage.saved()
    if children:  # else the sweep was done already
        random.Random(moment).choice(children).kill()
    assert command.end() == 0, command.said
    stage.assert_ends_as(straight, stage.finished(), saved)


@pytest.mark.crash
@pytest.mark.parametrize("moment", range(4))
def test_a_driver_that_is_killed_leaves_nothing_running(
    stage: Stage, straight: pd.DataFrame, moment: int
) -> None:
    command = stage.sweep()
    stage.wait_for_moment(moment, command)
    children = command.children()
    command.process.kill()
    command.end()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "children end with their driver"
    before, saved = stage.finished(), stage.saved()
    stage.look()
    stage.assert_ends_as(straight, before, saved)


@pytest.mark.crash
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, 0),
        *((number, moment) for number in (signal.SIGTERM, signal.SIGINT) for moment in range(1, 4)),
    ],
)
def test_a_stopped_driver_saves_its_cells(
    stage: Stage, straight: pd.DataFrame, number: signal.Signals, moment: int
) -> None:
    command = stage.sweep()
    stage.wait_for_moment(moment, command)
    command.process.send_signal(number)
    assert command.end() in (0, 130), command.said
    assert "Traceback" not in command.said
    before = stage.finished()
    if len(before) < CELLS:
        assert list(stage.lab.cells.glob(".*.part/checkpoint.pt"))
    stage.look()
    stage.assert_ends_as(straight, before)


@pytest.mark.crash
@pytest.mark.parametrize("limit", SIZE_LIMITS)
def test_a_full_disk_costs_no_finished_cell(
    stage: Stage, straight: pd.DataFrame, limit: int
) -> None:
    command = stage.sweep(limit=limit)
    assert command.end() == 1, command.said
    assert "no room left on the disk" in command.said
    assert "run only that again: birdlab sweep lr.yaml" in command.said
    assert "Traceback" not in command.said
    before = stage.finished()
    stage.look()
    assert set(stage.statuses().values()) == {"FAILED"}
    stage.assert_ends_as(straight, before)


@pytest.mark.crash
def test_two_drivers_at_once_do_the_work_of_one(stage: Stage, straight: pd.DataFrame) -> None:
    both = [stage.sweep(), stage.sweep()]
    codes = sorted(command.end() for command in both)
    assert codes in ([0, 1], [0, 0]), [command.said for command in both]
    if codes == [0, 1]:
        (refused,) = (command for command in both if command.process.returncode == 1)
        assert "is being run already" in refused.said
    assert sum(stage.epochs().values()) == CELLS * EPOCHS
    stage.assert_ends_as(straight, stage.finished())


def test_the_sweep_of_these_tests_has_the_cells_that_they_count(stage: Stage) -> None:
    arms = sweep_arms(load_sweep(stage.lab.root / "lr.yaml"))
    plans = [plan_experiment(arm.spec, stage.lab) for arm in arms]
    cells = {c.cell_id: c for plan in plans for c in plan.cells}
    assert len(cells) == CELLS
    assert {c.steps.epochs for c in cells.values()} == {EPOCHS}
    assert not any(is_finished(stage.lab, c) for c in cells.values())
