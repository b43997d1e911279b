"""The costs of arms read from a lab: the cards of their cells, the costs of their architectures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from birdlab.cellfiles import CARD
from birdlab.costs import ModelCosts, costs_of
from birdlab.lab import Lab
from birdlab.recorded import inputs_of, load_card
from birdlab.study.arm_costs import NAN, ArmCosts, CellCost, arm_costs


def load_arm_costs(lab: Lab, runs: Mapping[str, Mapping[str, Any]]) -> ArmCosts:
    """What the arms cost whose records are given by name; see `arm_costs`.

    Raises TrackingError for a card that cannot be read.
    """
    return arm_costs(runs, load_cell_costs(lab, runs.values()), load_model_costs(lab, runs))


def load_cell_costs(lab: Lab, records: Iterable[Mapping[str, Any]]) -> dict[str, CellCost]:
    """What each cell that runs go back to took, by cell id.

    A scored cell whose folder is gone has the time that its record tells, and an input of unknown
    time, since what it started from is not known. One that only a gone cell names is not there.
    """
    found: dict[str, CellCost] = {}
    for row in (cell for record in records for cell in record["cells"]):
        waiting = [row["cell_id"]]
        while waiting:
            cell_id = waiting.pop()
            if cell_id in found:
                continue
            if (lab.cells / cell_id / CARD).is_file():
                card = load_card(lab, cell_id)
                found[cell_id] = _cost(card, tuple(inputs_of(card)))
                waiting += found[cell_id].inputs
            elif cell_id == row["cell_id"]:
                found[cell_id] = _cost(row, (f"before {cell_id}",))
    return found


def _cost(told: Mapping[str, Any], inputs: tuple[str, ...]) -> CellCost:
    seconds = told.get("seconds")
    return CellCost(NAN if seconds is None else float(seconds), told.get("device") or "", inputs)


def load_model_costs(lab: Lab, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, ModelCosts]:
    """What the architectures of runs take at inference, by `model_id`, where it was measured."""
    ids = {str(record["model_id"]) for record in runs.values() if record.get("model_id")}
    known = {name: costs_of(lab, name) for name in sorted(ids)}
    return {name: costs for name, costs in known.items() if costs is not None}
