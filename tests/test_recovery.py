"""Training that is killed, stopped or runs out of room goes on to the same bits."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab

from birdlab.cellfiles import part_folder
from birdlab.errors import CellError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.sed import checkpoint
from birdlab.sed.checkpoint import CHECKPOINT
from birdlab.spec import load_spec
from birdlab.tasks import Event

REPOSITORY = Path(__file__).parents[1]
TIMED = ("clips_per_s", "wait_share", "seconds")
LONG = {
    "cells.folds": [0],
    "train.length": {"epochs": 4},
    "train.accumulate": 2,
    "train.batch": 2,
    "train.validate_every": 1,
}
WITH_EMA = {
    **LONG,
    "train.ema_decay": 0.9,
    "train.checkpoint": "best",
    "train.early_stop": 3,
    "train.optimizer": {"kind": "adamw", "lr": 3e-3, "backbone_lr": 1e-3},
}
AVERAGED = {
    **LONG,
    "train.average": {"of": "best", "k": 2},
    "train.freeze_epochs": 1,
    "train.clip_norm": 1.0,
}
SCRIPT = """
import json, signal, sys
import birdlab
from birdlab.sed import checkpoint
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import Inventory
from birdlab.tasks import InProcess

checkpoint.SAVE_EVERY_S, checkpoint.SAVE_SHARE = float(sys.argv[2]), 1e9
jobs = int(sys.argv[3])
with LocalExecutor(Inventory(jobs)) if jobs > 1 else InProcess() as executor:
    for changes in json.loads(sys.argv[1]):
        spec = birdlab.load_spec("tiny.yaml", changes)
        birdlab.run_experiment(
            spec, executor=executor,
            emit=lambda e: print(e.kind, json.dumps(dict(e.values)), flush=True),
        )
