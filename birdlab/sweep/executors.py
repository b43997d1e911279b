"""Executors: where cells run, as a command's options and the lab file say."""

from __future__ import annotations

from birdlab.errors import SpecError
from birdlab.lab import Lab
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import build_inventory
from birdlab.tasks import Executor, InProcess


def open_executor(
    lab: Lab,
    jobs: int | None = None,
    *,
    scheduler: str | None = None,
    slurm: bool = False,
    insecure: bool = False,
    apart: bool = True,
) -> Executor:
    """The executor for at most `jobs` cells at once (default: all that there is room for).

    On this machine cells run in child processes, so that one that runs out of memory costs itself
    alone; where not even two would run at once, `apart=False` runs them in this process instead.
    With `scheduler` they run on a Dask cluster, with `slurm` as jobs of a queue. Raises SpecError
    for both, LabError for a cluster that cannot be used.
    """
    jobs = jobs or lab.file.jobs
    if scheduler is not None and slurm:
        raise SpecError("cells run on a Dask cluster or as SLURM jobs, not both")
    if scheduler is not None:
        from birdlab.sweep.daskengine import DaskExecutor

        return DaskExecutor(lab, scheduler, jobs, insecure=insecure)
    if slurm:
        from birdlab.sweep.slurm import SlurmExecutor

        return SlurmExecutor(lab, jobs)
    inventory = build_inventory(lab)
    if not apart and lab.file.gpus is None and len(inventory.slots(jobs)) == 1:
        return InProcess()
    return LocalExecutor(inventory, jobs)
