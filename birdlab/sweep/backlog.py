"""The loop that all engines share: which cells may begin, who is stopped, how each one ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from birdlab.errors import BirdlabError, LostWorkerError, StoppedError
from birdlab.sed.interrupts import Hold
from birdlab.sweep.handle import Outcome
from birdlab.tasks import RETRIED, CellTask, Event, failure, skipped, stopped

POLL_S = 0.2


class Engine(Protocol):
    """Where cells run: begins them, stops them, and tells what happens to them.

    `outlives_driver`: whether cells go on when the driver leaves.
    """

    outlives_driver: bool

    def begin(self, tasks: Sequence[CellTask]) -> list[CellTask]:
        """Begin as many of `tasks` as there is room for, in order; those that it began."""
        ...

    def stop(self, cell_id: str) -> None:
        """Have a cell saved where it is; its Outcome, a StoppedError, comes later."""
        ...

    def hear(self, timeout_s: float) -> list[Event | Outcome]:
        """What happened since it was last asked; waits so long for something."""
        ...

    def kill(self) -> None:
        """End every cell at once."""
        ...


class Backlog:
    """Tasks on their way through an engine."""

    def __init__(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool],
    ) -> None:
        self.emit, self.wanted = emit, wanted
        self.waiting = {task.cell_id: task for task in tasks}
        self.running: dict[str, CellTask] = {}
        self.asked_to_stop: set[str] = set()
        self.failed: dict[str, BirdlabError] = {}
        self._told: deque[Event | Outcome] = deque()

    def ready(self) -> list[CellTask]:
        """The tasks that may begin; those that nobody wants, or that lack an input, are settled."""
        for task in list(self.waiting.values()):
            if not self.wanted(task.cell_id):
                self._settle(task, stopped(task))
            elif lost := [one for one in task.after if one in self.failed]:
                self._settle(task, skipped(task, self.failed[lost[0]]))
        unfinished = self.waiting.keys() | self.running.keys()
        return [t for t in self.waiting.values() if unfinished.isdisjoint(t.after)]

    def begun(self, task: CellTask) -> None:
        """A task runs now."""
        self.running[task.cell_id] = self.waiting.pop(task.cell_id)

    def hear(self, told: Iterable[Event | Outcome]) -> None:
        """Pass on events; note how cells ended.

        Where `emit` raises, what comes after that event is heard by the next call.
        """
        self._told.extend(told)
        while self._told:
            one = self._told.popleft()
            if isinstance(one, Event):
                self.emit(one)
            elif (task := self.running.get(one.cell_id)) is not None:
                self._settle(task, self._judged(task, one.error))

    def _judged(self, task: CellTask, error: BirdlabError | None) -> BirdlabError | None:
        """Why a cell is not finished: whether it was asked to stop decides, not how it ended."""
        is_asked = task.cell_id in self.asked_to_stop
        if isinstance(error, StoppedError) and not is_asked:
            return LostWorkerError(
                "the process of a cell was stopped by someone else",
                where=task.title,
                fix="run the same command again",
            )
        return stopped(task) if isinstance(error, LostWorkerError) and is_asked else error

    def unwanted(self) -> list[str]:
        """Running cells that nobody wants any more, each once."""
        found = [c for c in self.running if c not in self.asked_to_stop and not self.wanted(c)]
        self.asked_to_stop.update(found)
        return found

    def _settle(self, task: CellTask, error: BirdlabError | None) -> None:
        self.waiting.pop(task.cell_id, None)
        self.running.pop(task.cell_id, None)
        if error is not None:
            self.failed[task.cell_id] = error
            if not isinstance(error, (StoppedError, *RETRIED)):
                self.emit(failure(task.cell_id, error))


def drain(
    tasks: Sequence[CellTask],
    emit: Callable[[Event], None],
    wanted: Callable[[str], bool],
    engine: Engine,
) -> dict[str, BirdlabError]:
    """What `Executor.execute` gives back, once all tasks went through the engine.

    On Ctrl-C or SIGTERM the cells at work end their step and are saved, unless they outlive the
    driver, and KeyboardInterrupt is raised; a second Ctrl-C ends them at once. A signal never
    breaks off the engine in the middle of something.
    """
    backlog = Backlog(tasks, emit, wanted)
    with Hold() as hold:
        try:
            may_begin = True
            while backlog.waiting or backlog.running:
                hold.check()
                if may_begin and (ready := backlog.ready()):
                    for task in engine.begin(ready):
                        backlog.begun(task)
                for cell_id in backlog.unwanted():
                    engine.stop(cell_id)
                told = engine.hear(POLL_S) if backlog.waiting or backlog.running else []
                backlog.hear(told)
                may_begin = not told or any(isinstance(one, Outcome) for one in told)
        except BaseException:
            if not engine.outlives_driver:
                _save(backlog, engine)
            raise
    return backlog.failed


def _save(backlog: Backlog, engine: Engine) -> None:
    """Have the cells at work saved; where someone insists, end them."""
    try:
        backlog.asked_to_stop.update(backlog.running)
        backlog.hear(())
        for cell_id in backlog.running:
            engine.stop(cell_id)
        while backlog.running:
            backlog.hear(engine.hear(POLL_S))
    except BaseException:
        engine.kill()
        raise