print("all done", flush=True)
"""


def start(
    lab: Lab, *changes: dict[str, Any], save_every_s: float = 0.0, jobs: int = 1
) -> subprocess.Popen[str]:
    """A process that runs the experiments, and prints each event."""
    script = lab.root / "train.py"  # worker processes import it too
    script.write_text("if __name__ == '__main__':\n" + textwrap.indent(SCRIPT, "    "))
    return subprocess.Popen(
        [sys.executable, str(script), json.dumps(changes), str(save_every_s), str(jobs)],
        cwd=lab.root,
        env={
            **os.environ,
            "BIRDLAB_HOME": str(lab.root),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cell_of(lab: Lab, changes: dict[str, Any], number: int = 0) -> str:
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml", changes), lab)
    return plan.final_cells[number].cell_id


def run(lab: Lab, changes: dict[str, Any], **given: Any) -> list[Event]:
    events: list[Event] = []
    spec = load_spec(lab.root / "tiny.yaml", changes)
    run_experiment(spec, lab=lab, emit=events.append, **given)
    return events


def assert_same_cell(one: Lab, two: Lab, changes: dict[str, Any]) -> None:
    """Weights and outputs to the last byte, curves to the last digit but for times."""
    a, b = (lab.cells / cell_of(lab, changes) for lab in (one, two))
    files = {p.relative_to(a) for p in a.rglob("*") if p.is_file()}
    assert files == {p.relative_to(b) for p in b.rglob("*") if p.is_file()}
    for file in files - {Path("cell.json"), Path("curves.parquet")}:
        assert (a / file).read_bytes() == (b / file).read_bytes(), file
    curves = [pd.read_parquet(f / "curves.parquet").drop(columns=list(TIMED)) for f in (a, b)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)
    cards = [json.loads((f / "cell.json").read_text()) for f in (a, b)]
    assert cards[0]["chosen"] == cards[1]["chosen"]


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def has_begun(lab: Lab, cell_id: str) -> Callable[[], bool]:
    """Whether a step of the cell was saved since this was called."""
    path, whole = part_folder(lab, cell_id) / CHECKPOINT, lab.cells / cell_id
    saved_at = path.stat().st_mtime_ns if path.is_file() else 0

    def has() -> bool:
        try:
            return path.stat().st_mtime_ns > saved_at
        except OSError:
            return whole.is_dir()

    return has


@pytest.mark.crash
def test_killed_at_three_random_moments_and_the_bits_are_the_same(make_lab: MakeLab) -> None:
    """Running means, averages of the best, accumulation and early stop, saved after every step."""
    still, killed = make_lab(), make_lab()
    for changes in (WITH_EMA, AVERAGED):
        began = time.monotonic()
        run(still, changes)
        took = time.monotonic() - began
    moments = np.random.default_rng().uniform(0, 1, 3)
    print("killed after", moments)
    for moment, begun in zip(moments, (WITH_EMA, WITH_EMA, AVERAGED), strict=True):
        wait = has_begun(killed, cell_of(killed, begun))
        with start(killed, WITH_EMA, AVERAGED) as process:
            wait_for(wait, process)
            time.sleep(moment * 0.7 * took)
            process.kill()
            process.communicate()
    with start(killed, WITH_EMA, AVERAGED) as process:
        out, err = process.communicate()
    assert "all done" in out, err
    assert not list(killed.cells.glob(".*.part"))
    for changes in (WITH_EMA, AVERAGED):
        assert_same_cell(still, killed, changes)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def stop_after(events: list[Event], epoch: int) -> Any:
    """An observer that presses Ctrl-C when an epoch is told."""

    def observe(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch" and event.values["epoch"] == epoch:
            raise KeyboardInterrupt

    return observe


def test_ctrl_c_saves_says_where_it_goes_on_and_goes_on_there(make_lab: MakeLab) -> None:
    """And an epoch is never trained twice."""
    still, stopped = make_lab(), make_lab()
    run(still, AVERAGED)
    spec, events = load_spec(stopped.root / "tiny.yaml", AVERAGED), list[Event]()
    with pytest.raises(KeyboardInterrupt):
        run_experiment(spec, lab=stopped, emit=stop_after(events, 1))
    assert events[-1].kind == "stopped"
    assert events[-1].values == {"at": "epoch 3 of 4"}
    again = run(stopped, AVERAGED)
    epochs = [e.values["epoch"] for e in [*events, *again] if e.kind == "epoch"]
    assert epochs == [0, 1, 2, 3]
    (resumed,) = (e for e in again if e.kind == "resume")
    assert resumed.values == {"epoch": 2, "epochs": 4}
    assert not list(stopped.cells.glob(".*.part")), "a finished cell needs no checkpoint"
    assert_same_cell(still, stopped, AVERAGED)
    card = json.loads((stopped.cells / cell_of(stopped, AVERAGED) / "cell.json").read_text())
    assert card["chosen"] == "mean of the best 2 of 4"


LATER = {"train.length": {"epochs": 12}, "train.batch": 2}


def assert_said_and_goes_on(make_lab: MakeLab, lab: Lab, said: list[Any], n: int) -> None:
    assert len(said) == n
    assert all(s["at"].startswith("epoch ") and s["at"].endswith(" of 12") for s in said)
    still, changes = make_lab(), {**LATER, "cells.folds": [0]}
    assert "resume" in kinds(run(lab, changes))
    run(still, changes)
    assert_same_cell(still, lab, changes)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.crash), signal.SIGTERM]
)
def test_a_signal_ends_a_step_and_saves_within_an_epoch(
    make_lab: MakeLab, number: signal.Signals
) -> None:
    lab, events = make_lab(), list[Event]()

    def press_soon(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch" and event.values["epoch"] == 0:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    spec = load_spec(lab.root / "tiny.yaml", {**LATER, "cells.folds": [0]})
    with pytest.raises(KeyboardInterrupt):
        run_experiment(spec, lab=lab, emit=press_soon)
    assert_said_and_goes_on(make_lab, lab, [e.values for e in events if e.kind == "stopped"], 1)


@pytest.mark.crash
def test_a_scheduler_that_stops_the_driver_has_worker_processes_save(make_lab: MakeLab) -> None:
    lab = make_lab()
    with start(lab, LATER, save_every_s=1e9, jobs=2) as process:
        for begun in [has_begun(lab, cell_of(lab, LATER, number)) for number in (0, 1)]:
            wait_for(begun, process)
        process.terminate()
        out, err = process.communicate(timeout=240)
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    said = [json.loads(line.split(" ", 1)[1]) for line in out.splitlines() if "stopped" in line]
    assert_said_and_goes_on(make_lab, lab, said, 2)


STOPPED_AT_IMPORT = """\
import os, signal, sys

