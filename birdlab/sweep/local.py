"""Cells in processes of this machine: one long-lived child per slot."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

from birdlab.errors import BirdlabError
from birdlab.sweep.backlog import drain
from birdlab.sweep.handle import LEASE_S, Child, Inbox, Outcome
from birdlab.sweep.slots import FreeSlots, Inventory, Slot
from birdlab.tasks import CellTask, Event, wanted


class LocalExecutor:
    """Finishes cells in child processes, which live until the context manager is left.

    A child that dies (out of memory, a crash in native code) costs the cell it worked on and is
    replaced. Children end with the driver, also when it is killed.
    """

    outlives_driver = False

    def __init__(
        self, inventory: Inventory, jobs: int | None = None, *, lease_s: float = LEASE_S
    ) -> None:
        self._free, self._lease_s = FreeSlots(inventory, jobs), lease_s
        self._inbox: Inbox = queue.SimpleQueue()
        self._children: dict[Slot, Child] = {}
        self._at_work: dict[str, Slot] = {}

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """See Executor and `drain`."""
        return drain(tasks, emit, wanted, self)

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        for child in list(self._children.values()):
            self._gone(child)

    def begin(self, tasks: Sequence[CellTask]) -> list[CellTask]:
        """See Engine."""
        begun = []
        for task in tasks:
            warm = [s for s, child in self._children.items() if child.threads == task.threads]
            slot = self._free.take(task.threads, warm)
            if slot is not None:
                self._at_work[task.cell_id] = slot
                self._child(slot, task.threads).begin(task)
                begun.append(task)
        return begun

    def stop(self, cell_id: str) -> None:
        """See Engine."""
        self._children[self._at_work[cell_id]].stop()

    def hear(self, timeout_s: float) -> list[Event | Outcome]:
        """See Engine."""
        told: list[Event | Outcome] = []
        try:
            while True:
                child, said = self._inbox.get(timeout=0 if told else timeout_s)
                if said is None:
                    self._gone(child)
                    continue
                if isinstance(said, Outcome) and not child.is_leaving:
                    self._free.give_back(self._at_work.pop(said.cell_id))
                told.append(said)
        except queue.Empty:
            return told

    def kill(self) -> None:
        """See Engine."""
        for child in self._children.values():
            child.kill()

    def _child(self, slot: Slot, threads: int) -> Child:
        """The child of a slot; a new one where it has none, or one with other threads."""
        child = self._children.get(slot)
        if child is not None and (child.threads != threads or child.is_leaving):
            child.close()
            child = None
        if child is None:
            environment = slot.environment(threads)
            child = Child(environment, self._inbox, threads=threads, lease_s=self._lease_s)
            self._children[slot] = child
        return child

    def _gone(self, child: Child) -> None:
        """Forget a child whose process has ended; only now is its share of a GPU free."""
        child.close()
        slot = next((s for s, c in self._children.items() if c is child), None)
        if slot is None:
            return
        del self._children[slot]
        cell_id = next((c for c, s in self._at_work.items() if s == slot), None)
        if cell_id is not None:
            del self._at_work[cell_id]
            self._free.give_back(slot)
