"""`birdlab report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report")(report)


def report(
    name: Annotated[str, typer.Argument(metavar="SWEEP|RUN", help="A sweep's name, else a RUN.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A file that ends with .html or .md.")
    ] = Path("report.html"),
) -> None:
    """Write the report of a sweep or a run: verdicts, figures, recipe, evidence, environment.

    HTML is one file; Markdown has its figures beside it as SVG. Both need no network and no MLflow.
    Example: birdlab report one_factor -o report.md
    """
    from birdlab.cli.progress import print_lines
    from birdlab.cli.reports import check_ending, run_document, sweep_document, write_report
    from birdlab.lab import open_lab
    from birdlab.study.other_effects import load_judged_sweep
    from birdlab.tracking.resolve import resolve_sweep_or_run

    check_ending(output)
    lab = open_lab(extensions=False)
    run = resolve_sweep_or_run(lab, name)
    document = run_document(lab, run) if run else sweep_document(load_judged_sweep(lab, name))
    for path in write_report(document, output):
        print_lines(f"wrote {path}")
