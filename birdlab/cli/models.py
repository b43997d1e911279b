"""`birdlab promote` and `birdlab predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("predict")(predict)


def predict(
    soundscapes: Annotated[Path, typer.Argument(help="A folder of soundscapes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV to write.")] = Path(
        "submission.csv"
    ),
) -> None:
    """Predict"""
