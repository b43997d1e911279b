"""`birdlab rerun`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import (
    DryRunOption,
    JobsOption,
    JsonOption,
    Place,
    RunArgument,
    TrackOption,
    check_choice,
    load_result_spec,
)
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.spec.experiment import ExperimentSpec

KEEP = ("all", "final", "outputs")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("rerun", context_settings={"ignore_unknown_options": True})(rerun)


def rerun(
    run: RunArgument,
    keep: Annotated[
        str, typer.Option(help="Which weights stay then: all, final or outputs; else as before.")
    ] = "",
    jobs: JobsOption = None,
    dry_run: DryRunOption = False,
    mlflow: TrackOption = True,
    json_: JsonOption = False,
) -> None:
    """Run a recorded experiment again: only what the lab lacks of it is trained.

    Its id must come out again; else it says whether data, extensions or birdlab itself changed.
    With --keep all, weights that were dropped are trained again.
    Example: birdlab rerun lr:best --keep all
    """
    from birdlab.cli.plans import describe_cells
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.cli.result_json import plan_json
    from birdlab.cli.training import print_run, print_run_json, train_and_print
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    spec: ExperimentSpec = load_result_spec(record)
    if keep:
        spec = spec.model_copy(update={"keep": check_choice("--keep", keep, KEEP)})
    if record["name"] and not spec.name:
        spec = spec.model_copy(update={"name": record["name"]})
    with CellProgress() as shown:
        check_unchanged(lab, record, shown.step)
    if dry_run:
        plan = plan_experiment(spec, lab, strict=False)
        if json_:
            print_json(plan_json(plan, lab))
        else:
            print_lines("\n".join(describe_cells(plan, lab)))
        return
    show = print_run_json if json_ else print_run
    train_and_print(spec, lab, Place(jobs), mlflow, record["delta"], show=show)


def check_unchanged(lab: Lab, record: dict[str, Any], progress: Any) -> None:
    """Raise DataError when a recorded run would come out under another id, and say why.

    What it would train is then all new.
    """
    from birdlab.errors import DataError
    from birdlab.plan import plan_experiment
    from birdlab.tracking.changes import describe_changes

    plan = plan_experiment(load_result_spec(record), lab, strict=False, progress=progress)
    if plan.missing or plan.spec_id == record["spec_id"]:
        return
    raise DataError(
        "the data, an extension or birdlab itself changed after the run was made: "
        + "; ".join(describe_changes(lab, record, plan)),
        where=record["name"] or record["spec_id"],
        got=f"spec id {plan.spec_id}",
        expected=record["spec_id"],
        fix="run its experiment again as things are now: it becomes a run of its own",
    )
