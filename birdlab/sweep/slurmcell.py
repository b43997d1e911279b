"""What a SLURM job runs: one cell in a child process; told and saved in a folder of the cell."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path
from typing import Any

from birdlab.lab import write_whole
from birdlab.sweep.handle import Child, Outcome
from birdlab.sweep.messages import decode_task, encode_error, encode_event, encode_line
from birdlab.sweep.slots import Slot
from birdlab.tasks import Event

TASK, EVENTS, RESULT, STOP = "task.json", "events.jsonl", "result.json", "stop"
_POLL_S = 1.0


class SlurmCell:
    """A callable that finishes the cell of a folder; submitit has it checkpoint before the limit.

    Events are appended to the folder's `events.jsonl`, and how the cell ended goes into
    `result.json`. A file `stop` in the folder has the cell saved. Nothing of it is in memory, so
    what goes back into the queue is the name of the folder.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._child: Child | None = None

    def __call__(self) -> None:
        """Finish the cell."""
        place = Path(self.place)
        task = decode_task(json.loads((place / TASK).read_text()))
        self._inbox: Any = queue.SimpleQueue()
        slot = Slot(0, os.environ.get("CUDA_VISIBLE_DEVICES") or None)
        with (place / EVENTS).open("ab") as self._events:
            child = Child(slot.environment(task.threads), self._inbox, threads=task.threads)
            self._child = child
            try:
                child.begin(task)
                outcome = self._hear(place, child)
            finally:
                child.close()
        write_whole(place / RESULT, json.dumps({"error": encode_error(outcome.error)}))

    def checkpoint(self) -> Any:
        """The same once more, after the cell is saved: what submitit puts back into the queue."""
        from submitit.helpers import DelayedSubmission

        if self._child is not None:
            self._child.stop()
            while self._next() is not None or self._child.process.poll() is None:
                pass
        return DelayedSubmission(SlurmCell(self.place))

    def _hear(self, place: Path, child: Child) -> Outcome:
        while not isinstance(said := self._next(), Outcome):
            if (place / STOP).exists() and not child.is_leaving:
                child.stop()
        return said

    def _next(self) -> Event | Outcome | None:
        """What the child says next, noted where it is an event; None for a while of silence."""
        try:
            said: Event | Outcome | None = self._inbox.get(timeout=_POLL_S)[1]
        except queue.Empty:
            return None
        if isinstance(said, Event):
            self._events.write(encode_line(encode_event(said)))
            self._events.flush()
        return said
