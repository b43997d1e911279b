"""What a SLURM job runs: one cell in a child process; told and saved in a folder of the cell."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path
from typing import IO, Any

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

    def __call__(self) -> None:
        """Finish the cell."""
        place = Path(self.place)
        task = decode_task(json.loads((place / TASK).read_text()))
        self._inbox: Any = queue.SimpleQueue()
        slot = Slot(0, os.environ.get("CUDA_VISIBLE_DEVICES") or None)
        self._child = Child(slot.environment(task.threads), self._inbox, threads=task.threads)
        try:
            with (place / EVENTS).open("ab") as self._events:
                self._child.begin(task)
                outcome = self._hear(place)
            error = encode_error(outcome.error)
            write_whole(place / RESULT, json.dumps({"error": error}))
        finally:
            self._child.close()

    def checkpoint(self) -> Any:
        """The same once more, after the cell is saved: what submitit puts back into the queue."""
        from submitit.helpers import DelayedSubmission

        self._child.stop()
        self._child.process.wait()
        while self._child.is_talking or not self._inbox.empty():
            _note(self._events, self._inbox.get()[1])
        return DelayedSubmission(SlurmCell(self.place))

    def _hear(self, place: Path) -> Outcome:
        while True:
            try:
                said = self._inbox.get(timeout=_POLL_S)[1]
            except queue.Empty:
                said = None
            if isinstance(said, Outcome):
                return said
            _note(self._events, said)
            if (place / STOP).exists() and not self._child.is_leaving:
                self._child.stop()


def _note(file: IO[bytes], said: Event | Outcome | None) -> None:
    if isinstance(said, Event):
        file.write(encode_line(encode_event(said)))
        file.flush()
