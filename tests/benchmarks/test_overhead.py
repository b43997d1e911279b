"""What an executor costs a cell: 200 cells whose training is a no-op, since they are there."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celltasks import tasks_of
from conftest import MakeLab
from daskcluster import Cluster
from rows import Row, note

from birdlab.lab import Lab
from birdlab.sweep.daskengine import DaskExecutor
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import Inventory
from birdlab.tasks import CellTask, Event, Executor

N = 200


def finished_tasks(lab: Lab, n: int) -> list[CellTask]:
    """Tasks of `n` cells that are all finished: one trained cell under many ids."""
    first = tasks_of(lab)[0]
    job, tasks = Path(first.job), list[CellTask]()
    for number in range(n):
        cell_id = f"{first.cell_id[:-4]}{number:04x}"
        shutil.copytree(lab.cells / first.cell_id, lab.cells / cell_id, copy_function=os.link)
        folder = job.with_name(cell_id)
        shutil.copytree(job, folder, copy_function=os.link)
        content = json.loads((job / "job.json").read_text()) | {"cell_id": cell_id}
        (folder / "job.json").unlink()
        (folder / "job.json").write_text(json.dumps(content))
        tasks.append(replace(first, cell_id=cell_id, job=str(folder)))
    return tasks


def overhead_ms(
    benchmark: Any, executor: Executor, tasks: list[CellTask], warm: int, where: str, most: int
) -> float:
    """Milliseconds a cell once children are warm; every cell is done and told.

    `where` they run and the `most` it may cost are told on the page of benchmarks.
    """
    with executor:
        assert executor.execute(tasks[:warm], lambda _: None) == {}
        events: list[Event] = []
        began = time.perf_counter()
        rest = tasks[warm:]
        assert benchmark.pedantic(executor.execute, (rest, events.append), rounds=1) == {}
        seconds = time.perf_counter() - began
    assert [e.kind for e in events].count("done") == len(rest) == N
    benchmark.extra_info["ms_per_cell"] = cost = 1000 * seconds / N
    what = f"what a cell costs the driver, 200 cells without training, {where}"
    row = Row("Sweeps", what, f"{cost:.1f} ms", asked=f"at most {most} ms", held=cost < most)
    note(benchmark, row)
    print(f"\n{type(executor).__name__}: {cost:.1f} ms a cell, {N} cells")
    return cost


@pytest.mark.parametrize("slots", [1, 2])
def test_a_cell_costs_30_ms_in_child_processes(
    benchmark: Any, make_lab: MakeLab, slots: int
) -> None:
    tasks = finished_tasks(make_lab(trained=True), N + 2)
    executor = LocalExecutor(Inventory(slots))
    where = "one child" if slots == 1 else f"{slots} children"
    assert overhead_ms(benchmark, executor, tasks, 2, where, 30) < 30


def test_a_cell_costs_100_ms_on_two_dask_workers(
    benchmark: Any, make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(trained=True)
    tasks = finished_tasks(lab, N + 4)
    cluster = Cluster(tmp_path)
    try:
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker(1)
        executor = DaskExecutor(lab, cluster.address)
        assert overhead_ms(benchmark, executor, tasks, 4, "2 Dask workers", 100) < 100
    finally:
        cluster.end()
