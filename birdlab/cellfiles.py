"""The folder of a cell: what its files are called, and what of it is in the lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from birdlab.lab import Lab

if TYPE_CHECKING:
    from birdlab.celljob import CellJob
    from birdlab.cellplan import CellPlan
    from birdlab.teaching import Labeller

CARD, WEIGHTS, CURVES = "cell.json", "weights.safetensors", "curves.parquet"


def is_trained(lab: Lab, cell: CellPlan | CellJob) -> bool:
    """Whether the cell's weights are in the lab."""
    folder = lab.cells / cell.cell_id
    return (folder / CARD).is_file() and (folder / WEIGHTS).is_file()


def is_finished(lab: Lab, cell: CellPlan | CellJob) -> bool:
    """Whether all that its run asks of the cell is in the lab.

    Its outputs where it is scored, and its weights unless `keep` lets them go.
    """
    if not (lab.cells / cell.cell_id / CARD).is_file():
        return False
    if cell.keeps_weights and not is_trained(lab, cell):
        return False
    if cell.soundscapes_id is not None and not soundscapes_folder(lab, cell).is_dir():
        return False
    if cell.synthetic_id is not None and not synthetic_folder(lab, cell).is_dir():
        return False
    return cell.eval_id is None or outputs_folder(lab, cell).is_dir()


def outputs_folder(lab: Lab, cell: CellPlan | CellJob) -> Path:
    """Where the cell's outputs on its validation rows lie."""
    return lab.cells / cell.cell_id / f"outputs-{cell.eval_id}"


def soundscapes_folder(lab: Lab, cell: CellPlan | CellJob) -> Path:
    """Where the cell's outputs on the soundscapes of `evaluate.soundscapes` lie."""
    return lab.cells / cell.cell_id / f"soundscapes-{cell.soundscapes_id}"


def synthetic_folder(lab: Lab, cell: CellPlan | CellJob) -> Path:
    """Where the cell's outputs on the synthetic soundscapes of its fold lie."""
    return lab.cells / cell.cell_id / f"synthetic-{cell.synthetic_id}"


def part_folder(lab: Lab, cell_id: str) -> Path:
    """Where an unfinished cell lies: its checkpoint, and what is ready of it under `whole`."""
    return lab.cells / f".{cell_id}.part"


def labels_folder(lab: Lab, labeller: Labeller) -> Path:
    """Where a cell's outputs on soundscapes to label lie."""
    return lab.cells / labeller.cell_id / f"labels-{labeller.outputs_id}"
