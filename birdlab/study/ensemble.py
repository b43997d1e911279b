"""Runs as members of one ensemble: how alike they are, and what each of them adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from birdlab.data.audit.sentences import count
from birdlab.errors import OutputsError
from birdlab.evaluate.metrics import padded_cmap
from birdlab.evaluate.score import N_PAD, FoldTable
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.species import FoldTables, pool_folds

Floats = npt.NDArray[np.float64]
ENSEMBLE = "ensemble"
MIN_RANKED = 3
"""A fold with fewer recordings says nothing about the order of two members."""


@dataclass(frozen=True, eq=False)
class Members:
    """Runs on the recordings and classes that all of them have out-of-fold outputs of.

    names: of the runs; fold: [R] of each recording, as the first run was split; primary: [R] the
    column of its primary label, -1 for one that is no shared class; targets: [R, C]; probs:
    [M, R, C] float32, the mean over the seeds of a run; left_out: what is not compared, in words.
    """

    names: tuple[str, ...]
    recordings: tuple[str, ...]
    codes: tuple[str, ...]
    fold: npt.NDArray[np.int64]
    primary: npt.NDArray[np.int64]
    targets: npt.NDArray[np.bool_]
    probs: npt.NDArray[np.float32]
    left_out: tuple[str, ...] = ()

    def fold_tables(self, member: int) -> dict[tuple[int, int], FoldTable]:
        """One member as a table per fold, as if it had one seed, 0."""
        tables = {}
        for fold in np.unique(self.fold).tolist():
            rows = np.flatnonzero(self.fold == fold)
            tables[fold, 0] = FoldTable(
                tuple(self.recordings[row] for row in rows),
                self.codes,
                self.primary[rows],
                self.targets[rows],
                self.probs[member, rows],
            )
        return tables


def align_members(runs: Mapping[str, FoldTables]) -> Members:
    """The runs, by name, on what they share, in the order of the first.

    A prediction is always out of fold for the run that made it, so runs that were split otherwise
    may be members; they are scored on the folds of the first, and where labels differ (one run
    counts secondary labels and another does not) on the labels of the first. Raises OutputsError
    for no run and for runs that share no recording or class.
    """
    if not runs:
        raise OutputsError("an ensemble needs members")
    pooled = {name: pool_folds(tables) for name, tables in runs.items()}
    first = next(iter(runs))
    recordings = _shared([table.recordings for table in pooled.values()])
    codes = _shared([table.codes for table in pooled.values()])
    if not recordings or not codes:
        raise OutputsError("the runs share no recordings of the same classes", got=", ".join(runs))
    cut = {name: _cut(table, recordings, codes) for name, table in pooled.items()}
    targets = cut[first].targets
    folds = {name: _folds_of(tables) for name, tables in runs.items()}
    left_out = [words for name in runs for words in _left_out(name, pooled[name], cut[name])]
    left_out += [
        f"{name} was split otherwise than {first}; it is scored on the folds of {first}."
        for name in runs
        if any(folds[name][recording] != folds[first][recording] for recording in recordings)
    ]
    left_out += [
        f"{count(int((table.targets != targets).sum()), 'label')} of {name} differ from those of "
        f"{first}, which are what counts."
        for name, table in cut.items()
        if not np.array_equal(table.targets, targets)
    ]
    return Members(
        tuple(runs),
        recordings,
        codes,
        np.array([folds[first][recording] for recording in recordings]),
        cut[first].primary,
        targets,
        np.stack([table.probs for table in cut.values()]),
        tuple(left_out),
    )


def _shared(names: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The names that stand in every list, in the order of the first."""
    common = set(names[0]).intersection(*names[1:])
    return tuple(name for name in names[0] if name in common)


def _cut(table: FoldTable, recordings: tuple[str, ...], codes: tuple[str, ...]) -> FoldTable:
    """The table with these recordings and classes alone, in this order."""
    place = {recording: i for i, recording in enumerate(table.recordings)}
    rows = np.array([place[recording] for recording in recordings])
    columns = np.array([table.codes.index(code) for code in codes])
    column_of = np.full(len(table.codes), -1)
    column_of[columns] = np.arange(len(codes))
    cells = np.ix_(rows, columns)
    return FoldTable(
        recordings,
        codes,
        column_of[table.primary[rows]],
        table.targets[cells],
        table.probs[cells],
    )


