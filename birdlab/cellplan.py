"""The plan of one cell: its training rows, its steps, what it is made from, its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birdlab.data.classes import ClassList
from birdlab.rows import Rows
from birdlab.sed.steps import Steps
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.parts import StageSpec

if TYPE_CHECKING:
    from birdlab.teaching import Labelling

__all__ = ["SEMANTICS", "CellPlan", "Inputs", "Rows"]

SEMANTICS = {"decode": 1, "crop": 2, "network": 1, "fit": 2}
"""Raised when a part that is no kind gives other numbers for the same fields."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a cell is made from: its start, who labels for it, who teaches it, what it averages."""

    start: CellPlan | None = None
    labellers: tuple[CellPlan, ...] = ()
    distillers: tuple[CellPlan, ...] = ()
    sources: tuple[CellPlan, ...] = ()
    labelling: Labelling | None = None


@dataclass(frozen=True, eq=False)
class CellPlan:
    """One (stage, fold, seed): what it trains on, how long, what it starts from, its id.

    labellers: the cells that label its soundscapes; distillers: those whose outputs are its second
    target; sources: those whose weights it averages; labelling: the soundscapes that it learns
    from, and who labels which. Cells of other runs among them have a `spec` of their own.
    validation: the rows of the fold, where the cell is scored or looks at them while it trains;
    eval_id: names its outputs on them, None where it is not scored; rows_id: of the rows, classes
    and windows alone, equal where scores compare; keeps_weights: whether the run asks for them
    when it is scored.
    """

    cell_id: str
    spec: ExperimentSpec
    stage: StageSpec
    fold: int | None
    seed: int
    start: CellPlan | None
    rows: Rows
    chosen: npt.NDArray[np.int64]
    classes: ClassList
    steps: Steps
    document: Mapping[str, Any]
    validation: npt.NDArray[np.int64] | None
    eval_id: str | None
    rows_id: str | None = None
    soundscapes_id: str | None = None
    synthetic_id: str | None = None
    synthetic_rows: str | None = None
    keeps_weights: bool = True
    labellers: tuple[CellPlan, ...] = ()
    distillers: tuple[CellPlan, ...] = ()
    sources: tuple[CellPlan, ...] = ()
    labelling: Labelling | None = None

    @property
    def teachers(self) -> tuple[CellPlan, ...]:
        """The cells that label for it or teach it, each once; those of other runs too."""
        return tuple({c.cell_id: c for c in (*self.labellers, *self.distillers)}.values())

    @property
    def inputs(self) -> tuple[CellPlan, ...]:
        """All cells that it is made from: its start, its teachers, its sources."""
        start = () if self.start is None else (self.start,)
        return (*start, *self.teachers, *self.sources)

    @property
    def line(self) -> tuple[CellPlan, ...]:
        """The cell and all that it goes back to, inputs before what is made from them."""
        cells = [c for before in self.inputs for c in before.line]
        return tuple({c.cell_id: c for c in (*cells, self)}.values())

    @property
    def title(self) -> str:
        """The cell in words: stage, fold, seed."""
        where = "all data" if self.fold is None else f"fold {self.fold}"
        return f"{self.stage.name}, {where}, seed {self.seed}"
