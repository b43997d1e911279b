"""Cells on the workers of a Dask cluster: the driver places them, and alone writes."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from birdlab.errors import BirdlabError, LabError, LostWorkerError
from birdlab.lab import Lab
from birdlab.sweep.backlog import drain
from birdlab.sweep.daskchecks import check_address, worker_inventory
from birdlab.sweep.daskworker import describe_worker, run_cell, stop_cell
from birdlab.sweep.handle import Outcome
from birdlab.sweep.messages import decode_error, decode_event, encode_task
from birdlab.sweep.slots import FreeSlots, Slot
from birdlab.tasks import CellTask, Event, wanted

CONNECT_S = 30.0
WORKERS_S = 120.0
"""Without a worker for so long the command gives up; cells go on with the next one."""
_LOOK_S = 1.0
_RESULT_S = 30.0


@dataclass(frozen=True, eq=False)
class _Placed:
    """A cell at work: its task in the cluster, on which worker, in which of its slots.

    ledger: the slots of the worker as it was then; one that left and came back has others.
    """

    future: Any
    address: str
    ledger: FreeSlots
    slot: Slot


class DaskExecutor:
    """Finishes cells on the workers of a running Dask cluster, at most `jobs` at once.

    Workers declare what cells may use: `--resources cores=4`, `GPU=1`. Each keeps a child process
    per slot. A worker that is lost costs the cells that it worked on; new workers join.
    """

    outlives_driver = False

    def __init__(
        self, lab: Lab, address: str, jobs: int | None = None, *, insecure: bool = False
    ) -> None:
        self.lab, self.address, self.jobs = lab, address, jobs
        self._security = check_address(address, insecure=insecure)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._topic, self._numbers = f"birdlab-{uuid4().hex}", itertools.count()
        self._ledgers: dict[str, FreeSlots] = {}
        self._at_work: dict[str, _Placed] = {}
        self._n_events: dict[str, int] = {}
        self._looked_at = self._seen_at = 0.0

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """See Executor and `drain`. Raises LabError where workers do not fit or do not come."""
        return drain(tasks, emit, wanted, self)

    def __enter__(self) -> DaskExecutor:
        from distributed import Client

        try:
            self._client = Client(
                self.address, security=self._security, set_as_default=False, timeout=CONNECT_S
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise LabError(
                "no Dask scheduler answers",
                where=self.address,
                got=str(error),
                fix="start one (docs/cluster.md), or correct --scheduler",
            ) from None
        self._client.subscribe_topic(self._topic, lambda event: self._inbox.put(event[1]))
        self._seen_at = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def begin(self, tasks: Sequence[CellTask]) -> list[CellTask]:
        """See Engine."""
        self._look_for_workers()
        begun = []
        for task in tasks:
            if self.jobs is not None and len(self._at_work) >= self.jobs:
                break
            for address, ledger in self._idlest():
                slot = ledger.take(task.threads)
                if slot is not None:
                    self._submit(task, address, slot)
                    begun.append(task)
                    break
        return begun

    def stop(self, cell_id: str) -> None:
        """See Engine."""
        self._tell_worker(cell_id)

    def hear(self, timeout_s: float) -> list[Event | Outcome]:
        """See Engine."""
        told: list[Event | Outcome] = []
        with suppress(queue.Empty):
            while True:
                said = self._inbox.get(timeout=0 if told else timeout_s)
                if isinstance(said, Mapping):
                    told += self._new_event(said)
                else:
                    told += self._ended(*said)
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._look_for_workers()
            told += self._lost_cells()
        return told

    def kill(self) -> None:
        """See Engine. A scheduler that is gone is told nothing: its workers end their cells."""
        for cell_id, placed in self._at_work.items():
            with suppress(LabError):
                self._tell_worker(cell_id, at_once=True)
                placed.future.cancel()

    def _idlest(self) -> list[tuple[str, FreeSlots]]:
        """The workers with the most free cores first; with GPUs only, where any has some."""
        has_gpus = any(ledger.has_gpus for ledger in self._ledgers.values())
        fit = [pair for pair in self._ledgers.items() if pair[1].has_gpus == has_gpus]
        return sorted(fit, key=lambda pair: -pair[1].cores_left)

    def _submit(self, task: CellTask, address: str, slot: Slot) -> None:
        per_gpu, ledger = self.lab.file.cells_per_gpu, self._ledgers[address]
        asked = {"cores": float(min(task.threads, ledger.cores))}
        if slot.gpu is not None:
            asked["GPU"] = 1 / per_gpu
        future = self._client.submit(
            run_cell,
            encode_task(task),
            self._topic,
            per_gpu,
            key=f"{task.cell_id}-{next(self._numbers)}-{self._topic[-8:]}",
            workers=[address],
            resources=asked,
            pure=False,
        )
        self._at_work[task.cell_id] = _Placed(future, address, ledger, slot)
        self._n_events[task.cell_id] = 0
        future.add_done_callback(lambda done: self._inbox.put((task.cell_id, done)))

    def _new_event(self, said: Mapping[str, Any]) -> list[Event]:
        """An event of a cell at work; none where its result has told it already."""
        if said["cell_id"] not in self._n_events:
            return []
        self._n_events[said["cell_id"]] += 1
        return [decode_event(said["event"])]

    def _ended(self, cell_id: str, future: Any) -> list[Event | Outcome]:
        """What is left to tell of a cell whose task has ended."""
        if cell_id not in self._at_work or self._at_work[cell_id].future is not future:
            return []
        told: list[Event | Outcome] = []
        try:
            result = future.result(timeout=_RESULT_S)
        except BirdlabError as raised:
            error: BirdlabError | None = raised
        except Exception as raised:  # whatever the cluster lost: its worker, the result
            error = LostWorkerError(
                "a Dask worker lost a cell", got=f"{type(raised).__name__}: {raised}"
            )
        else:
            error = decode_error(result["error"])
            told += [decode_event(e) for e in result["events"][self._n_events[cell_id] :]]
        self._forget(cell_id)
        return [*told, Outcome(cell_id, error)]

    def _forget(self, cell_id: str) -> None:
        placed = self._at_work.pop(cell_id)
        del self._n_events[cell_id]
        placed.future.release()
        placed.ledger.give_back(placed.slot)

    def _look_for_workers(self) -> None:
        """Take in workers that joined, forget those that left; LabError when none is there."""
        self._looked_at = time.monotonic()
        try:  # scheduler_info() answers from a cache that now and then holds no worker
            found = self._client.sync(self._client.scheduler.identity, n_workers=-1)["workers"]
        except (OSError, TimeoutError, ValueError) as error:
            raise self._gone(error) from None
        if found:
            self._seen_at = self._looked_at
        elif self._looked_at - self._seen_at > WORKERS_S:
            raise LabError(
                "the Dask cluster has no worker",
                where=self.address,
                fix=f"dask worker {self.address} --resources cores=4",
            )
        for address in self._ledgers.keys() - found.keys():
            del self._ledgers[address]
        for address in found.keys() - self._ledgers.keys():
            answer = self._ask(address)
            if answer is not None:
                self._ledgers[address] = FreeSlots(
                    worker_inventory(
                        address,
                        found[address]["resources"],
                        answer,
                        self.lab.file.cells_per_gpu,
                    )
                )

    def _ask(self, address: str) -> Any:
        """How a worker describes itself, or its error; None for one that is just leaving."""
        try:
            answers = self._client.run(
                describe_worker, str(self.lab.root), workers=[address], on_error="return"
            )
        except (OSError, TimeoutError, ValueError):
            return None
        answer = answers.get(address)
        return None if isinstance(answer, OSError) else answer

    def _lost_cells(self) -> list[Outcome]:
        """The cells whose worker is gone, or was."""
        lost = []
        for cell_id, placed in list(self._at_work.items()):
            if self._ledgers.get(placed.address) is not placed.ledger:
                placed.future.cancel()
                self._forget(cell_id)
                error = LostWorkerError("a Dask worker was lost", where=placed.address)
                lost.append(Outcome(cell_id, error))
        return lost

    def _tell_worker(self, cell_id: str, *, at_once: bool = False) -> None:
        if cell_id in self._at_work:
            address = self._at_work[cell_id].address
            try:
                self._client.run(
                    stop_cell, cell_id, at_once=at_once, workers=[address], on_error="ignore",
                    wait=False,
                )  # fmt: skip
            except (OSError, TimeoutError, ValueError) as error:
                raise self._gone(error) from None

    def _gone(self, error: Exception) -> LabError:
        return LabError(
            "the Dask scheduler is gone",
            where=self.address,
            got=str(error),
            fix="start it again and type the command again: finished cells are kept",
        )
