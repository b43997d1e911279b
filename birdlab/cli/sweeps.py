"""`birdlab sweep`."""

from __future__ import annotations

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
    SlurmOption,
    SystemOption,
    TrackOption,
    tracked,
)
from birdlab.cli.driving import as_command, detached, driving, own_arguments
from birdlab.cli.voice import print_json
from birdlab.errors import SpecError
from birdlab.timing import timed

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.spec.sweep import Sweep
    from birdlab.study.ranking import Ranking
    from birdlab.study.stored_sweep import StoredSweep
    from birdlab.sweep.result import SweepResult
    from birdlab.tracking.mlflow_sink import MlflowSink


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("sweep")(sweep)


def sweep(
    spec: Annotated[Path, typer.Argument(help="A sweep file, or an experiment with --grid.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Over an experiment file: --grid train.optimizer.lr=1e-4,1e-3"),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Lay the sweep over this experiment instead of its own base."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the sweep, instead of the name in its file.")
    ] = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    insecure: InsecureOption = False,
    dry_run: DryRunOption = False,
    mlflow: TrackOption = True,
    system_metrics: SystemOption = False,
    detach: DetachOption = False,
    restart: RestartOption = False,
    json_: JsonOption = False,
) -> None:
    """Run every arm of a sweep and rank them.

    The same command goes on where it was stopped or killed, with arms that were added to the file
    and without those that were taken out. Example: birdlab sweep experiments/lr.yaml --dry-run
    """
    from birdlab.lab import open_lab
    from birdlab.spec.sweep import load_sweep
    from birdlab.sweep.rebase import refuse_other_base

    with timed("load the lab and the sweep"):
        lab = open_lab()
        loaded = load_sweep(spec, grid_values(grid or []), base=base, name=name)
    refuse_other_base(lab, loaded)
    place = Place(jobs, scheduler, slurm, insecure)
    if dry_run:
        from birdlab.cli.sweep_plans import dry_run_sweep

        if not dry_run_sweep(loaded, lab, place, json_=json_):
            raise typer.Exit(1)
        return
    if detach:
        detached(lab, loaded.spec.name)
        return
    with tracked(lab, mlflow, watch=system_metrics) as sinks:
        result, stored = _run(loaded, lab, place, sinks, restart)
        if json_:
            from birdlab.cli.result_json import sweep_json

            print_json(sweep_json(result, stored))
        else:
            _print_result(result, stored)
    if result.failed:
        raise typer.Exit(1)


def _run(
    loaded: Sweep, lab: Lab, place: Place, sinks: list[MlflowSink], restart: bool
) -> tuple[SweepResult, StoredSweep]:
    """The result of a sweep, logged and with its summary on the disk, and what is stored of it."""
    from birdlab.cli.summaries import in_a_line
    from birdlab.cli.sweep_plans import announce
    from birdlab.study.other_effects import load_judged_sweep
    from birdlab.sweep.driver import run_sweep

    with (
        driving(lab, loaded.spec.name, "sweep", restart=restart) as command,
        place.open(lab) as executor,
    ):
        result = run_sweep(
            loaded,
            lab,
            executor,
            sinks=sinks,
            emit=command.emit,
            progress=command.step,
            wanted=command.driver.wanted,
            planned=announce(lab, place),
        )
        with timed("write the summary of the sweep"):
            stored = load_judged_sweep(lab, loaded.spec.name)
            _keep_summary(lab, result, stored)
        for sink in sinks:
            sink.summarise(loaded.spec.name)
        command.end(in_a_line(result), failed=bool(result.failed))
    return result, stored


def _print_result(result: SweepResult, stored: StoredSweep) -> None:
    """The ranking, what it cost, how its bets went, and what is next."""
    from birdlab.cli.progress import print_lines
    from birdlab.cli.summaries import summarise_costs, summarise_sweep, trained_cells
    from birdlab.study.lab_bets import judge_sweep

    name = result.sweep.spec.name
    print_lines(summarise_sweep(result))
    print_lines(summarise_costs(stored, trained_cells(result)))
    bets = judge_sweep(stored).sentences
    if bets:
        print_lines("\n".join(f"  bet {said}" for said in bets))
    if result.failed:
        print_lines(f"  run only that again: {as_command('birdlab', *own_arguments())}")
        return
    best = result.scored[0][1].spec_id if result.scored else ""
    value = "" if result.ranking is None else f"birdlab value {name} | "
    print_lines(
        f"\nnext: birdlab ui | {value}birdlab lb score {name}:best | "
        f"birdlab promote {name}:best   ({best})"
    )


def grid_values(grid: list[str]) -> dict[str, list[Any]]:
    from birdlab.spec.yamlfile import parse_value

    values: dict[str, list[Any]] = {}
    for text in grid:
        dotted, sign, listed = text.partition("=")
        if not sign or not listed:
            raise SpecError(
                "a grid axis has no values",
                got=text,
                fix="write --grid train.optimizer.lr=1e-4,1e-3",
            )
        values[dotted] = parse_value(listed if listed.startswith("[") else f"[{listed}]")
    return values


def _gain_metrics(ranking: Ranking) -> dict[str, float]:
    """What the winner of a sweep shows and what that is worth; empty where nobody knows."""
    if ranking.winner is None:
        return {}
    return {
        "cv/best_gain": ranking.winner.shown,
        "cv/best_expected_gain": ranking.winner.worth.expected,
    }


def _keep_summary(lab: Lab, result: SweepResult, stored: StoredSweep) -> None:
    """Keep the summary of a sweep on the disk, for trackers that are there now or later."""
    from birdlab.cli.reports import summary_files, sweep_document
    from birdlab.spreadsheets import csv_text
    from birdlab.tracking.summaries import save_summary

    ranking = result.ranking
    if ranking is None:
        return
    best = result.scored[0]
    said = "\n\n".join((*ranking.sentences, *result.race_sentences))
    save_summary(
        lab,
        stored.name,
        project=best[0].spec.project,
        arms={arm.title: r.spec_id for arm, r in result.scored},
        metrics={
            "cv/best_padded_cmap": best[1].cv,
            "n_arms": len(result.arms),
            **_gain_metrics(ranking),
        },
        tags={"best": best[0].title, "mlflow.note.content": said},
        files={
            **summary_files(sweep_document(stored)),
            "ranking.csv": csv_text(ranking.table),
            "scores.csv": csv_text(result.scores),
        },
    )
