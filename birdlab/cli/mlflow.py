"""`birdlab mlflow`: make MLflow agree with the lab."""

from __future__ import annotations

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json

mlflow = typer.Typer(help="MLflow beside the lab: write what it lacks.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(mlflow, name="mlflow")


@mlflow.command("sync")
def sync(json_: JsonOption = False) -> None:
    """Write everything that MLflow lacks, from records, cells and the ledger; also a lost store.

    Runs that a dead process left as RUNNING are ended. A second call writes nothing.

    Example: birdlab mlflow sync
    """
    from birdlab.cli.common import mlflow_extras
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.lab import open_lab
    from birdlab.tracking.sync import sync as sync_store

    lab = open_lab()
    with CellProgress() as shown:
        report = sync_store(lab, mlflow_extras(), shown.step)
    if json_:
        print_json(report)
    else:
        print_lines("\n".join(report.lines()))
    if report.refused:
        raise typer.Exit(1)
