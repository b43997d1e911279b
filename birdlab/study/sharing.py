"""What several runs have in common: the recordings, classes, folds and seeds to compare them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError
from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.study.words import count_words, list_some


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


@dataclass(frozen=True, eq=False)
class Shared:
    """Several runs on the same rows: the folds are those of the base, the first of them.

    tables: for each run, equal recordings, classes and truth in every (fold, seed). left_out: what
    could not be compared, in words; notes: what is to be known of the pairing. Where the runs share
    no seed, `paired` is False and each has the seeds of its own.
    """

    tables: Mapping[str, Mapping[Cell, FoldTable]]
    folds: tuple[int, ...]
    recordings: tuple[str, ...]
    codes: tuple[str, ...]
    paired: bool
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def base(self) -> str:
        """The run that the others are compared with."""
        return next(iter(self.tables))

    def seeds(self, name: str) -> list[int]:
        """The seeds of a run that are compared."""
        return sorted({seed for _, seed in self.tables[name]})

    def pairs(self, name: str) -> dict[Cell, tuple[FoldTable, FoldTable]]:
        """The tables of base and run for each fold and seed.

        Without a seed in common it is every seed of one with every seed of the other, numbered.
        """
        one, other = self.tables[self.base], self.tables[name]
        if self.paired:
            return {cell: (one[cell], other[cell]) for cell in one}
        combined = [(a, b) for a in self.seeds(self.base) for b in self.seeds(name)]
        return {
            (fold, i): (one[fold, a], other[fold, b])
            for fold in self.folds
            for i, (a, b) in enumerate(combined)
        }


def share_tables(runs: Sequence[RunTables]) -> Shared:
    """The runs cut down to what they share with the first of them, the base.

    The truth is the base's. A prediction is only ever one of the run's models that had not heard
    the recording; where a run was split otherwise, several of its models make up a fold of the
    base. A run that has nothing in common with those before it is left out. Raises DataError for
    fewer than two runs, names that occur twice, or no other run that shares anything.
    """
    names = [run.name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise DataError("a comparison needs two runs with names of their own", got=str(names))
    homes = {run.name: run.homes() for run in runs}
    kept, codes, recordings, left_out = _overlap(runs, homes)
    if len(kept) < 2:
        raise DataError("the runs have nothing in common to be compared on", got=" ".join(left_out))
    base, home = kept[0], homes[kept[0].name]
    seeds = _shared_seeds(kept)
    left_out += _left_out(kept, homes, codes, recordings, seeds)
    notes = [*_seed_notes(kept, seeds), *_split_notes(kept, homes, recordings)]
    cut = {run.name: _Cut(run, homes[run.name], codes) for run in kept}
    notes += _truth_notes(cut, recordings)
    folds = sorted({home[name] for name in recordings})
    tables: dict[str, dict[Cell, FoldTable]] = {run.name: {} for run in kept}
    for fold in folds:
        rows = [name for name in recordings if home[name] == fold]
        truth = cut[base.name].truth(rows)
        for run in kept:
            for seed in seeds or run.seeds:
                tables[run.name][fold, seed] = cut[run.name].table(rows, seed, *truth)
    return Shared(
        tables,
        tuple(folds),
        tuple(recordings),
        codes,
        bool(seeds),
        tuple(left_out),
        tuple(notes),
    )


class _Cut:
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

    def _rows(self, names: Sequence[str], seed: int) -> Iterator[tuple[FoldTable, list[int]]]:
        """The tables that hold these recordings, with where each is in the list of names."""
        by_fold: dict[int, list[int]] = {}
        for i, name in enumerate(names):
            by_fold.setdefault(self.home[name], []).append(i)
        for fold, places in by_fold.items():
            yield self.run.tables[fold, seed], places

    def truth(self, names: Sequence[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """The targets [names, classes] and the primary class of each, -1 for one not shared."""
        seed = self.run.seeds[0]
        targets = np.zeros((len(names), len(self.codes)), bool)
        primary = np.zeros(len(names), np.int64)
        for table, places in self._rows(names, seed):
            at = self._at(table, names, places, seed)
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
        for table, places in self._rows(names, seed):
            probs[places] = table.probs[self._at(table, names, places, seed)][:, self.columns]
        return FoldTable(tuple(names), self.codes, primary, targets, probs)

    def _at(
        self, table: FoldTable, names: Sequence[str], places: list[int], seed: int
    ) -> list[int]:
        where = self.place[self.home[names[places[0]]], seed]
        return [where[names[i]] for i in places]


def _overlap(
    runs: Sequence[RunTables], homes: Mapping[str, Mapping[str, int]]
) -> tuple[list[RunTables], tuple[str, ...], list[str], list[str]]:
    """The runs that share something with all before, their classes and recordings, and the rest."""
    base, left_out = runs[0], []
    codes, recordings = _codes(base), list(homes[base.name])
    kept = [base]
    for run in runs[1:]:
        own = set(_codes(run))
        fewer_codes = tuple(code for code in codes if code in own)
        fewer = [name for name in recordings if name in homes[run.name]]
        if fewer_codes and fewer:
            codes, recordings = fewer_codes, fewer
            kept.append(run)
        else:
            what = "class" if fewer else "held-out recording"
            left_out.append(f"{run.name} is left out: it shares no {what} with the others.")
    return kept, codes, recordings, left_out


def _codes(run: RunTables) -> tuple[str, ...]:
    return next(iter(run.tables.values())).codes


def _shared_seeds(runs: Sequence[RunTables]) -> list[int]:
    """The seeds that every run has."""
    shared = set(runs[0].seeds)
    for run in runs[1:]:
        shared &= set(run.seeds)
    return sorted(shared)


def _left_out(
    runs: Sequence[RunTables],
    homes: Mapping[str, Mapping[str, int]],
    codes: tuple[str, ...],
    recordings: Sequence[str],
    seeds: Sequence[int],
) -> list[str]:
    """What of each run is not compared because others lack it."""
    said, kept = [], recordings
    for run in runs:
        parts = []
        home = homes[run.name]
        if len(home) > len(kept):
            parts.append(count_words(len(home) - len(kept), "recording"))
        for what, gone in (
            ("species", [code for code in _codes(run) if code not in codes]),
            ("fold", sorted(set(home.values()) - {home[name] for name in recordings})),
            ("seed", [seed for seed in run.seeds if seeds and seed not in seeds]),
        ):
            if gone:
                several = "s" if len(gone) > 1 and what != "species" else ""
                parts.append(f"{what}{several} {list_some(gone)}")
        if parts:
            said.append(f"Of {run.name}, what the others lack is left out: {', '.join(parts)}.")
    return said


def _seed_notes(runs: Sequence[RunTables], seeds: Sequence[int]) -> list[str]:
    if seeds:
        return []
    own = "; ".join(f"{run.name}: {', '.join(map(str, run.seeds))}" for run in runs)
    return [
        f"They share no seed ({own}): each is averaged over its own, and only folds are paired."
    ]


def _split_notes(
    runs: Sequence[RunTables],
    homes: Mapping[str, Mapping[str, int]],
    recordings: Sequence[str],
) -> list[str]:
    """How runs whose folds are not those of the base were put on them."""
    base, notes = runs[0], []
    for run in runs[1:]:
        models: dict[int, set[int]] = {}
        for name in recordings:
            models.setdefault(homes[base.name][name], set()).add(homes[run.name][name])
        several = sorted({len(found) for found in models.values()})
        one_each = several == [1] and len(set.union(*models.values())) == len(models)
        if one_each:
            continue
        count = f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
        notes.append(
            f"{run.name} was split otherwise. Every prediction is of a model that had not heard "
            f"the recording, but in a fold of {base.name} those of {run.name} come from {count} "
            "models. Their levels are ranked together, which can cost it some of its score; and "
            "since a model speaks in several folds, these tell less apart than the verdict assumes."
        )
    return notes


def _truth_notes(cut: Mapping[str, _Cut], names: Sequence[str]) -> list[str]:
    """How many labels of the others are not those of the base."""
    (base, first), *others = cut.items()
    truth, notes = first.truth(names)[0], []
    for name, other in others:
        differ = int((other.truth(names)[0] != truth).any(axis=1).sum())
        if differ:
            notes.append(
                f"{name} has other labels for {count_words(differ, 'recording')}: it is scored by "
                f"those of {base}."
            )
    return notes
