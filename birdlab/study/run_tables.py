"""The stored predictions of a run, cut to the rows and classes of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError
from birdlab.evaluate.evidence import Cell, FoldTable

T = TypeVar("T")
K = TypeVar("K", int, tuple[int, int])
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunTables:
    """A run to compare: what it is called, and its held-out recordings by (fold, seed)."""

    name: str
    tables: Mapping[Cell, FoldTable]

    @property
    def seeds(self) -> list[int]:
        """Its seeds in order."""
        return sorted({seed for _, seed in self.tables})

    def homes(self) -> dict[str, int]:
        """The fold that holds each recording out, for recordings that every seed predicted.

        Raises DataError for a recording that two folds hold out, also of two seeds.
        """
        found: dict[str, int] = {}
        counts: dict[str, int] = {}
        for (fold, _), table in self.tables.items():
            for name in table.recordings:
                if found.setdefault(name, fold) != fold:
                    raise DataError(
                        "a recording is held out by two folds of a run",
                        where=f"{self.name}: {name}",
                        got=f"folds {found[name]} and {fold}",
                        fix="give each way to split a run of its own",
                    )
                counts[name] = counts.get(name, 0) + 1
        return {name: fold for name, fold in found.items() if counts[name] == len(self.seeds)}


class Cut:
    """The rows of one run by name, whatever fold they are in, as columns of the shared classes."""

    def __init__(self, run: RunTables, home: Mapping[str, int], codes: tuple[str, ...]) -> None:
        self.run, self.home, self.codes = run, home, codes
        self.place = {
            cell: {name: i for i, name in enumerate(table.recordings)}
            for cell, table in run.tables.items()
        }
        any_table = next(iter(run.tables.values()))
        own = {code: i for i, code in enumerate(any_table.codes)}
        self.columns = np.asarray([own[code] for code in codes], np.int64)
        shared = {code: i for i, code in enumerate(codes)}
        self.renumbered = np.asarray([shared.get(c, -1) for c in any_table.codes], np.int64)

    def _rows(self, names: Sequence[str], seed: int) -> Iterator[tuple[FoldTable, Ints, Ints]]:
        """The tables that hold these recordings: where they are in the list, and in the table."""
        places = group_by(range(len(names)), lambda i: self.home[names[i]])
        for fold, at in places.items():
            rows = self.place[fold, seed]
            yield (
                self.run.tables[fold, seed],
                np.asarray(at),
                np.asarray([rows[names[i]] for i in at]),
            )

    def truth(self, names: Sequence[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """The targets [names, classes] and the primary class of each, -1 for one not shared."""
        seed = self.run.seeds[0]
        targets = np.zeros((len(names), len(self.codes)), bool)
        primary = np.zeros(len(names), np.int64)
        for table, places, at in self._rows(names, seed):
            targets[places] = table.targets[at][:, self.columns]
            primary[places] = self.renumbered[table.primary[at]]
        return targets, primary

    def table(
        self,
        names: Sequence[str],
        seed: int,
        targets: npt.NDArray[np.bool_],
        primary: npt.NDArray[np.int64],
    ) -> FoldTable:
        """The predictions of one seed for these recordings, with a truth that is given."""
        probs = np.zeros((len(names), len(self.codes)), np.float32)
        for table, places, at in self._rows(names, seed):
            probs[places] = table.probs[at][:, self.columns]
        return FoldTable(tuple(names), self.codes, primary, targets, probs)


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by key, keys in order."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return {k: groups[k] for k in sorted(groups)}
