"""Options that say how a submission was made."""

from __future__ import annotations

from typing import Annotated

import typer

CheckpointOption = Annotated[
    str, typer.Option(help="Which checkpoint, where it is not the run's own rule.")
]
PostprocessingOption = Annotated[
    str, typer.Option("--postprocessing", help="What was done to the predictions: smoothing.")
]
PrecisionOption = Annotated[str, typer.Option(help="What it was computed in: fp32, bf16, int8.")]


def submission_fields(
    weights: str, checkpoint: str, postprocessing: str, precision: str
) -> dict[str, str]:
    """The fields of a ledger row; SpecError for weights that are neither folds nor full."""
    from birdlab.cli.common import check_choice
    from birdlab.study.ledger_row import WEIGHTS

    return {
        "weights": check_choice("--weights", weights, WEIGHTS),
        "checkpoint": checkpoint,
        "postprocessing": postprocessing,
        "precision": precision,
    }
