"""Cells as jobs of a SLURM queue, through submitit; the driver may leave and collect later."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.cellfiles import is_finished
from birdlab.celljob import load_job
from birdlab.errors import BirdlabError, LabError, LostWorkerError
from birdlab.lab import LAB_FILE, Lab, write_whole
from birdlab.sweep.backlog import drain
from birdlab.sweep.handle import Outcome
from birdlab.sweep.messages import decode_error, decode_event, encode_error, encode_task
from birdlab.sweep.slurmcell import EVENTS, RESULT, STOP, TASK, SlurmCell
from birdlab.tasks import CellTask, Event, stopped, wanted

NOTE = "job.json"
_POLL_S, _LOOK_S = 1.0, 10.0
_LOOKS = 2
"""A job that is done so many looks long and left no result is lost: shared disks are slow."""


class SlurmExecutor:
    """Finishes cells as jobs of a queue, each array at most `jobs` at once.

    What was submitted is noted in the lab, so the driver may leave: cells go on, and the same
    command collects what is finished and waits for the rest. Nothing is submitted twice.
    """

    outlives_driver = True

    def __init__(self, lab: Lab, jobs: int | None = None) -> None:
        self.lab, self.jobs, self.folder = lab, jobs, lab.stores / "slurm"
        self._at_work: dict[str, CellTask] = {}
        self._read: dict[str, int] = {}
        self._silent: dict[str, int] = {}
        self._looked_at = 0.0

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        """See Executor and `drain`; on Ctrl-C the driver leaves, and the jobs go on."""
        return drain(tasks, emit, wanted, self)

    def __enter__(self) -> SlurmExecutor:
        """Take away what is left of cells that were finished while nobody looked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for result in self.folder.glob(f"*/{RESULT}"):
            if json.loads(result.read_text())["error"] is None:
                shutil.rmtree(result.parent, ignore_errors=True)
        if not list(self.folder.glob(f"*/{TASK}")):
            shutil.rmtree(self.folder / "log", ignore_errors=True)
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to end: jobs outlive the driver."""

    def begin(self, tasks: Sequence[CellTask]) -> list[CellTask]:
        """See Engine: all of them, as arrays; those that were submitted before are taken up."""
        with FileLock(self.folder / ".lock"):
            new = [task for task in tasks if not self._is_submitted(task)]
            for threads, group in groupby(sorted(new, key=_threads), key=_threads):
                self._submit(list(group), threads)
        for task in tasks:
            self._at_work[task.cell_id] = task
            self._read[task.cell_id] = self._silent[task.cell_id] = 0
        return list(tasks)

    def stop(self, cell_id: str) -> None:
        """See Engine; a job that still waits in the queue is taken out of it."""
        place = self.folder / cell_id
        if not place.is_dir():  # another driver has collected it: `hear` says how it ended
            return
        (place / STOP).touch()
        job = self._job(cell_id)
        if job.state == "PENDING":
            job.cancel(check=False)
            error = encode_error(stopped(self._at_work[cell_id]))
            write_whole(place / RESULT, json.dumps({"error": error}))

    def hear(self, timeout_s: float) -> list[Event | Outcome]:
        """See Engine."""
        time.sleep(max(timeout_s, _POLL_S))
        is_look = time.monotonic() - self._looked_at > _LOOK_S
        told: list[Event | Outcome] = []
        for cell_id in list(self._at_work):
            try:
                told += self._hear_one(cell_id, is_look)
            except FileNotFoundError:
                if (self.folder / cell_id).is_dir():
                    raise
                told.append(self._collected(cell_id))
        if is_look:
            self._looked_at = time.monotonic()
        return told

    def _hear_one(self, cell_id: str, is_look: bool) -> list[Event | Outcome]:
        """What is new of a cell; FileNotFoundError where another driver takes its folder away."""
        result = self.folder / cell_id / RESULT
        is_done = result.exists()
        told: list[Event | Outcome] = [*self._new_events(cell_id)]
        if is_done:
            error = decode_error(json.loads(result.read_text())["error"])
            told.append(self._forget(cell_id, error))
        elif not result.parent.is_dir():
            raise FileNotFoundError(result.parent)
        elif is_look and self._is_lost(cell_id):
            told.append(self._forget(cell_id, self._lost(cell_id)))
        return told

    def _collected(self, cell_id: str) -> Outcome:
        """How a cell ended that another driver waited for, too, and collected first."""
        task, error = self._at_work[cell_id], None
        if not is_finished(self.lab, load_job(Path(task.job))):
            error = LostWorkerError("another driver collected a cell", where=task.title)
        return self._forget(cell_id, error)

    def kill(self) -> None:
        """See Engine: jobs are not ended with the driver."""

    def _is_submitted(self, task: CellTask) -> bool:
        place = self.folder / task.cell_id
        return (place / RESULT).exists() or ((place / NOTE).exists() and not self._is_done(task))

    def _is_done(self, task: CellTask) -> bool:
        return _is_over(self._job(task.cell_id))

    def _submit(self, tasks: Sequence[CellTask], threads: int) -> None:
        executor = self._queue(threads)
        for task in tasks:
            place = self.folder / task.cell_id
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(task.job, place / "job")
            own = replace(task, job=str(place / "job"), after=())
            (place / TASK).write_text(json.dumps(encode_task(own)))
        with _in_words(), executor.batch():
            jobs = [executor.submit(SlurmCell(str(self.folder / t.cell_id))) for t in tasks]
        for task, job in zip(tasks, jobs, strict=True):
            note = {"job_id": job.job_id, "title": task.title}
            write_whole(self.folder / task.cell_id / NOTE, json.dumps(note))

    def _queue(self, threads: int) -> Any:
        """The submitit executor for cells that compute with so many threads."""
        import submitit

        asked, logs = self.lab.file.slurm, self.folder / "log"
        common = {
            "signal_delay_s": asked.signal_delay_s,
            "gpus_per_node": asked.gpus,
            "setup": list(asked.setup),
        }
        with _in_words():
            if asked.cluster == "local":
                executor: Any = submitit.LocalExecutor(logs, max_num_timeout=asked.requeues)
                executor.update_parameters(timeout_min=asked.time_min, **common)
                return executor
            executor = submitit.SlurmExecutor(logs, max_num_timeout=asked.requeues)
            chosen = ("partition", "account", "qos", "constraint")
            named = {n: v for n in chosen if (v := getattr(asked, n)) is not None}
            if asked.mem_gb is not None:
                named["mem"] = f"{round(asked.mem_gb * 1024)}MB"
            executor.update_parameters(
                **common,
                **named,
                job_name="birdlab",
                time=asked.time_min,
                cpus_per_task=threads + self.lab.file.readers,
                array_parallelism=self.jobs or 256,
                additional_parameters=dict(asked.options),
            )
            return executor

    def _job(self, cell_id: str) -> Any:
        import submitit

        note = json.loads((self.folder / cell_id / NOTE).read_text())
        is_local = self.lab.file.slurm.cluster == "local"
        kind: Any = submitit.LocalJob if is_local else submitit.SlurmJob
        return kind(self.folder / "log", note["job_id"])

    def _new_events(self, cell_id: str) -> list[Event]:
        path = self.folder / cell_id / EVENTS
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read[cell_id])
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read[cell_id] += len(whole) + len(newline)
        return [decode_event(json.loads(line)) for line in whole.splitlines()]

    def _is_lost(self, cell_id: str) -> bool:
        is_over = _is_over(self._job(cell_id))
        self._silent[cell_id] = self._silent[cell_id] + 1 if is_over else 0
        return self._silent[cell_id] >= _LOOKS

    def _lost(self, cell_id: str) -> LostWorkerError:
        job, task = self._job(cell_id), self._at_work[cell_id]
        return LostWorkerError(
            "a job ended without a result", where=task.title, got=f"job {job.job_id}: {job.state}",
            fix=f"see {job.paths.stderr}",
        )  # fmt: skip

    def _forget(self, cell_id: str, error: BirdlabError | None) -> Outcome:
        for known in (self._at_work, self._read, self._silent):
            del known[cell_id]
        shutil.rmtree(self.folder / cell_id, ignore_errors=True)
        return Outcome(cell_id, error)


def _threads(task: CellTask) -> int:
    return task.threads


def _is_over(job: Any) -> bool:
    """Whether a job runs no more; one of this machine may be of a driver that left."""
    import submitit

    if not isinstance(job, submitit.LocalJob):
        return bool(job.done())
    try:
        os.kill(int(job.job_id), 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{job.job_id}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


@contextmanager
def _in_words() -> Iterator[None]:
    """Say what the queue refuses as a LabError."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        yield
    except (RuntimeError, ValueError, OSError, FailedJobError, FailedSubmissionError) as error:
        raise LabError(
            "SLURM does not take jobs", got=str(error).strip(), fix=f"correct [slurm] in {LAB_FILE}"
        ) from None
