"""A Dask cluster of two worker processes with different resources: the same cells, kept alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from celltasks import LONG, is_gone, saved_at, tasks_of, wait_until
from conftest import MakeLab
from daskcluster import Cluster
from test_local import pids, when

from birdlab.errors import LabError, LostWorkerError, StoppedError
from birdlab.lab import Lab
from birdlab.sweep.daskchecks import check_address, worker_inventory
from birdlab.sweep.daskengine import DaskExecutor, _Placed
from birdlab.sweep.slots import FreeSlots, Inventory
from birdlab.tasks import Event

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        made.start_scheduler()
        made.start_worker(1)
        made.start_worker(2)
        yield made
    finally:
        made.end()


def test_cells_run_within_what_workers_declare(make_lab: MakeLab, cluster: Cluster) -> None:
    """Cells that are there already, twice."""
    lab, events = make_lab(trained=True), list[Event]()
    tasks = tasks_of(lab)
    with DaskExecutor(lab, cluster.address) as executor:
        executor._client.wait_for_workers(2)
        assert executor.execute(tasks, events.append) == {}
        assert executor.execute(tasks, events.append) == {}
    assert [e.kind for e in events if e.cell_id == tasks[0].cell_id] == ["placed", "done"] * 2
    assert len(set(pids(events).values())) <= 3, "children are kept between cells"
    assert {e.values["gpu"] for e in events if e.kind == "placed"} == {""}


def test_a_killed_worker_costs_its_cells_and_others_are_saved(
    make_lab: MakeLab, cluster: Cluster
) -> None:
    """The worker of the first cell that trains is killed; then nobody wants the others any more."""
    lab, events = make_lab(), list[Event]()
    tasks = tasks_of(lab, {**LONG, "cells": {"folds": [0, 1], "seeds": [0, 1]}})[:3]
    lost: set[str] = set()
    unwanted: set[str] = set()

    def emit(event: Event) -> None:
        events.append(event)
        if event.kind == "epoch" and not lost and len(pids(events)) == 3:
            worker = parent(pids(events)[event.cell_id])
            lost.update(c for c, pid in pids(events).items() if parent(pid) == worker)
            os.kill(worker, signal.SIGKILL)
        elif event.kind == "epoch" and event.cell_id not in lost:
            unwanted.add(event.cell_id)

    with DaskExecutor(lab, cluster.address) as executor:
        executor._client.wait_for_workers(2)
        failed = executor.execute(tasks, emit, lambda cell: cell not in unwanted)
    assert {type(failed[c]) for c in lost} == {LostWorkerError}
    assert unwanted == {t.cell_id for t in tasks} - lost
    assert {type(failed[c]) for c in unwanted} == {StoppedError}
    assert {e.cell_id for e in events if e.kind == "stopped"} == unwanted
    for cell_id in unwanted:
        assert saved_at(lab, cell_id)["epoch"] >= 1
    for cell_id in lost:
        wait_until(lambda cell_id=cell_id: is_gone(pids(events)[cell_id]), seconds=5)
    (rest,) = (p for p in cluster.processes[1:] if p.poll() is None)
    assert rest.pid != parent(pids(events)[next(iter(lost))])


def parent(pid: int) -> int:
    """The process that started another one; 0 when that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