class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._prims":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stopping())
from birdlab.lab import open_lab
from birdlab.run import run_experiment
from birdlab.spec import load_spec

spec = load_spec("tiny.yaml", {"cells.folds": [0]})
run_experiment(spec, lab=open_lab(), emit=lambda e: print(e.kind, e.values, flush=True))
"""


@pytest.mark.crash
def test_a_cell_that_is_stopped_while_torch_is_imported_is_no_failure(make_lab: MakeLab) -> None:
    lab = make_lab()
    words = [sys.executable, "-c", STOPPED_AT_IMPORT]
    done = subprocess.run(words, cwd=lab.root, capture_output=True, text=True, timeout=240)
    assert "stopped {" in done.stdout and "failed" not in done.stdout, done.stderr
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr


def test_a_full_disk_keeps_the_last_good_checkpoint(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for real: no file may grow beyond the limit of the process."""
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)  # one every epoch
    still, lab = make_lab(), make_lab()
    run(still, WITH_EMA)
    spec, part = (
        load_spec(lab.root / "tiny.yaml", WITH_EMA),
        part_folder(lab, cell_of(lab, WITH_EMA)),
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    good: list[bytes] = []

    def fill(event: Event) -> None:
        if event.kind == "epoch" and event.values["epoch"] == 1:
            good.append((part / CHECKPOINT).read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(good[0]) // 2, before[1]))

    try:
        with pytest.raises(CellError, match="no room left on the disk") as caught:
            run_experiment(spec, lab=lab, emit=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the same command continues from epoch 3 of 4" in str(caught.value)
    assert (part / CHECKPOINT).read_bytes() == good[0]
    assert not list(part.glob(".*.part")), "what was half written makes room again"
    events = run(lab, WITH_EMA)
    assert [e.values["epoch"] for e in events if e.kind == "epoch"] == [2, 3]
    assert_same_cell(still, lab, WITH_EMA)


def test_a_full_disk_after_the_last_epoch_loses_nothing(make_lab: MakeLab) -> None:
    lab = make_lab()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: Event) -> None:
        if event.kind == "evaluate":
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))

    spec = load_spec(lab.root / "tiny.yaml", {"cells.folds": [0]})
    try:
        with pytest.raises(CellError, match="no room left on the disk") as caught:
            run_experiment(spec, lab=lab, emit=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "continues from the end of its last epoch" in str(caught.value)
    assert "epoch" not in kinds(run(lab, {"cells.folds": [0]}))


def test_a_lack_of_memory_names_what_to_lower(make_lab: MakeLab) -> None:
    """The address space of a process ends for real when it begins to train."""
    lab = make_lab()
    script = (
        "import resource, torch, birdlab\n"
        "def less(event):\n"
        "    if event.kind == 'start':\n"
        "        used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "        limit = used + (64 << 20)\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "import birdlab.sed.fit, timm\n"
        "spec = birdlab.load_spec('tiny.yaml',\n"
        "    {'train.window_s': 60, 'train.batch': 12, 'cells.folds': [0]})\n"
        "try:\n"
        "    birdlab.run_experiment(spec, emit=less)\n"
        "except birdlab.errors.CellError as error:\n"
        "    print(error)\n"
    )
    environment = {
        **os.environ,
        "BIRDLAB_HOME": str(lab.root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=lab.root, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    for part in ("not enough memory", "train.batch", "train.accumulate", "train.precision",
                 "model.grad_checkpointing", "evaluate.batch"):  # fmt: skip
        assert part in done.stdout, done.stdout + done.stderr


def test_readers_change_no_bit(make_lab: MakeLab) -> None:
    """What two jobs give is compared in test_run.py."""
    labs = [make_lab() for _ in range(3)]
    for readers, lab in enumerate(labs):
        (lab.root / "birdlab.local.toml").write_text(f"readers = {readers}\n")
        opened = open_lab(lab.root)
        assert opened.file.readers == readers
        run(opened, {})
    for lab in labs[1:]:
        assert_same_cell(labs[0], lab, {})


def test_what_a_kill_left_of_a_finished_cell_goes_with_the_next_run(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    part = part_folder(lab, cell_of(lab, {"cells.folds": [0]}))
    part.mkdir()
    (part / CHECKPOINT).write_bytes(b"left")
    run(lab, {"cells.seeds": [1], "cells.folds": [0]})
    assert not part.exists()
