"""Executors: where cells run. `ProcessExecutor` keeps one long-lived child per slot."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from birdlab.errors import BirdlabError, CellError
from birdlab.sed.interrupts import stoppable
from birdlab.tasks import CellTask, Event, InProcess, finish_task, skipped, wanted

_PR_SET_PDEATHSIG = 1
_RESTARTS = 3
_ASK_AGAIN_S = 10.0
_SEND_S = 2.0

_events: Any = None


def build_executor(jobs: int) -> InProcess | ProcessExecutor:
    """The executor for `jobs` cells at once on this machine."""
    return InProcess() if jobs <= 1 else ProcessExecutor(jobs)


class ProcessExecutor:
    """Finishes cells in `jobs` child processes, which live as long as there is work.

    A child that dies (out of memory, a crash in native code) costs the cells that were
    running; they are tried again in new children, three times at most. Children end with the
    driver, also when it is killed.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """See Executor.

        On Ctrl-C or SIGTERM children end the step they are at, save it and stop, and
        KeyboardInterrupt is raised; a second one stops them at once.
        """
        state = _Progress(tasks, emit)
        for _ in range(_RESTARTS):
            try:
                with stoppable():
                    self._drain(state)
                return state.failed
            except BrokenProcessPool:
                emit(Event("restart", "", {"left": len(state.waiting())}))
        for task in state.waiting():
            state.settle(task, _worker_died(task))
        return state.failed

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end: children end with `execute`."""

    def _drain(self, state: _Progress) -> None:
        context = multiprocessing.get_context("spawn")
        events = context.Queue()
        n = min(self.jobs, max(1, len(state.waiting())))
        pool = ProcessPoolExecutor(n, context, _start_child, (events, os.getpid()))
        running: dict[Future[BirdlabError | None], CellTask] = {}
        try:
            while state.waiting():
                for task in state.ready([t.cell_id for t in running.values()]):
                    if len(running) < n:
                        running[pool.submit(_finish_in_child, task)] = task
                done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                _pass_on(events, state.emit)
                for future in done:
                    state.settle(running.pop(future), future.result())
            _pass_on(events, state.emit)
        except BaseException:
            _stop_children(lambda: _pass_on(events, state.emit))
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            _pass_on(events, state.emit)
            events.close()


def _stop_children(meanwhile: Callable[[], None]) -> None:
    """Let children save what they are at and end; where someone insists, kill them.

    Each is asked again after a while: one that was just done with a cell has forgotten it.
    """
    children = multiprocessing.active_children()
    asked = -_ASK_AGAIN_S
    try:
        while any(child.is_alive() for child in children):
            if time.monotonic() - asked >= _ASK_AGAIN_S:
                asked = time.monotonic()
                for child in children:
                    child.terminate()
            meanwhile()
            time.sleep(0.05)
    except KeyboardInterrupt:
        for child in children:
            child.kill()


class _Progress:
    """Which tasks are settled, which failed, which may start."""

    def __init__(self, tasks: Sequence[CellTask], emit: Callable[[Event], None]) -> None:
        self.tasks, self.emit = tasks, emit
        self.settled: set[str] = set()
        self.failed: dict[str, BirdlabError] = {}

    def waiting(self) -> list[CellTask]:
        return [t for t in self.tasks if t.cell_id not in self.settled]

    def ready(self, running: Sequence[str]) -> list[CellTask]:
        """Tasks that may start now; those whose start failed are settled as skipped."""
        for task in self.waiting():
            if task.after in self.failed:
                self.settle(task, skipped(task))
        return [
            t
            for t in self.waiting()
            if t.cell_id not in running and (t.after is None or t.after in self.settled)
        ]

    def settle(self, task: CellTask, error: BirdlabError | None) -> None:
        self.settled.add(task.cell_id)
        if error is not None:
            self.failed[task.cell_id] = error
            self.emit(Event("failed", task.cell_id, {"error": str(error)}))


def _worker_died(task: CellTask) -> CellError:
    return CellError(
        "a worker process died, probably out of memory",
        where=task.title,
        fix="lower --jobs or train.batch; `dmesg` shows whether the kernel killed it",
    )


def _pass_on(events: Any, emit: Callable[[Event], None]) -> None:
    while True:
        try:
            emit(events.get_nowait())
        except queue.Empty:
            return


def _start_child(events: Any, driver: int) -> None:
    """Set up a child: events go to the driver, Ctrl-C is the driver's, its death ends us."""
    global _events
    _events = events
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != driver:
            os._exit(1)


def _finish_in_child(task: CellTask) -> BirdlabError | None:
    """Finish a cell; SIGTERM saves where it is and ends this process.

    The process may not go back to the pool's queues: a sibling that died may hold their locks.
    """
    try:
        return finish_task(task, _events.put)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sending = threading.Thread(target=_send_events, daemon=True)
        sending.start()
        sending.join(_SEND_S)
        os._exit(1)


def _send_events() -> None:
    _events.close()
    _events.join_thread()
