"""A scored run in memory, and what its caller knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from birdlab.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from birdlab.rounds import RoundsResult


@dataclass(frozen=True)
class RunNote:
    """What a caller knows of a run that its spec does not say: sweep, title, delta.

    rounds: in words, which round of which experiment it is, or why it was taken.
    """

    title: str = ""
    sweep: str = ""
    delta: Mapping[str, Any] = field(default_factory=dict)
    rounds: str = ""


@dataclass(frozen=True, eq=False)
class RunResult:
    """A scored run.

    scores: `cv/...` means over folds, their spread, the pooled value and the floor (empty
    when nothing was validated); cells: one row per (fold, seed) with its scores; read: what gives
    `classes` and `curves` when they are first asked for; trained_cells: the ids of the cells that
    were computed for it; cached: how many were found; waterfall and dropped: how cleaning came to
    the rows, as in DataTable; recordings: see `list_recordings`;
    chosen: in words, how validation rows picked the weights that were scored on them, "" where they
    did not; stopped_at: in words, where a race stopped the run, which then has cells and no scores;
    rounds: all rounds of an experiment that has some, of which this is the one taken.
    """

    spec: ExperimentSpec
    spec_id: str
    note: RunNote
    scores: dict[str, float]
    cells: pd.DataFrame
    read: Mapping[str, Callable[[], pd.DataFrame]]
    trained_cells: frozenset[str]
    cached: int
    record: Path
    waterfall: pd.DataFrame
    dropped: pd.DataFrame
    chosen: str = ""
    stopped_at: str = ""
    rounds: RoundsResult | None = None

    @property
    def trained(self) -> int:
        """How many cells were computed for it."""
        return len(self.trained_cells)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row per species: code, support, ap, auc."""
        return self.read["classes"]()

    @cached_property
    def curves(self) -> pd.DataFrame:
        """What each epoch of each cell said, with stage, fold and seed."""
        return self.read["curves"]()

    @cached_property
    def recordings(self) -> pd.DataFrame:
        """One row per held-out recording: recording, fold, recordist, primary_label."""
        return self.read["recordings"]()

    @property
    def cv(self) -> float:
        """The fold-averaged padded cmAP; NaN when nothing was validated."""
        return self.scores.get("cv/padded_cmap", float("nan"))
