"""`birdlab doctor`."""

from __future__ import annotations

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("doctor")(doctor)


def doctor(json_: JsonOption = False) -> None:
    """Check environment, stores, drivers, leftovers and disk; say what to do where it is not well.

    Changes nothing. Exits with 1 when something is bad.
    Example: birdlab doctor
    """

    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.upkeep.doctor import examine_lab

    found = examine_lab(open_lab(extensions=False))
    if json_:
        print_json([vars(finding) for finding in found])
    else:
        lines = []
        for finding in found:
            lines.append(f"{finding.level:<5} {finding.what:<12} {finding.said}")
            if finding.fix:
                lines.append(f"{'':<5} {'':<12} fix: {finding.fix}")
        print_lines("\n".join(lines))
    if any(finding.level == "bad" for finding in found):
        raise typer.Exit(1)
