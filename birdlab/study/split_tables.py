"""The tables of a split: what each species and each recording adds to a difference of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.evaluate.evidence import FoldTable
from birdlab.study.contrasts import Floats
from birdlab.study.influence import find_influence
from birdlab.study.split_chance import seed_sd

N_TOP = 5
"""So many recordings are named for a species."""
N_MOVES = 3
"""So many species are named for a recording."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SideOfFold:
    """One run in one fold. parts: [seeds, classes]; moved: [seeds, rows], as in Influence;
    values: [classes], added, cells (what moves each class) and probs: [rows, classes] are means
    over seeds.
    """

    table: FoldTable
    parts: Floats
    moved: Floats
    values: Floats
    added: Floats
    cells: Floats
    probs: Floats

    @classmethod
    def of(cls, tables: Sequence[FoldTable], metric: str, n_pad: int) -> SideOfFold:
        """The mean over the tables, each counted once: unpaired runs name one for several pairs."""
        seeds = list({id(table): table for table in tables}.values())
        added, cells, probs = (np.zeros(seeds[0].targets.shape) for _ in range(3))
        values, parts, moved = [], [], []
        for table in seeds:
            one = find_influence(table, metric=metric, n_pad=n_pad)
            added += one.added / len(seeds)
            cells += one.moved / len(seeds)
            probs += table.probs / len(seeds)
            values.append(one.values)
            parts.append(one.parts)
            moved.append(one.moved.sum(axis=1))
        mean = np.mean(values, axis=0)
        return cls(seeds[0], np.stack(parts), np.stack(moved), mean, added, cells, probs)


@dataclass(frozen=True, eq=False)
class FoldSplit:
    """Both runs in one fold, `number` that of the base."""

    number: int
    a: SideOfFold
    b: SideOfFold

    @cached_property
    def cells(self) -> Floats:
        """What each recording does to the share of each class: [rows, classes]."""
        return self.b.cells - self.a.cells

    @cached_property
    def added(self) -> Floats:
        """What the rank of each recording adds to the share of each class: [rows, classes]."""
        return self.b.added - self.a.added


def species_table(folds: Sequence[FoldSplit]) -> pd.DataFrame:
    """What each species adds to the difference, largest share first; see DeltaSplit."""
    first = folds[0].a.table
    differ = [fold.b.parts.mean(axis=0) - fold.a.parts.mean(axis=0) for fold in folds]
    sds = np.stack([seed_sd((fold.a.parts, fold.b.parts)) for fold in folds])
    table = pd.DataFrame(
        {
            "code": first.codes,
            "support": np.sum([fold.a.table.targets.sum(axis=0) for fold in folds], axis=0),
            "ap_a": _known_mean([fold.a.values for fold in folds]),
            "ap_b": _known_mean([fold.b.values for fold in folds]),
            "share": np.mean(differ, axis=0),
            "by_chance": np.sqrt((sds**2).sum(axis=0)) / len(folds),
        }
    )
    return _largest_first(table, "share")


def recordings_table(folds: Sequence[FoldSplit]) -> pd.DataFrame:
    """What each recording does to the difference, largest influence first; see DeltaSplit."""
    tables = []
    for fold in folds:
        table, primary = fold.a.table, fold.a.table.primary
        known = primary >= 0
        rows, column = np.arange(len(primary)), np.where(known, primary, 0)
        said = {
            name: np.where(known, side.probs[rows, column], np.nan)
            for name, side in (("prob_a", fold.a), ("prob_b", fold.b))
        }
        columns = {
            "recording": table.recordings,
            "fold": fold.number,
            "primary": [table.codes[i] if i >= 0 else "" for i in primary],
            "share": fold.added.sum(axis=1) / len(folds),
            "influence": fold.cells.sum(axis=1) / len(folds),
            "by_chance": seed_sd((fold.a.moved, fold.b.moved)) / len(folds),
            **said,
        }
        tables.append(pd.DataFrame(columns))
    return _largest_first(pd.concat(tables, ignore_index=True), "influence")


def parts_table(folds: Sequence[FoldSplit], order: Sequence[str]) -> pd.DataFrame:
    """The recordings that move each species most, species in this order; see DeltaSplit."""
    found = []
    for fold in folds:
        rows = np.argsort(-np.abs(fold.cells), axis=0, kind="stable")[:N_TOP]
        columns = np.broadcast_to(np.arange(fold.cells.shape[1]), rows.shape)
        found.append(_cells_table(fold, rows.ravel(), columns.ravel(), len(folds)))
    return _first_of(pd.concat(found), "code", order, N_TOP)


def moves_table(folds: Sequence[FoldSplit], order: Sequence[str]) -> pd.DataFrame:
    """The species that each recording moves most, recordings in this order; see DeltaSplit."""
    found = []
    for fold in folds:
        columns = np.argsort(-np.abs(fold.cells), axis=1, kind="stable")[:, :N_MOVES]
        rows = np.broadcast_to(np.arange(len(fold.cells))[:, None], columns.shape)
        found.append(_cells_table(fold, rows.ravel(), columns.ravel(), len(folds)))
    return _first_of(pd.concat(found), "recording", order, N_MOVES)


def _cells_table(fold: FoldSplit, rows: Ints, columns: Ints, n_folds: int) -> pd.DataFrame:
    """One row for each pair of a recording and a class that does something to the share of it."""
    table = fold.a.table
    moving = np.abs(fold.cells[rows, columns]) > 0
    at = rows, columns = rows[moving], columns[moving]
    found = {
        "code": np.asarray(table.codes)[columns],
        "recording": np.asarray(table.recordings)[rows],
        "fold": fold.number,
        "labelled": table.targets[at],
        "share": fold.added[at] / n_folds,
        "influence": fold.cells[at] / n_folds,
        "prob_a": fold.a.probs[at],
        "prob_b": fold.b.probs[at],
    }
    return pd.DataFrame(found)


def _first_of(table: pd.DataFrame, key: str, order: Sequence[str], most: int) -> pd.DataFrame:
    """The first of each group of `key` by influence, groups in order."""
    found = _largest_first(table, "influence").groupby(key, sort=False).head(most)
    place = {name: i for i, name in enumerate(order)}
    by_group = found.sort_values(key, key=lambda names: names.map(place), kind="stable")
    return by_group.reset_index(drop=True)


def _known_mean(values: Sequence[Floats]) -> Floats:
    """The mean over folds of those that are numbers; NaN where none is."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    n = known.sum(axis=0).astype(float)
    out = np.full(len(n), np.nan)
    sums = np.where(known, stacked, 0).sum(axis=0)
    return np.asarray(np.divide(sums, n, out=out, where=n > 0))


def _largest_first(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.sort_values(column, key=lambda values: -values.abs(), kind="stable").reset_index(
        drop=True
    )
