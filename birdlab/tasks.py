"""Tasks: one cell to finish, in a form that crosses process borders, and who finishes it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from birdlab.cell import finish_cell
from birdlab.celljob import CellJob, load_job
from birdlab.cellplan import CellPlan
from birdlab.errors import BirdlabError, CellError, CellIOError, LostWorkerError, StoppedError
from birdlab.lab import Lab, open_lab, write_whole
from birdlab.plan import Plan


@dataclass(frozen=True)
class Event:
    """Something that happened to a cell.

    queued, placed, hear, start, resume, epoch, evaluate, then done, failed, stopped or retry, after
    which all but the first come once more. Among the values: placed: the `pid`, `gpu` and `threads`
    of a child process; hear: `what`, `done` and `total` windows of a teacher; resume: `epoch`
    (counted from 0) of `epochs`; epoch: the fields of an EpochReport; failed: `error`; stopped:
    `at`, in words where the same command goes on; retry: the `error` before, and which `attempt` it
    is, from 2.
    """

    kind: str
    cell_id: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CellTask:
    """A cell to finish, in a form that crosses process borders: ids, the folder of its job.

    after: the cells that it is made from, those that are still to be finished; threads: how many it
    computes with, which belong to its recipe.
    """

    cell_id: str
    title: str
    after: tuple[str, ...]
    job: str
    lab_root: str
    threads: int = 1


def build_task(
    plan: Plan, cell: CellPlan, lab: Lab, job: CellJob, missing: Container[str]
) -> CellTask:
    """The task of a planned cell; it waits for those of its inputs that are `missing`."""
    name = plan.spec.name
    return CellTask(
        cell_id=cell.cell_id,
        title=f"{name}: {cell.title}" if name else cell.title,
        after=tuple(cell_id for cell_id in job.inputs if cell_id in missing),
        job=str(job.folder),
        lab_root=str(lab.root),
        threads=cell.stage.train.threads_per_cell,
    )


def wanted(_cell_id: str) -> bool:
    """Whether a cell is still asked for, where nobody stops any: always."""
    return True


RETRIED = (LostWorkerError, CellIOError)
"""Errors that may not come again; numbers, memory and specs do not change by trying."""


class Executor(Protocol):
    """Finishes cells where it may; a context manager that ends its processes when it is left."""

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """The errors of the cells that failed, by id; all others are finished.

        A task runs after those it names in `after`, and is skipped when one failed; failures
        stop nobody else. `emit` is called in the caller's thread. A cell that is no longer
        `wanted` is not begun, or saved where it is, and comes back as a StoppedError; a process
        that died as a LostWorkerError: whoever calls decides what is tried again, and tells of
        errors that are RETRIED.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class InProcess:
    """Finishes cells one after another in this process; a cell that has begun is not stopped."""

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """See Executor."""
        failed: dict[str, BirdlabError] = {}
        for task in tasks:
            if not wanted(task.cell_id):
                failed[task.cell_id] = stopped(task)
                continue
            lost = next((failed[one] for one in task.after if one in failed), None)
            error = finish_task(task, emit) if lost is None else skipped(task, lost)
            if error is not None:
                failed[task.cell_id] = error
                if not isinstance(error, RETRIED):
                    emit(failure(task.cell_id, error))
        return failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end."""


def stopped(task: CellTask) -> StoppedError:
    """What comes back of a cell that nobody wants any more."""
    return StoppedError(f"{task.title} was stopped", fix="the same command goes on with it")


def failure(cell_id: str, error: BirdlabError) -> Event:
    """What is told of a cell that failed."""
    return Event("failed", cell_id, {"error": str(error)})


def skipped(task: CellTask, lost: BirdlabError) -> CellError:
    """The error of a cell that lacks an input; one that may pass where that of the input may."""
    kind = next((kind for kind in RETRIED if isinstance(lost, kind)), CellError)
    return kind(f"{task.title} was skipped: a cell it is made from failed")


def finish_task(task: CellTask, emit: Callable[[Event], None]) -> BirdlabError | None:
    """None when the cell is finished, else what went wrong.

    An error that is not birdlab's own is stored with its traceback in the lab's `failed` folder.
    """
    lab = open_lab(task.lab_root)
    try:
        job = load_job(Path(task.job))
        finish_cell(job, lab, lambda kind, values: emit(Event(kind, task.cell_id, values)))
    except BirdlabError as error:
        return error
    except Exception as error:
        path = lab.stores / "failed" / f"{task.cell_id}.txt"
        write_whole(path, traceback.format_exc())
        kind = CellIOError if isinstance(error, OSError) else CellError
        return kind(
            f"{type(error).__name__}: {error}", where=task.title, got=f"traceback in {path}"
        )
    emit(Event("done", task.cell_id))
    return None
