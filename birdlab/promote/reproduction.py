"""What reproducing the stored outputs of fold models came to."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from birdlab.promote.parity import TOLERANCE


@dataclass(frozen=True)
class CellReproduction:
    """One fold model: its stored outputs and its score, and those of its exported form.

    largest: the largest difference of a probability, at the window `worst` (recording and end in
    seconds); scores are padded cmAP over the recordings of the fold.
    """

    cell_id: str
    fold: int
    seed: int
    n_recordings: int
    n_windows: int
    largest: float
    worst: str
    score_torch: float
    score_onnx: float


@dataclass(frozen=True)
class Reproduction:
    """All fold models of a run; scores are means over folds, seeds averaged within a fold."""

    cells: tuple[CellReproduction, ...]
    tolerance: float = TOLERANCE

    @property
    def largest(self) -> float:
        """The largest difference of a probability."""
        return max(cell.largest for cell in self.cells)

    @property
    def n_windows(self) -> int:
        """How many windows were compared, over all models."""
        return sum(cell.n_windows for cell in self.cells)

    @property
    def score_torch(self) -> float:
        """The out-of-fold score from the stored outputs."""
        return self._mean("score_torch")

    @property
    def score_onnx(self) -> float:
        """The out-of-fold score from the exported models."""
        return self._mean("score_onnx")

    @property
    def difference(self) -> float:
        """Exported less stored."""
        return self.score_onnx - self.score_torch

    @property
    def passed(self) -> bool:
        """Whether every window and every score is as it was stored, within the tolerance."""
        scores = (abs(cell.score_onnx - cell.score_torch) for cell in self.cells)
        return self.largest <= self.tolerance and max(scores) <= self.tolerance

    def table(self) -> pd.DataFrame:
        """One row per fold model."""
        return pd.DataFrame([vars(cell) for cell in self.cells])

    def _mean(self, score: str) -> float:
        return float(self.table().groupby("fold")[score].mean().mean())
