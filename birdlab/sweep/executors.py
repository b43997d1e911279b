"""Executors: where cells run, as a command's options and the lab file say."""

from __future__ import annotations

from birdlab.lab import Lab
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import build_inventory
from birdlab.tasks import Executor, InProcess


def open_executor(lab: Lab, jobs: int | None = None, *, apart: bool = True) -> Executor:
    """The executor for at most `jobs` cells at once (default: what the lab file and machine say).

    Cells run in child processes, so that one that runs out of memory costs itself alone. Where
    not even two would run at once, `apart=False` runs them in this process instead.
    """
    inventory, jobs = build_inventory(lab), jobs or lab.file.jobs
    if not apart and lab.file.gpus is None and len(inventory.slots(jobs)) == 1:
        return InProcess()
    return LocalExecutor(inventory, jobs)
