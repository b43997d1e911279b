"""What runs inside a Dask worker: one long-lived child process per slot, kept between cells."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import birdlab
from birdlab.errors import LabError
from birdlab.sweep.handle import Child, Inbox, Outcome
from birdlab.sweep.messages import decode_task, encode_error, encode_event
from birdlab.sweep.slots import FreeSlots, Inventory, Slot, find_gpus
from birdlab.tasks import CellTask, Event

_POLL_S = 0.5


@dataclass
class _Place:
    """A child of this worker and what it says."""

    child: Child
    inbox: Inbox


@dataclass
class _Pool:
    """The children of this worker process by slot, and the cells at work."""

    free: FreeSlots
    places: dict[Slot, _Place] = field(default_factory=dict)
    at_work: dict[str, Child] = field(default_factory=dict)

    def place(self, slot: Slot, threads: int) -> _Place:
        """The child of a slot; a new one where it has none that lives and fits."""
        place = self.places.get(slot)
        if place is not None and (place.child.is_leaving or place.child.threads != threads):
            place.child.close()
            place = None
        if place is None:
            inbox: Inbox = queue.SimpleQueue()
            place = _Place(Child(slot.environment(threads), inbox, threads=threads), inbox)
            self.places[slot] = place
        return place


_lock = threading.Lock()
_pools: dict[int, _Pool] = {}
"""By how many cells share a GPU; one in practice."""


def describe_worker(lab_root: str) -> dict[str, Any]:
    """What a driver checks before it sends a cell: birdlab's version, the lab, the GPUs."""
    return {
        "version": birdlab.__version__,
        "lab": Path(lab_root).is_dir(),
        "gpus": len(find_gpus()),
    }


def run_cell(data: dict[str, Any], topic: str, cells_per_gpu: int) -> dict[str, Any]:
    """Finish a cell in a child of this worker; its error as data, and all its events.

    Events are also told under `topic` as they happen. A cell whose driver is gone is saved.
    """
    from distributed import get_worker

    worker, task = get_worker(), decode_task(data)
    key = worker.get_current_task()
    pool, slot, place = _take(worker, task, cells_per_gpu)
    events: list[dict[str, Any]] = []
    try:
        place.child.begin(task)
        while not isinstance(said := _next(place.inbox), Outcome):
            if isinstance(said, Event):
                events.append(encode_event(said))
                worker.log_event(topic, {"cell_id": task.cell_id, "event": events[-1]})
            if _is_cancelled(worker, key) and not place.child.is_leaving:
                place.child.stop()
        return {"error": encode_error(said.error), "events": events}
    finally:
        with _lock:
            del pool.at_work[task.cell_id]
            if place.child.is_leaving:
                pool.places.pop(slot).child.close()
            pool.free.give_back(slot)


async def stop_cell(cell_id: str, *, at_once: bool = False) -> None:
    """Have a cell of this worker saved, or ended at once; nothing where it is not at work."""
    for pool in _pools.values():
        child = pool.at_work.get(cell_id)
        if child is not None:
            child.kill() if at_once else child.stop()


def _take(worker: Any, task: CellTask, cells_per_gpu: int) -> tuple[_Pool, Slot, _Place]:
    with _lock:
        if cells_per_gpu not in _pools:
            cores = int(worker.state.total_resources.get("cores", worker.state.nthreads))
            gpus = find_gpus() if "GPU" in worker.state.total_resources else ()
            _pools[cells_per_gpu] = _Pool(FreeSlots(Inventory(cores, gpus, cells_per_gpu)))
        pool = _pools[cells_per_gpu]
        warm = [s for s, place in pool.places.items() if place.child.threads == task.threads]
        slot = pool.free.take(task.threads, warm)
        if slot is None:
            raise LabError(
                "a Dask worker was given more cells than it has room for",
                fix="start workers with the resources that docs/cluster.md names",
            )
        place = pool.place(slot, task.threads)
        pool.at_work[task.cell_id] = place.child
        return pool, slot, place


def _next(inbox: Inbox) -> Event | Outcome | None:
    """What the child says next; None when it said nothing for a while."""
    try:
        return inbox.get(timeout=_POLL_S)[1]
    except queue.Empty:
        return None


def _is_cancelled(worker: Any, key: str) -> bool:
    """Whether the scheduler has withdrawn a task, as it does when its driver is gone."""
    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled"
