"""What a run is scored on: the table of each fold and seed, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.distances import Places, far_from
from birdlab.evaluate.metrics import ClassRanks, rank_positives

Cell = tuple[int, int]
"""A fold and a seed."""
Heard = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]
"""The truth and the deployed probabilities of windows of soundscapes, [windows, classes] each."""


@dataclass(frozen=True, eq=False)
class FoldPlaces:
    """Where the held-out recordings of a fold were made, and those that its models trained on.

    held: by recording, latitude and longitude in degrees; trained: [N, 2]. Recordings of which that
    is not known are in neither.
    """

    held: Mapping[str, tuple[float, float]]
    trained: Places


@dataclass(frozen=True)
class FoldTable:
    """The deployed probabilities and the truth of one fold: [recordings, classes] each."""

    recordings: tuple[str, ...]
    codes: tuple[str, ...]
    primary: npt.NDArray[np.int64]
    targets: npt.NDArray[np.bool_]
    probs: npt.NDArray[np.float32]

    @cached_property
    def ranks(self) -> ClassRanks:
        """Where the positives of each class stand in it."""
        return rank_positives(self.targets, self.probs)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a run was scored on, by (fold, seed).

    tables: the recordings of the fold, every fold with the same seeds; heard: the windows of
    labelled soundscapes, empty without any; new: for each fold the recordings of people of whom
    its models heard nothing in training; synthetic: the windows of synthetic soundscapes, of
    recordings of the fold; places: of each fold, empty where no place is known.
    """

    tables: Mapping[Cell, FoldTable]
    heard: Mapping[Cell, Heard] = field(default_factory=dict)
    new: Mapping[int, frozenset[str]] = field(default_factory=dict)
    synthetic: Mapping[Cell, Heard] = field(default_factory=dict)
    places: Mapping[int, FoldPlaces] = field(default_factory=dict)

    @property
    def folds(self) -> list[int]:
        """The folds in order."""
        return sorted({fold for fold, _ in self.tables})

    @property
    def seeds(self) -> list[int]:
        """The seeds in order."""
        return sorted({seed for _, seed in self.tables})

    @property
    def ranks(self) -> dict[Cell, ClassRanks]:
        """The ranks within each fold."""
        return {cell: table.ranks for cell, table in self.tables.items()}

    @cached_property
    def pooled_ranks(self) -> dict[int, ClassRanks]:
        """The ranks over all folds as one table, by seed."""
        return {seed: pool_ranks([self.tables[f, seed] for f in self.folds]) for seed in self.seeds}

    @cached_property
    def heard_ranks(self) -> dict[Cell, ClassRanks]:
        """The ranks within the windows of soundscapes, for each model."""
        return {cell: rank_positives(*tables) for cell, tables in self.heard.items()}

    @cached_property
    def synthetic_ranks(self) -> dict[Cell, ClassRanks]:
        """The ranks within the windows of synthetic soundscapes, for each model."""
        return {cell: rank_positives(*tables) for cell, tables in self.synthetic.items()}

    @cached_property
    def new_ranks(self) -> dict[Cell, ClassRanks]:
        """The ranks within the recordings of new recordists; folds without any are not in it."""
        return self.ranks_among(self.new)

    def new_sites(self, km: float) -> dict[int, frozenset[str]]:
        """For each fold, the recordings made further than `km` from every training recording."""
        found = {}
        for fold, places in self.places.items():
            far = far_from(np.array([*places.held.values()]).reshape(-1, 2), places.trained, km)
            found[fold] = frozenset(n for n, new in zip(places.held, far, strict=True) if new)
        return found

    def ranks_among(self, chosen: Mapping[int, frozenset[str]]) -> dict[Cell, ClassRanks]:
        """The ranks within the recordings chosen in each fold; folds without any are not in it."""
        out = {}
        for (fold, seed), table in self.tables.items():
            own = chosen.get(fold, frozenset())
            rows = np.flatnonzero([name in own for name in table.recordings])
            if len(rows):
                out[fold, seed] = rank_positives(table.targets[rows], table.probs[rows])
        return out


def pool_ranks(tables: Sequence[FoldTable]) -> ClassRanks:
    """The ranks over several tables as one."""
    return rank_positives(
        np.concatenate([t.targets for t in tables]), np.concatenate([t.probs for t in tables])
    )
