"""What several runs have in common: the recordings, classes, folds and seeds to compare them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from birdlab.errors import DataError
from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.study.run_tables import Cut, RunTables, group_by
from birdlab.study.splits import moved_recordings
from birdlab.words import count_words, list_some

Pair = tuple[FoldTable, FoldTable]
Pieces = Mapping[tuple[int, int], Mapping[int, Pair]]


@dataclass(frozen=True, eq=False)
class Shared:
    """Several runs on the same recordings, classes and truth, the first of them the base.

    tables: of the base and each run with the same folds, by (fold, seed), equal rows in each.
    crossed: of each run that was split otherwise, by (fold of the base, its own fold) and then by
    seed, the tables of base and run where one model of each speaks. left_out: what could not be
    compared, in words; notes: what is to be known of the pairing. Where the runs share no seed,
    `paired` is False: a seed is then a number for one seed of the base with one of the run.
    """

    tables: Mapping[str, Mapping[Cell, FoldTable]]
    crossed: Mapping[str, Pieces]
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

    @property
    def arms(self) -> list[str]:
        """The others."""
        return [*list(self.tables)[1:], *self.crossed]

    def seeds(self, name: str) -> list[int]:
        """The seeds of a run that are compared."""
        if name in self.crossed:
            return sorted({seed for pairs in self.crossed[name].values() for seed in pairs})
        return sorted({seed for _, seed in self.tables[name]})

    def pairs(self, name: str) -> dict[Cell, Pair]:
        """The tables of base and run for each fold, or piece of it, and seed."""
        if name in self.crossed:
            pieces = [pairs for _, pairs in sorted(self.crossed[name].items())]
            return {(i, s): pair for i, pairs in enumerate(pieces) for s, pair in pairs.items()}
        one, other = self.tables[self.base], self.tables[name]
        if self.paired:
            return {cell: (one[cell], other[cell]) for cell in one}
        both = [(a, b) for a in self.seeds(self.base) for b in self.seeds(name)]
        return {
            (fold, i): (one[fold, a], other[fold, b])
            for fold in self.folds
            for i, (a, b) in enumerate(both)
        }


def share_tables(runs: Sequence[RunTables]) -> Shared:
    """The runs cut down to what they share with the first of them, the base.

    The truth is the base's. A prediction is only ever that of the run's one model that had not
    heard the recording. Where almost all recordings lie in the same folds, the few that moved are
    left out; a run that was split otherwise is compared in pieces. A run that has nothing in common
    with those before it is left out. Raises DataError for fewer than two runs, names that occur
    twice, or no other run that shares anything.
    """
    names = [run.name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise DataError("a comparison needs two runs with names of their own", got=str(names))
    homes = {run.name: run.homes() for run in runs}
    kept, codes, recordings, left_out = _overlap(runs, homes)
    if len(kept) < 2:
        raise DataError(
            "the runs have nothing in common to be compared on",
            got=" ".join(left_out),
            fix="compare runs that share recordings, classes and folds",
        )
    seeds = _shared_seeds(kept)
    left_out += _left_out(kept, homes, codes, recordings, seeds)
    others, recordings, moved = _other_splits(kept, homes, recordings)
    cut = {run.name: Cut(run, homes[run.name], codes) for run in kept}
    notes = [*_seed_notes(kept, seeds), *_truth_notes(cut, recordings)]
    notes += [_crossed_note(name, kept[0].name) for name in others]
    first, home = cut[kept[0].name], homes[kept[0].name]
    return Shared(
        _tables([c for name, c in cut.items() if name not in others], seeds, home, recordings),
        {name: _pieces(first, cut[name], seeds, recordings) for name in others},
        tuple(sorted({home[name] for name in recordings})),
        tuple(recordings),
        codes,
        bool(seeds),
        (*left_out, *moved),
        tuple(notes),
    )


def _tables(
    cuts: Sequence[Cut], seeds: Sequence[int], home: Mapping[str, int], recordings: Sequence[str]
) -> dict[str, dict[Cell, FoldTable]]:
    """The tables of runs with the same folds, by the fold numbers of the first."""
    tables: dict[str, dict[Cell, FoldTable]] = {cut.run.name: {} for cut in cuts}
    for fold, rows in group_by(recordings, lambda name: home[name]).items():
        truth = cuts[0].truth(rows)
        for cut in cuts:
            for seed in seeds or cut.run.seeds:
                tables[cut.run.name][fold, seed] = cut.table(rows, seed, *truth)
    return tables


def _pieces(
    base: Cut, arm: Cut, seeds: Sequence[int], recordings: Sequence[str]
) -> dict[tuple[int, int], dict[int, Pair]]:
    """The tables of base and arm for each pair of their folds that have recordings in common."""
    both = [(a, b) for a in base.run.seeds for b in arm.run.seeds]
    numbered = {s: (s, s) for s in seeds} if seeds else dict(enumerate(both))
    pieces: dict[tuple[int, int], dict[int, Pair]] = {}
    for key, rows in group_by(recordings, lambda n: (base.home[n], arm.home[n])).items():
        truth = base.truth(rows)
        pieces[key] = {
            i: (base.table(rows, a, *truth), arm.table(rows, b, *truth))
            for i, (a, b) in numbered.items()
        }
    return pieces


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
    """The classes of a run; none of one without tables."""
    return next((table.codes for table in run.tables.values()), ())


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


def _other_splits(
    runs: Sequence[RunTables], homes: Mapping[str, Mapping[str, int]], recordings: list[str]
) -> tuple[list[str], list[str], list[str]]:
    """The runs that were split otherwise, the recordings that stay, and in words which moved."""
    base, others, said = homes[runs[0].name], [], []
    for run in runs[1:]:
        moved = moved_recordings(base, homes[run.name], recordings)
        if moved is None:
            others.append(run.name)
        elif moved:
            gone = set(moved)
            recordings = [name for name in recordings if name not in gone]
            what = count_words(len(moved), "recording")
            said.append(f"{what} lie in another fold of {run.name}: left out.")
    return others, recordings, said


def _crossed_note(name: str, base: str) -> str:
    return (
        f"{name} was split otherwise: in a fold of {base} its predictions come from several "
        "models, each of which had not heard the recordings it speaks of. So that one model of "
        "each is compared with one of the other, both are scored on the pieces that a fold of each "
        "have in common. Scores of so few rows lie closer together than those of whole folds."
    )


def _truth_notes(cut: Mapping[str, Cut], names: Sequence[str]) -> list[str]:
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
