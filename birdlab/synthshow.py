"""The synthetic soundscapes of an experiment's fold, to look at and to listen to."""

from __future__ import annotations

from birdlab.errors import SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab
from birdlab.plan import Progress, plan_experiment, silent
from birdlab.run import build_store, refuse_missing
from birdlab.spec.experiment import ExperimentSpec
from birdlab.synthetic import SyntheticSource, open_synthetic


def open_fold(
    spec: ExperimentSpec, lab: Lab, fold: int, *, progress: Progress = silent
) -> SyntheticSource:
    """The soundscapes that the models of a fold are scored on, each mixed when it is asked for.

    Plans the experiment and decodes its audio into the store, as training would. Raises SpecError
    for an experiment without `evaluate.synthetic` or without that fold, and what planning raises.
    """
    if spec.evaluate.synthetic is None:
        raise SpecError(
            "the experiment has no synthetic soundscapes",
            where="evaluate.synthetic",
            fix="--set 'evaluate.synthetic={backgrounds: [demo]}', or write it in the spec",
        )
    plan = plan_experiment(spec, lab, progress=progress)
    refuse_missing(plan)
    if not build_store(lab, plan, progress):
        plan = plan_experiment(spec, lab, progress=progress)
    cells = {cell.fold: cell for cell in plan.final_cells if cell.synthetic_id is not None}
    if fold not in cells:
        known = ", ".join(str(number) for number in cells) or "none: it trains on all data"
        raise SpecError("the experiment scores no such fold", got=fold, expected=known)
    with job_folder(lab) as folder:
        return open_synthetic(save_job(plan, cells[fold], folder), lab)
