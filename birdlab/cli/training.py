"""`birdlab run`, and training for all commands that train runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import (
    DetachOption,
    DryRunOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    Place,
    RestartOption,
    SchedulerOption,
    SetOption,
    SlurmOption,
    SystemOption,
    TrackOption,
    tracked,
)
from birdlab.cli.driving import detached, driver_name, driving
from birdlab.cli.voice import print_json
from birdlab.timing import timed

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.runresult import RunResult
    from birdlab.spec.experiment import ExperimentSpec


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("run")(run)


def run(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    set_: SetOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    insecure: InsecureOption = False,
    dry_run: DryRunOption = False,
    smoke: Annotated[
        int | None,
        typer.Option(min=1, help="Take N steps per stage through validation, export and predict."),
    ] = None,
    mlflow: TrackOption = True,
    system_metrics: SystemOption = False,
    detach: DetachOption = False,
    restart: RestartOption = False,
    json_: JsonOption = False,
) -> None:
    """Run one experiment: train what is missing, score it, log it.

    Example: birdlab run experiments/baseline.yaml --set train.optimizer.lr=3e-4
    """
    from birdlab.lab import open_lab
    from birdlab.spec.experiment import load_spec, parse_overrides

    with timed("load the lab and the experiment"):
        lab = open_lab()
        experiment = load_spec(spec, set_ or [])
    if not experiment.name:
        experiment = experiment.model_copy(update={"name": spec.stem})
    if dry_run:
        _print_plan(experiment, lab, json_=json_)
    elif smoke is not None:
        _print_smoke(experiment, lab, smoke, json_=json_)
    elif detach:
        detached(lab, driver_name(experiment))
    else:
        delta = parse_overrides(set_ or [])
        place = Place(jobs, scheduler, slurm, insecure)
        train_and_print(
            experiment,
            lab,
            place,
            mlflow,
            delta,
            restart=restart,
            watch=system_metrics,
            show=print_run_json if json_ else print_run,
        )


def _print_plan(experiment: ExperimentSpec, lab: Lab, *, json_: bool) -> None:
    from birdlab.cli.plans import describe_plan
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.cli.result_json import plan_json
    from birdlab.plan import plan_experiment

    with CellProgress() as shown:
        plan = plan_experiment(experiment, lab, strict=False, progress=shown.step)
    if json_:
        print_json(plan_json(plan, lab))
    else:
        print_lines(describe_plan(plan, lab))


def _print_smoke(experiment: ExperimentSpec, lab: Lab, steps: int, *, json_: bool) -> None:
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.promote.smoke import smoke_test

    with CellProgress() as shown:
        report = smoke_test(experiment, lab, steps, progress=shown.step, emit=shown.event)
    if json_:
        print_json(report)
    else:
        print_lines("\n".join(report.lines()))


def train_and_print(
    experiment: ExperimentSpec,
    lab: Lab,
    place: Place,
    mlflow: bool,
    delta: dict[str, Any],
    *,
    restart: bool = False,
    watch: bool = False,
    show: Callable[[RunResult], None] | None = None,
) -> RunResult:
    """The run of an experiment: trains what is missing, scores, logs, and prints the summary.

    show: what prints, instead of the summary.
    """
    from birdlab.cli.estimates import announce_runs
    from birdlab.run import run_experiment
    from birdlab.runresult import RunNote

    with tracked(lab, mlflow, watch=watch) as sinks:
        with (
            driving(lab, driver_name(experiment), "run", restart=restart) as command,
            place.open(lab, apart=False) as executor,
        ):
            result = run_experiment(
                experiment,
                lab=lab,
                executor=executor,
                sinks=sinks,
                note=RunNote(title=experiment.name, delta=delta),
                emit=command.emit,
                progress=command.step,
                wanted=command.driver.wanted,
                planned=announce_runs(lab, place),
            )
            command.end(f"padded cmAP {result.cv:.4f}" if result.scores else "trained")
        (show or print_run)(result)
    return result


def print_run(result: RunResult) -> None:
    """Print the summary of a run."""
    from birdlab.cli.progress import print_lines
    from birdlab.cli.summaries import summarise_run

    print_lines(summarise_run(result))


def print_run_json(result: RunResult) -> None:
    """Print a run as JSON."""
    from birdlab.cli.result_json import run_json

    print_json(run_json(result))
