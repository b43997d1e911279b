"""Cells as jobs of a queue: submitit's processes of this machine stand for SLURM's nodes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from celltasks import LONG, saved_at, tasks_of
from conftest import MakeLab
from test_local import finished, pids

from birdlab.errors import LabError, LostWorkerError, SpecError, StoppedError
from birdlab.lab import Lab, open_lab
from birdlab.sweep import slurm
from birdlab.sweep.handle import Outcome
from birdlab.sweep.slurm import NOTE, SlurmExecutor
from birdlab.tasks import Event

HERE = '[slurm]\ncluster = "local"\ntime_min = 10\n'

pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def local_queue(lab: Lab) -> Lab:
    (lab.root / "birdlab.local.toml").write_text(HERE)
    return open_lab(lab.root)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.slow
def test_the_driver_leaves_and_collects_a_job_that_met_its_limit(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit's signal saves the cell and puts it back; another job is killed meanwhile."""
    monkeypatch.setattr(slurm, "_LOOK_S", 1.0)
    lab, events = local_queue(make_lab()), list[Event]()
    tasks = tasks_of(lab, {**LONG, "train.length": {"epochs": 40}})
    met: set[str] = set()

    def emit(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch" and event.cell_id not in met:
            met.add(event.cell_id)
            job = parent(pids(events)[event.cell_id])
            os.kill(job, signal.SIGUSR2 if event.cell_id == tasks[0].cell_id else signal.SIGKILL)
        if len(met) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), SlurmExecutor(lab) as executor:
        executor.execute(tasks, emit)
    notes = {t.cell_id: lab.stores / "slurm" / t.cell_id / NOTE for t in tasks}
    job_id = json.loads(notes[tasks[0].cell_id].read_text())["job_id"]
    for task in tasks:
        shutil.rmtree(task.job)  # it goes with the driver that wrote it
    again = tasks_of(lab, {**LONG, "train.length": {"epochs": 40}})
    later: list[Event] = []

    def check(event: Event) -> None:
        later.append(event)
        note = notes[tasks[0].cell_id]
        assert not note.exists() or json.loads(note.read_text())["job_id"] == job_id

    with SlurmExecutor(lab) as executor:
        failed = executor.execute(again, check)
    assert {c: type(e) for c, e in failed.items()} in ({}, {tasks[1].cell_id: LostWorkerError})
    assert finished(lab, again[0])
    told = [e.kind for e in later if e.cell_id == tasks[0].cell_id]
    assert told.count("placed") == 2 and "stopped" in told and "resume" in told
    epochs = [
        e.values["epoch"] for e in later if e.cell_id == tasks[0].cell_id and e.kind == "epoch"
    ]
    assert epochs == list(range(40)), "no epoch is trained twice"
    assert not (lab.stores / "slurm" / tasks[0].cell_id).exists()


def test_a_job_that_nobody_wants_is_saved(make_lab: MakeLab) -> None:
    lab, events = local_queue(make_lab()), list[Event]()
    (task,) = tasks_of(lab, {**LONG, "cells.folds": [0]})
    with SlurmExecutor(lab) as executor:
        failed = executor.execute(
            [task], events.append, lambda _: "epoch" not in [e.kind for e in events]
        )
    assert type(failed[task.cell_id]) is StoppedError
    assert saved_at(lab, task.cell_id)["epoch"] >= 1


def test_a_cell_that_another_driver_collects_is_finished_for_both(make_lab: MakeLab) -> None:
    lab = local_queue(make_lab(trained=True))
    task = tasks_of(lab)[0]
    with SlurmExecutor(lab) as one, SlurmExecutor(lab) as two:
        one.begin([task])
        two.begin([task])
        told: list[Event | Outcome] = []
        while Outcome(task.cell_id) not in told:
            told += one.hear(1)
        two.stop(task.cell_id)
        assert two.hear(0) == [Outcome(task.cell_id)]
        assert two.hear(0) == []


def test_what_sbatch_is_asked_for(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that takes the script stands for the queue; it refuses the second time."""
    lab = make_lab()
    (lab.root / "birdlab.local.toml").write_text(
        '[slurm]\npartition = "gpu"\ngpus = 1\ntime_min = 90\nmem_gb = 16\n'
        'setup = ["module load cuda"]\noptions = {"mail-type" = "END"}\n'
    )
    lab = open_lab(lab.root)
    programs = lab.root / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun"):
        (programs / name).write_text(
            f'#!/bin/sh\n[ -e {lab.root}/full ] && {{ echo "queue is full" >&2; exit 1; }}\n'
            f'cp "$1" {lab.root}/script.sh\necho "Submitted batch job 4242"\n'
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    tasks = tasks_of(lab)
    with SlurmExecutor(lab, jobs=1) as executor:
        assert executor.begin(tasks) == tasks
    script = (lab.root / "script.sh").read_text()
    for asked in (
        "--array=0-1%1", "--partition=gpu", "--gpus-per-node=1", "--time=90", "--mem=16384MB",
        "--cpus-per-task=2", "--signal=USR2@120", "--mail-type=END", "module load cuda",
    ):  # fmt: skip
        assert asked in script, asked
    ids = [
        json.loads((lab.stores / "slurm" / t.cell_id / NOTE).read_text())["job_id"] for t in tasks
    ]
    assert ids == ["4242_0", "4242_1"]
    (lab.root / "full").touch()
    other = tasks_of(lab, {"train.batch": 3})
    with SlurmExecutor(lab) as executor, pytest.raises(LabError, match="does not take") as caught:
        executor.begin(other)
    assert "queue is full" in str(caught.value)
    assert not (lab.stores / "slurm" / other[0].cell_id / NOTE).exists()


def test_settings_are_checked(make_lab: MakeLab) -> None:
    lab = make_lab()
    (lab.root / "birdlab.local.toml").write_text('[slurm]\npartitoin = "gpu"\n')
    with pytest.raises(SpecError, match="partitoin"):
        open_lab(lab.root)
    (lab.root / "birdlab.local.toml").write_text("")
    with pytest.raises(LabError, match="SLURM does not take jobs"), SlurmExecutor(lab) as executor:
        executor.begin(tasks_of(lab))
