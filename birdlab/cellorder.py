"""Which cells of plans are to be finished, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from birdlab.cellfiles import is_finished, is_trained, labels_folder
from birdlab.cellplan import CellPlan
from birdlab.lab import Lab
from birdlab.plan import Plan


def find_lacking(lab: Lab, cells: Sequence[CellPlan]) -> list[CellPlan]:
    """Which of the cells are to be finished, in their order: inputs before what is made from them.

    Those that are not, and those whose weights were dropped and which one to be trained is made
    from; a teacher whose labels are stored already needs no weights.
    """
    lacking = {cell.cell_id for cell in cells if not is_finished(lab, cell)}
    for cell in reversed(cells):
        if cell.cell_id in lacking and not is_trained(lab, cell):
            lacking |= {c.cell_id for c in weights_needed(lab, cell)}
    return [cell for cell in cells if cell.cell_id in lacking]


def weights_needed(lab: Lab, cell: CellPlan) -> list[CellPlan]:
    """The inputs of a cell to be trained whose weights it needs and the lab lacks."""
    told = () if cell.labelling is None else cell.labelling.labellers
    stored = {one.cell_id for one in told if labels_folder(lab, one).is_dir()}
    needed = {c.cell_id for c in cell.inputs} - stored
    needed |= {c.cell_id for c in (*cell.distillers, *cell.sources)}
    needed |= set() if cell.start is None else {cell.start.cell_id}
    return [c for c in cell.inputs if c.cell_id in needed and not is_trained(lab, c)]


def pick_cells(plan: Plan, seeds: Sequence[int]) -> list[CellPlan]:
    """The cells of some seeds or of all alike, with what they are made from; inputs first."""
    needed: set[str] = set()
    for cell in reversed(plan.cells):
        is_asked = cell.seed in seeds or cell.stage.seeds == "shared"
        if is_asked or cell.cell_id in needed:
            needed |= {cell.cell_id, *(one.cell_id for one in cell.inputs)}
    return [cell for cell in plan.cells if cell.cell_id in needed]


def sort_seed_major(
    missing: Mapping[str, tuple[Plan, CellPlan]],
) -> list[tuple[Plan, CellPlan]]:
    """By seed, inputs before what is made from them; otherwise the order of the arms.

    A cell that is made from those of later seeds counts as one of the last of them.
    """
    places: dict[str, tuple[int, int]] = {}

    def place(cell: CellPlan) -> tuple[int, int]:
        if cell.cell_id not in places:
            before = [place(one) for one in cell.inputs]
            seed = max([cell.seed, *(s for s, _ in before)])
            places[cell.cell_id] = seed, max((depth + 1 for _, depth in before), default=0)
        return places[cell.cell_id]

    return sorted(missing.values(), key=lambda pair: place(pair[1]))
