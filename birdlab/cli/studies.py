"""`birdlab dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdlab.cli.interrupt import INTERRUPTED
from birdlab.cli.voice import print_note


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
    """Serve the study of this lab: a page for each question, in a browser.

    Example: birdlab dashboard --export site/
    """
    from birdlab.cli.hosts import warn_of_host
    from birdlab.lab import open_lab
    from dashboards.app import export_static, serve
    from dashboards.source import LabSource

    source = LabSource(open_lab(extensions=False))
    if export is not None:
        for path in export_static(source, export):
            typer.echo(f"wrote {path}")
        return
    warn_of_host(host)
    typer.echo(f"dashboard on http://{host}:{port}  (Ctrl-C ends it)")
    serve(source, host, port)  # until Ctrl-C, which the server takes for itself
    print_note("stopped")
    raise typer.Exit(INTERRUPTED)
