"""`birdlab cell`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdlab.cli.common import SetOption


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("cell")(cell)


def cell(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    fold: Annotated[
        int | None, typer.Option(min=0, help="The fold; without it the cell of all data.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed.")] = 0,
    stage: Annotated[str | None, typer.Option(help="The stage; default: the last.")] = None,
    set_: SetOption = None,
) -> None:
    """Train one cell, and the cells it starts from, in this process; prints where it lies.

    For queues and scripts of your own: `birdlab run` finds what is there and scores the run.
    Example: birdlab cell experiments/baseline.yaml --fold 0 --seed 1
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.lab import open_lab
    from birdlab.onecell import finish_one
    from birdlab.spec.experiment import load_spec

    lab = open_lab()
    folds = "none" if fold is None else f"[{fold}]"
    chosen = [f"cells.folds={folds}", f"cells.seeds=[{seed}]"]
    experiment = load_spec(spec, [*(set_ or []), *chosen])
    if not experiment.name:
        experiment = experiment.model_copy(update={"name": spec.stem})
    with CellProgress() as shown:
        made = finish_one(experiment, lab, stage=stage, emit=shown.event, progress=shown.step)
    print_lines(f"{made.title}: {lab.cells / made.cell_id}")