def _folds_of(tables: FoldTables) -> dict[str, int]:
    return {name: fold for (fold, _), table in tables.items() for name in table.recordings}


def _left_out(name: str, all_of: FoldTable, cut: FoldTable) -> list[str]:
    n = len(all_of.recordings) - len(cut.recordings)
    classes = len(all_of.codes) - len(cut.codes)
    more = [count(n, "recording")] if n else []
    more += [count(classes, "class", "classes")] if classes else []
    return [f"{' and '.join(more)} of {name} that another member lacks."] if more else []


def correlate_members(members: Members) -> pd.DataFrame:
    """Spearman's rank correlation of the probabilities of each two members: [M, M], 1 on the
    diagonal.

    Within each fold and class, over its recordings, since that is the order that average
    precision looks at; the mean over classes and folds, each fold weighed by its recordings. A
    class to which a member gives the same probability everywhere is left out; NaN where nothing is
    left. Folds of fewer than 3 recordings are left out.
    """
    total, weight = np.zeros((len(members.names),) * 2), 0
    for fold in np.unique(members.fold):
        probs = members.probs[:, members.fold == fold]
        n = probs.shape[1]
        if n < MIN_RANKED:
            continue
        ranks = stats.rankdata(probs, axis=1)
        ranks -= ranks.mean(axis=1, keepdims=True)
        norm = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
        told = (norm > 0).all(axis=(0, 1))
        if told.any():
            unit = (ranks / np.where(norm > 0, norm, 1))[:, :, told]
            total += n * np.einsum("anc,bnc->ab", unit, unit) / told.sum()
            weight += n
    names = list(members.names)
    values = total / weight if weight else np.full_like(total, np.nan)
    return pd.DataFrame(values, index=names, columns=names)


def score_folds(members: Members, probs: npt.NDArray[np.float32]) -> Floats:
    """The padded cmAP of [R, C] probabilities in each fold, in rising order: [F]."""
    chosen = [members.fold == fold for fold in np.unique(members.fold)]
    return np.array([padded_cmap(members.targets[rows], probs[rows], N_PAD) for rows in chosen])


def weigh_members(members: Members) -> pd.DataFrame:
    """What each member adds: name, alone, without, gain, gain_low, gain_high, helps.

    Scores are fold-averaged padded cmAP. alone: of the member; without: of the mean of the others;
    gain: by how much the ensemble of all is better than that, and the lowest and highest fold of
    it; helps: in how many folds. NaN for an ensemble of one.
    """
    whole = score_folds(members, _mean(members.probs))
    rows = []
    for m, name in enumerate(members.names):
        alone = score_folds(members, members.probs[m])
        row: dict[str, object] = {"name": name, "alone": float(alone.mean())}
        if len(members.names) > 1:
            without = score_folds(members, _mean(np.delete(members.probs, m, axis=0)))
            gain = whole - without
            row |= {
                "without": float(without.mean()),
                "gain": float(gain.mean()),
                "gain_low": float(gain.min()),
                "gain_high": float(gain.max()),
                "helps": f"{int((gain > 0).sum())} of {len(gain)}",
            }
        rows.append(row)
    columns = ["name", "alone", "without", "gain", "gain_low", "gain_high", "helps"]
    return pd.DataFrame(rows, columns=columns)


def judge_ensemble(members: Members) -> Ranking | None:
    """The verdict on the mean ensemble against its best member, paired by fold; None for one.

    The ensemble counts every member once, whatever its number of seeds. The best member was picked
    by the scores it is judged on, which favours it, so `better` is said no more often than it
    should be.
    """
    if len(members.names) < 2:
        return None
    scores = {name: score_folds(members, members.probs[m]) for m, name in enumerate(members.names)}
    best = max(scores, key=lambda name: float(scores[name].mean()))
    arm = ENSEMBLE if best != ENSEMBLE else f"{ENSEMBLE} of all"
    compared = {best: scores[best], arm: score_folds(members, _mean(members.probs))}
    rows = [
        {"arm": name, "fold": fold, "seed": 0, "score": float(score)}
        for name, folds in compared.items()
        for fold, score in enumerate(folds)
    ]
    return rank_arms(pd.DataFrame(rows), base=best)


def _mean(probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(probs.mean(axis=0, dtype=np.float64), np.float32)
