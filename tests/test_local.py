"""Child processes of this machine: what they are given, how they end, what that costs."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celltasks import LONG, is_gone, saved_at, tasks_of, wait_until
from conftest import MakeLab

from birdlab.cellfiles import is_finished, part_folder
from birdlab.celljob import load_job
from birdlab.errors import CellError, CellIOError, LostWorkerError, SpecError, StoppedError
from birdlab.lab import Lab
from birdlab.sweep.handle import Child, Outcome
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.messages import (
    decode_error,
    decode_event,
    decode_task,
    encode_error,
    encode_event,
    encode_line,
    encode_task,
)
from birdlab.sweep.slots import Inventory, Slot
from birdlab.tasks import CellTask, Event

REPOSITORY = Path(__file__).parents[1]
Act = Callable[[Event], object]


def when(kind: str, act: Act, events: list[Event]) -> Callable[[Event], None]:
    """An observer that acts once, on the first event of a kind."""

    def observe(event: Event) -> None:
        events.append(event)
        if event.kind == kind and [e.kind for e in events].count(kind) == 1:
            act(event)

    return observe


def pids(events: list[Event]) -> dict[str, int]:
    return {e.cell_id: e.values["pid"] for e in events if e.kind == "placed"}


def finished(lab: Lab, task: CellTask) -> bool:
    return is_finished(lab, load_job(Path(task.job)))


def test_messages_cross_as_plain_data() -> None:
    import numpy as np

    error = SpecError("wrong", where="a.yaml:3", got=["x"], expected="y", fix="z")
    again = decode_error(json.loads(encode_line({"e": encode_error(error)}))["e"])
    assert type(again) is SpecError and str(again) == str(error)
    assert type(decode_error(encode_error(CellIOError("full")))) is CellIOError
    assert type(decode_error({"kind": "annotations", "what": "w"})) is CellError
    assert decode_error(encode_error(None)) is None

    class ExtensionError(CellError):
        pass

    assert type(decode_error(encode_error(ExtensionError("x")))) is CellError
    event = Event("epoch", "c", {"loss": np.float32(0.5), "best": None})
    assert decode_event(json.loads(encode_line(encode_event(event)))) == Event(
        "epoch", "c", {"loss": 0.5, "best": None}
    )
    task = CellTask("c", "t", ("a", "b"), "job", "lab", 2)
    assert decode_task(json.loads(encode_line(encode_task(task)))) == task


def test_children_see_their_gpu_and_threads_and_serve_several_calls(make_lab: MakeLab) -> None:
    """Four finished cells on two declared GPUs that two cells share, then once more: no new child.

    The cells are there, so that children have nothing to train on a GPU that is not.
    """
    lab, events = make_lab(trained=True), list[Event]()
    base = tasks_of(lab)
    tasks = [CellTask(t.cell_id, t.title, (), t.job, t.lab_root, 3) for t in base]
    with LocalExecutor(Inventory(6, ("4", "GPU-x"), 1)) as executor:
        assert executor.execute(tasks, events.append) == {}
        assert executor.execute(tasks, events.append) == {}
    placed = [e.values for e in events if e.kind == "placed"]
    first = sorted((v["gpu"], v["threads"]) for v in placed[:2])
    assert first == [("4", "3"), ("GPU-x", "3")], "either child may be the first to be ready"
    assert {v["pid"] for v in placed[2:]} <= {v["pid"] for v in placed[:2]}
    assert all(is_gone(v["pid"]) for v in placed)
    events.clear()
    with LocalExecutor(Inventory(1)) as executor:
        assert executor.execute([*tasks[:1], *base[1:]], events.append) == {}
    (one, other) = (e.values for e in events if e.kind == "placed")
    assert [(v["gpu"], v["threads"]) for v in (one, other)] == [("", "3"), ("", "1")]
    assert one["pid"] != other["pid"], "other threads need another process"


def test_a_killed_child_costs_its_cell_and_is_replaced(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    tasks = [*tasks_of(lab, {**LONG, "cells.folds": [0]}), tasks_of(lab)[0]]
    dead: list[int] = []

    def kill(event: Event) -> None:
        dead.append(pids(events)[event.cell_id])
        os.kill(dead[0], signal.SIGKILL)

    with LocalExecutor(Inventory(1)) as executor:
        failed = executor.execute(tasks, when("epoch", kill, events))
    assert list(failed) == [tasks[0].cell_id]
    error = failed[tasks[0].cell_id]
    assert type(error) is LostWorkerError
    assert "killed by the kernel: probably out of memory" in str(error)
    assert "SIGKILL" in str(error)
    assert all(finished(lab, task) for task in tasks[1:])
    assert dead[0] not in [pids(events)[task.cell_id] for task in tasks[1:]]
    assert "failed" not in [e.kind for e in events], "whoever calls may try it again"


def test_an_unwanted_cell_is_saved_and_one_that_waits_is_not_begun(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    tasks = tasks_of(lab, LONG)
    gone: set[str] = set()

    def drop(_: Event) -> None:
        gone.update(task.cell_id for task in tasks)

    with LocalExecutor(Inventory(1)) as executor:
        failed = executor.execute(tasks, when("epoch", drop, events), lambda cell: cell not in gone)
    assert {type(error) for error in failed.values()} == {StoppedError}
    assert set(failed) == {task.cell_id for task in tasks}
    assert saved_at(lab, tasks[0].cell_id)["epoch"] >= 1
    assert not part_folder(lab, tasks[1].cell_id).exists()
    assert "failed" not in [e.kind for e in events]


@pytest.mark.slow
def test_a_child_that_someone_else_stops_is_a_lost_worker(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    (task,) = tasks_of(lab, {**LONG, "cells.folds": [0]})

    def terminate(_: Event) -> None:
        os.kill(pids(events)[task.cell_id], signal.SIGTERM)

    with LocalExecutor(Inventory(1)) as executor:
        failed = executor.execute([task], when("epoch", terminate, events))
    assert type(failed[task.cell_id]) is LostWorkerError
    assert [e.values["at"] for e in events if e.kind == "stopped"]


def test_ctrl_c_saves_and_leaves_no_process(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    tasks = tasks_of(lab, LONG)

    def press(_: Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), LocalExecutor(Inventory(2), jobs=1) as executor:
        executor.execute(tasks, when("epoch", press, events))
    assert [e.kind for e in events].count("stopped") == 1
    assert all(is_gone(pid) for pid in pids(events).values())
    assert [e.kind for e in events if e.kind == "failed"] == []


@pytest.mark.parametrize(
    "raised",
    [OSError("no room"), pytest.param(KeyboardInterrupt(), marks=pytest.mark.crash)],
)
def test_whoever_listens_may_break_and_cells_are_saved(
    make_lab: MakeLab, raised: BaseException
) -> None:
    """The outcome of the first cell is heard together with the event that breaks the listener."""
    lab, events = make_lab(), list[Event]()
    tasks = [tasks_of(lab)[0], *tasks_of(lab, {**LONG, "cells.folds": [0]})]

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "evaluate":
            time.sleep(2)
        if event.kind == "done":
            raise raised

    with pytest.raises(type(raised)), LocalExecutor(Inventory(2)) as executor:
        executor.execute(tasks, listen)
    assert [e.cell_id for e in events if e.kind == "stopped"] == [tasks[1].cell_id]
    saved_at(lab, tasks[1].cell_id)


@pytest.mark.crash  # test_crash kills a driver of a whole sweep in every run of the tests
def test_the_driver_dies_and_so_do_its_children_at_once(make_lab: MakeLab) -> None:
    lab = make_lab()
    tasks_of(lab, LONG)
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
        "from celltasks import LONG, printed, tasks_of\n"
        "from birdlab.lab import open_lab\n"
        "from birdlab.sweep.local import LocalExecutor\n"
        "from birdlab.sweep.slots import Inventory\n"
        f"tasks = tasks_of(open_lab({str(lab.root)!r}), {{**LONG, 'cells.folds': [0]}})\n"
        "with LocalExecutor(Inventory(1)) as executor:\n"
        "    executor.execute(tasks, lambda e: print(printed(e), flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as driver:
        assert driver.stdout is not None
        told: list[dict[str, Any]] = []
        for line in driver.stdout:
            told.append(json.loads(line))
            if told[-1]["kind"] == "start":
                driver.kill()
                break
        driver.wait()
        wait_until(lambda: is_gone(told[0]["pid"]), seconds=5)
    assert told[0]["kind"] == "placed"


@pytest.mark.slow
def test_a_child_that_hears_nothing_saves_its_cell_and_ends(make_lab: MakeLab) -> None:
    """The parent is alive and says nothing more, as one that hangs."""
    lab = make_lab()
    (task,) = tasks_of(lab, {**LONG, "cells.folds": [0]})
    child = subprocess.Popen(
        [sys.executable, "-m", "birdlab.sweep.child", "6"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(encode_line({"task": encode_task(task)}))
        child.stdin.flush()
        told = [json.loads(line) for line in child.stdout]
        assert child.wait(timeout=30) == 0
    assert told[-1] == {"stopped": task.cell_id}
    kinds = [m["event"]["kind"] for m in told[:-1]]
    assert kinds[0] == "placed" and "epoch" in kinds and kinds[-1] == "stopped"
    saved_at(lab, task.cell_id)


def test_pings_keep_a_child_and_prints_do_not_disturb_it(make_lab: MakeLab) -> None:
    """An extension prints when it is loaded and starts a process that prints; a lease goes by."""
    lab = make_lab(trained=True)
    (lab.root / "loud.py").write_text(
        "import os, sys, time\nprint('{\"result\": 1}', flush=True)\nos.system('echo loud')\n"
        "sys.stdin.read()\ntime.sleep(4)\n"
    )
    (lab.root / "birdlab.local.toml").write_text('extensions = ["loud.py"]\n')
    task = tasks_of_trained(lab)
    inbox: Any = queue.SimpleQueue()
    child = Child(Slot(0).environment(1), inbox, lease_s=3.0)
    child.begin(task)
    told = []
    while not isinstance(said := inbox.get(timeout=60)[1], Outcome):
        told.append(said.kind)
    assert said == Outcome(task.cell_id)
    assert told == ["placed", "evaluate", "done"] or told == ["placed", "done"]
    child.close()
    assert inbox.get(timeout=10)[1] is None
    child.begin(task)
    lost = inbox.get(timeout=10)[1]
    assert type(lost.error) is LostWorkerError, "a child that is gone takes no cell silently"


def tasks_of_trained(lab: Lab) -> CellTask:
    return tasks_of(lab)[0]
