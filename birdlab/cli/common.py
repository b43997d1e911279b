"""Options that several commands share, and what they open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.record import RunResult
    from birdlab.run import Sink

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field: --set train.optimizer.lr=3e-4 (repeatable)."),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Cells trained at once.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, train nothing.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Go on in the background; see `birdlab status`.")
]
RestartOption = Annotated[
    bool,
    typer.Option("--restart", help="Take over from the process that runs this already."),
]
TrackOption = Annotated[
    bool, typer.Option("--mlflow/--no-mlflow", help="Log to MLflow (default) or not.")
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A spec id's start, a name, an MLflow run id, SWEEP:best, @champion, or -1 (newest).",
    ),
]


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    """`value` when it is one of `allowed`; SpecError that lists them otherwise."""
    if value not in allowed:
        from birdlab.errors import SpecError

        raise SpecError(f"unknown value of {option}", got=value, expected=", ".join(allowed))
    return value


def build_sinks(lab: Lab, track: bool) -> list[Sink]:
    """The trackers of a command: MLflow with the run's report, or none."""
    if not track:
        return []
    from birdlab.tracking.mlflow_sink import MlflowSink

    return [MlflowSink(lab, report_artifacts)]


def report_artifacts(result: RunResult) -> dict[str, str]:
    """The files that go with a run in MLflow: its report as a page, and how its rows came about."""
    from birdlab.cli.reports import run_report_info
    from birdlab.study.report import run_report_html

    return {
        "report.html": run_report_html(run_report_info(result)),
        "waterfall.csv": result.waterfall.to_csv(index=False),
        "dropped.csv": result.dropped.to_csv(index=False),
    }


def load_result_spec(record: dict[str, Any]) -> Any:
    """The experiment spec that a record stores; ResolveError for a foreign run."""
    from birdlab.recorded import spec_of

    return spec_of(record)