def test_ctrl_c_saves_cells_on_workers(make_lab: MakeLab, cluster: Cluster) -> None:
    lab, events = make_lab(), list[Event]()
    (task,) = tasks_of(lab, {**LONG, "cells.folds": [0]})
    press = when("epoch", lambda _: os.kill(os.getpid(), signal.SIGINT), events)
    with pytest.raises(KeyboardInterrupt), DaskExecutor(lab, cluster.address, jobs=1) as executor:
        executor.execute([task], press)
    assert [e.kind for e in events].count("stopped") == 1
    assert "failed" not in [e.kind for e in events]


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_cell_at_work(
    make_lab: MakeLab, cluster: Cluster
) -> None:
    lab = make_lab()
    (task,) = tasks_of(lab, {**LONG, "cells.folds": [0]})
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
        "from celltasks import LONG, printed, tasks_of\n"
        "from birdlab.lab import open_lab\n"
        "from birdlab.sweep.daskengine import DaskExecutor, _Placed\n"
        f"lab = open_lab({str(lab.root)!r})\n"
        f"with DaskExecutor(lab, {cluster.address!r}) as executor:\n"
        "    executor.execute(\n"
        "        tasks_of(lab, {**LONG, 'cells.folds': [0]}),\n"
        "        lambda e: print(printed(e), flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as driver:
        assert driver.stdout is not None
        told = []
        for line in driver.stdout:
            told.append(json.loads(line))
            if told[-1]["kind"] == "epoch":
                driver.kill()
                break
        driver.wait()
    wait_until(lambda: is_gone(told[0]["pid"]), seconds=10)
    assert saved_at(lab, task.cell_id)["epoch"] >= 1


def test_a_scheduler_elsewhere_needs_tls_or_an_explicit_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert check_address("tcp://127.0.0.1:1", insecure=False) is None
    assert check_address("tcp://10.0.0.1:1", insecure=True) is None
    with pytest.raises(LabError, match="needs TLS"):
        check_address("tcp://10.0.0.1:1", insecure=False)
    for wrong in ("10.0.0.1:8786", "http://x", "tcp://"):
        with pytest.raises(LabError, match="no address"):
            check_address(wrong, insecure=True)
    with pytest.raises(LabError, match="certificate"):
        check_address("tls://10.0.0.1:1", insecure=False)
    import dask

    files = {n: str(tmp_path / n) for n in ("ca", "cert", "key")}
    names = {"ca-file": "ca", "client.cert": "cert", "client.key": "key"}
    tls = {f"distributed.comm.tls.{name}": files[file] for name, file in names.items()}
    with dask.config.set(tls):
        security = check_address("tls://10.0.0.1:1", insecure=False)
    assert security.require_encryption and security.tls_ca_file == files["ca"]


def test_a_worker_that_does_not_fit_is_refused_in_words() -> None:
    import birdlab

    fits = {"version": birdlab.__version__, "lab": True, "gpus": 0}
    assert worker_inventory("w", {"cores": 4}, fits, 2) == Inventory(4, (), 2)
    two = worker_inventory("w", {"cores": 4, "GPU": 2}, {**fits, "gpus": 2}, 1)
    assert len(two.slots()) == 2
    for resources, answer, match in (
        ({}, fits, "declares no cores"),
        ({"cores": 1, "GPU": 1}, fits, "other GPUs"),
        ({"cores": 1}, {**fits, "lab": False}, "does not see the lab"),
        ({"cores": 1}, {**fits, "version": "0"}, "another version"),
        ({"cores": 1}, ImportError("no birdlab"), "cannot run birdlab"),
    ):
        with pytest.raises(LabError, match=match):
            worker_inventory("w", resources, answer, 1)


def test_a_worker_that_left_and_came_back_has_lost_its_cells(tmp_path: Path) -> None:
    class Future:
        """A task of the cluster that is only taken back."""

        taken_back: ClassVar[list[str]] = []

        def cancel(self) -> None:
            self.taken_back.append("cancelled")

        def release(self) -> None:
            self.taken_back.append("released")

    executor = DaskExecutor(Lab(tmp_path), "tcp://127.0.0.1:8786")
    before, now = FreeSlots(Inventory(1)), FreeSlots(Inventory(1))
    slot = before.take(1)
    assert slot is not None
    executor._at_work["c"], executor._n_events["c"] = _Placed(Future(), "w", before, slot), 0
    executor._ledgers["w"] = before
    assert executor._lost_cells() == []
    executor._ledgers["w"] = now
    (lost,) = executor._lost_cells()
    assert lost.cell_id == "c" and isinstance(lost.error, LostWorkerError)
    assert Future.taken_back == ["cancelled", "released"]
    assert now.take(1) == slot and executor._lost_cells() == []
