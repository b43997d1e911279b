"""Options that say how a submission was made, and what is doubtful of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdlab.lab import Lab

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


def doubt_of_metric(lab: Lab, metric: str) -> str:
    """A note on a metric that neither birdlab nor the ledger knows; empty for all others.

    Any name may be right, but scores are compared within a metric: a slip of the pen sets the
    submission apart from all others.
    """
    from typing import get_args

    from birdlab.spec.competition import Metric
    from birdlab.study.ledger import load_ledger

    known = {*get_args(Metric), *load_ledger(lab.ledger)["metric"]}
    if not metric or metric in known:
        return ""
    return (
        f"note: no row of the ledger has the metric {metric!r} yet, and it is compared with no "
        f"other; known are {', '.join(sorted(known))}. Not meant? birdlab lb remove ROW"
    )
