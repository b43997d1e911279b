"""The parent's side of a child process: start it, give it a cell, hear how it ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import birdlab
from birdlab.errors import BirdlabError, LostWorkerError
from birdlab.sweep.messages import decode_error, decode_event, encode_line, encode_task
from birdlab.tasks import CellTask, Event, stopped

LEASE_S = 60.0
"""A child that hears nothing for so long saves its cell and ends."""
_PINGS = 6
_LAST_WORDS_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: finished where there is no error; a StoppedError where it was saved."""

    cell_id: str
    error: BirdlabError | None = None


class Child:
    """A child process and what it works on.

    What it says comes into `inbox` as (child, message), from a thread of its own: an Event, an
    Outcome, or None when the process is gone.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        inbox: Inbox,
        *,
        threads: int = 1,
        lease_s: float = LEASE_S,
    ) -> None:
        self.threads, self.is_leaving = threads, False
        self._inbox, self._lease_s, self._lock = inbox, lease_s, threading.Lock()
        self._gone = threading.Event()
        self._task: CellTask | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "birdlab.sweep.child", str(lease_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_importable({**os.environ, **environment}),
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        for loop in (self._await_end, self._ping):
            threading.Thread(target=loop, daemon=True).start()

    def begin(self, task: CellTask) -> None:
        """Have it finish a cell."""
        with self._lock:
            is_gone = self._gone.is_set()
            self._task = None if is_gone else task
        if is_gone:
            self._lose(task)
        else:
            self._send({"task": encode_task(task)})

    def stop(self) -> None:
        """Have it save the cell it works on, and end."""
        self.is_leaving = True
        self._send({"stop": True})

    def kill(self) -> None:
        """End it at once."""
        self.is_leaving = True
        self.process.kill()

    def close(self) -> None:
        """End it at once, and wait until it is gone."""
        self.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with self._lock, suppress(OSError, ValueError):  # its end is told by `_await_end`
            self.process.stdin.write(encode_line(message))
            self.process.stdin.flush()

    def _ping(self) -> None:
        while not self._gone.wait(self._lease_s / _PINGS):
            self._send({"ping": True})

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" in message:
                self._inbox.put((self, decode_event(message["event"])))
            else:
                self._tell(message)

    def _tell(self, message: Mapping[str, Any]) -> None:
        task, self._task = self._task, None
        assert task is not None
        error: BirdlabError | None
        if "stopped" in message:
            self.is_leaving = True
            error = stopped(task)
        else:
            error = decode_error(message["result"]["error"])
        self._inbox.put((self, Outcome(task.cell_id, error)))

    def _await_end(self) -> None:
        self.process.wait()
        self._listener.join(_LAST_WORDS_S)
        with self._lock:
            self._gone.set()
            self.is_leaving = True
            task, self._task = self._task, None
        if task is not None:
            self._lose(task)
        self._inbox.put((self, None))

    def _lose(self, task: CellTask) -> None:
        error = lost_worker(task, self.process.returncode)
        self._inbox.put((self, Outcome(task.cell_id, error)))


Inbox = queue.SimpleQueue[tuple[Child, Event | Outcome | None]]
"""What children say, each with who says it; None is a process that is gone."""


def lost_worker(task: CellTask, code: int) -> LostWorkerError:
    """The error of a cell whose process ended with `code` (negative: of a signal)."""
    how = f"exit code {code}"
    if code < 0:
        known = {s.value: s.name for s in signal.Signals}
        how = known.get(-code, f"signal {-code}")
    if code == -signal.SIGKILL:
        return LostWorkerError(
            "the process of a cell was killed by the kernel: probably out of memory",
            where=task.title,
            got=how,
            fix="lower --jobs or train.batch; `dmesg` shows what the kernel killed",
        )
    return LostWorkerError(
        "the process of a cell died", where=task.title, got=how, fix="run the same command again"
    )


def _importable(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which a child imports this birdlab, not another one."""
    root = str(Path(birdlab.__file__).parents[1])
    if root != sysconfig.get_path("purelib"):
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root + (os.pathsep + before if before else "")
    return environment
