"""`birdlab dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("dashboard")(dashboard)


def dashboard(
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8050,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    export: Annotated[
        Path | None, typer.Option(help="Write the pages as files that need no network, and end.")
    ] = None,
) -> None:
    """Serve the study of this lab: CV against leaderboard, ablations.

    Example: birdlab dashboard --export site/
    """
    from birdlab.lab import open_lab
    from birdlab.study.ledger import load_ledger
    from birdlab.study.tables import StudyTables
    from birdlab.tracking.index import load_cells, load_runs
    from dashboards.app import export_static, serve

    lab = open_lab(extensions=False)

    def load_tables() -> StudyTables:
        return StudyTables(load_runs(lab), load_cells(lab), load_ledger(lab.ledger))

    if export is not None:
        for path in export_static(load_tables, export):
            typer.echo(f"wrote {path}")
        return
    typer.echo(f"dashboard on http://{host}:{port}  (Ctrl-C ends it)")
    serve(load_tables, host, port)
