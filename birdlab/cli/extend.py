"""`birdlab extend`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import (
    DryRunOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    Place,
    RunArgument,
    SchedulerOption,
    SlurmOption,
    TrackOption,
    load_result_spec,
)
from birdlab.cli.rerun import check_unchanged
from birdlab.cli.voice import print_json, print_note
from birdlab.errors import SpecError

if TYPE_CHECKING:
    from birdlab.spec.experiment import ExperimentSpec


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("extend", context_settings={"ignore_unknown_options": True})(extend)


def extend(
    run: RunArgument,
    folds: Annotated[
        str | None, typer.Option(help="Folds besides those it has: all, or 0,1,2.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="So many seeds: 3 means 0, 1 and 2.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Further epochs, as a stage with its own schedule.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="The rate these epochs start with; else the run's own.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the run is called then.")] = "",
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    insecure: InsecureOption = False,
    dry_run: DryRunOption = False,
    mlflow: TrackOption = True,
    json_: JsonOption = False,
) -> None:
    """Add folds, seeds or epochs to a finished run; what it has stays in the cache.

    More epochs are a stage that starts from the run's last weights: another recipe, beside the
    first. Example: birdlab extend baseline --folds all --seeds 3
    """
    from birdlab.cli.plans import describe_cells, describe_plan
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.cli.result_json import plan_json
    from birdlab.cli.training import print_run, print_run_json, train_and_print
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    extended, delta = _extended(record, folds, seeds, epochs, lr)
    named = name or record["name"] + (f"+{epochs}" if epochs else "")
    extended = extended.model_copy(update={"name": named[:200]})
    with CellProgress() as shown:
        check_unchanged(lab, record, shown.step)
        plan = plan_experiment(extended, lab, strict=False, progress=shown.step)
    if dry_run and json_:
        print_json({**plan_json(plan, lab), "extends": record["spec_id"]})
        return
    say = print_note if json_ else print_lines
    say(f"{record['name'] or record['spec_id']} ({record['spec_id']}) -> {plan.spec_id}")
    say(describe_plan(plan, lab) if dry_run else "\n".join(describe_cells(plan, lab)))
    if not dry_run:
        place = Place(jobs, scheduler, slurm, insecure)
        show = print_run_json if json_ else print_run
        train_and_print(extended, lab, place, mlflow, delta, show=show)


def _extended(
    record: dict[str, Any],
    folds: str | None,
    seeds: int | None,
    epochs: int | None,
    lr: float | None,
) -> tuple[ExperimentSpec, dict[str, Any]]:
    """The experiment of a run with what is asked for, and what that changes of its recipe."""
    from birdlab.more import add_cells, add_stage

    if epochs is None and lr is not None:
        raise SpecError("--lr is the rate of further epochs", fix="give --epochs too")
    if folds is None and seeds is None and epochs is None:
        raise SpecError(
            "nothing is asked for", fix="give --folds, --seeds or --epochs (see --help)"
        )
    spec = add_cells(load_result_spec(record), _fold_numbers(folds), seeds)
    if epochs is None:
        return spec, {}
    spec = add_stage(spec, epochs, lr)
    changed = {"length.epochs": epochs} | ({} if lr is None else {"optimizer.lr": lr})
    stage = f"stages.{spec.stages[-1].name}.train"
    return spec, {**record["delta"], **{f"{stage}.{key}": v for key, v in changed.items()}}


def _fold_numbers(text: str | None) -> Any:
    if text is None or text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SpecError("--folds takes `all` or numbers", got=text, expected="all, or 0,1,2")
    return [int(part) for part in parts]
