"""One cell of an experiment, with what it starts from: what every executor boils down to."""

from __future__ import annotations

from collections.abc import Callable

from birdlab.cellorder import find_lacking
from birdlab.cellplan import CellPlan
from birdlab.errors import SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, plan_experiment, silent
from birdlab.run import make_ready
from birdlab.spec.experiment import ExperimentSpec
from birdlab.tasks import Event, InProcess, build_task


def finish_one(
    spec: ExperimentSpec,
    lab: Lab,
    *,
    stage: str | None = None,
    emit: Callable[[Event], None] = lambda _: None,
    progress: Progress = silent,
) -> CellPlan:
    """The one cell of an experiment with one fold and one seed, finished.

    It is that of the last stage, or of `stage`. Cells that it starts from are finished before it,
    cells that are there are left alone, and no run is scored or recorded. Raises SpecError for a
    stage that the experiment does not have, and what planning and finishing raise.
    """
    planned = plan_experiment(spec, lab, progress=progress)
    _chosen(planned, stage)
    plan = make_ready(planned, lab, progress)
    cell = _chosen(plan, stage)
    ids = {c.cell_id for c in plan.cells}
    lacking = find_lacking(lab, [c for c in cell.line if c.cell_id in ids])
    ids = {c.cell_id for c in lacking}
    with job_folder(lab) as jobs:
        tasks = [build_task(plan, c, lab, save_job(plan, c, jobs), ids) for c in lacking]
        for task in tasks:
            emit(Event("queued", task.cell_id, {"title": task.title}))
        failed = InProcess().execute(tasks, emit)
    for error in failed.values():
        raise error
    return cell


def _chosen(plan: Plan, stage: str | None) -> CellPlan:
    """The cell of a stage of a plan."""
    if len(plan.final_cells) != 1:
        raise SpecError(
            "one cell has one fold and one seed", got=f"{len(plan.final_cells)} cells",
            fix="set cells.folds and cells.seeds to one each",
        )  # fmt: skip
    (last,) = plan.final_cells
    if stage is None:
        return last
    for cell in plan.cells:
        if cell.stage.name == stage:
            return cell
    raise SpecError(
        f"the experiment has no stage {stage!r}",
        expected=", ".join(dict.fromkeys(c.stage.name for c in plan.cells)),
    )
