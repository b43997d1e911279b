"""Where the difference of two runs comes from: its exact split over species and recordings.

A score is a mean over folds of a mean over seeds of a mean over classes, so that a difference is
the sum of what each species adds, and within a species of what each recording that carries it adds
by its own rank. What else a recording does, as one that is mistaken for a species, is in its
leave-one-out influence: the difference less what it would be without the recording. Influences do
not sum to the difference: `remainder` is what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.score import N_PAD, FoldTable
from birdlab.study.contrasts import Floats
from birdlab.study.influence import check_metric, find_influence
from birdlab.study.recordings import check_pairs
from birdlab.study.sharing import Shared
from birdlab.study.split_chance import Chance, draw_chance, seed_sd
from birdlab.study.split_words import split_sentences

N_TOP = 5


@dataclass(frozen=True, eq=False)
class DeltaSplit:
    """The difference of an arm to its base, species by species and recording by recording.

    species: code, support (recordings that carry it), ap_a, ap_b (the score of the species in base
    and arm, mean over seeds and folds that have it; ROC-AUC where `metric` is macro_auc), share
    (what it adds; the shares sum to `delta`), by_chance (the SD of the share between two equal
    runs, NaN where a run has one seed); largest share first, whatever its sign.
    recordings: recording, fold (of the base), primary (code, "" where that is not compared),
    share (what the ranks of its own labels add; the shares sum to `delta`), influence, by_chance
    (the SD of the influence between two equal runs), prob_a, prob_b (of the primary class, mean
    over seeds); largest influence first. `remainder` is delta less the sum of the influences.
    parts: for each species the `N_TOP` recordings that move its share most: code, recording, fold,
    labelled (whether it carries the species), share and influence (those of all species sum to the
    recording's), prob_a, prob_b (of this species); in the order of `species`.
    chance: what seeds alone would show, None where a run has one seed or was split otherwise.
    """

    base: str
    arm: str
    metric: str
    delta: float
    species: pd.DataFrame
    recordings: pd.DataFrame
    parts: pd.DataFrame
    remainder: float
    chance: Chance | None
    sentences: tuple[str, ...]


def split_delta(
    shared: Shared, arm: str, *, n_pad: int = N_PAD, metric: str = "padded_cmap"
) -> DeltaSplit:
    """Where the difference of `arm` to the base of `shared` comes from.

    `delta` is the difference of the means over cells of padded cmAP, or of macro AUC. Runs that
    were split otherwise are taken apart over the pieces that `Shared.pairs` gives, as if these were
    folds. Raises DataError for an arm that is not compared, or another metric.
    """
    check_metric(metric, n_pad)
    if arm not in shared.arms:
        raise DataError(
            "the run is not compared with the base", got=arm, expected=", ".join(shared.arms)
        )
    pairs = shared.pairs(arm)
    check_pairs(pairs)
    homes = sorted(shared.crossed[arm]) if arm in shared.crossed else None
    folds = []
    for number in sorted({fold for fold, _ in pairs}):
        both = [pair for (fold, _), pair in pairs.items() if fold == number]
        a, b = (_Side.of([pair[side] for pair in both], metric, n_pad) for side in (0, 1))
        folds.append(_Fold(homes[number][0] if homes else number, a, b))
    species = _species_table(folds)
    recordings = _recordings_table(folds)
    delta = math.fsum(species["share"])
    remainder = delta - math.fsum(recordings["influence"])
    chance = None if homes else _chance(folds)
    return DeltaSplit(
        shared.base,
        arm,
        metric,
        delta,
        species,
        recordings,
        _parts_table(folds, list(species["code"])),
        remainder,
        chance,
        tuple(split_sentences(delta, species, recordings, remainder, chance)),
    )


@dataclass(frozen=True, eq=False)
class _Side:
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
    def of(cls, tables: Sequence[FoldTable], metric: str, n_pad: int) -> _Side:
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
class _Fold:
    """Both runs in one fold, `number` that of the base."""

    number: int
    a: _Side
    b: _Side

    @cached_property
    def cells(self) -> Floats:
        """What each recording does to the share of each class: [rows, classes]."""
        return self.b.cells - self.a.cells

    @cached_property
    def added(self) -> Floats:
        """What the rank of each recording adds to the share of each class: [rows, classes]."""
        return self.b.added - self.a.added


def _species_table(folds: Sequence[_Fold]) -> pd.DataFrame:
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


def _recordings_table(folds: Sequence[_Fold]) -> pd.DataFrame:
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


def _parts_table(folds: Sequence[_Fold], order: Sequence[str]) -> pd.DataFrame:
    """The recordings that move each species most, see DeltaSplit."""
    tables = []
    for fold in folds:
        table, cells = fold.a.table, fold.cells
        rows = np.argsort(-np.abs(cells), axis=0, kind="stable")[:N_TOP]
        at = (rows.ravel(), np.tile(np.arange(cells.shape[1]), len(rows)))
        columns = {
            "code": np.asarray(table.codes)[at[1]],
            "recording": np.asarray(table.recordings)[at[0]],
            "fold": fold.number,
            "labelled": table.targets[at],
            "share": fold.added[at] / len(folds),
            "influence": cells[at] / len(folds),
            "prob_a": fold.a.probs[at],
            "prob_b": fold.b.probs[at],
        }
        tables.append(pd.DataFrame(columns))
    found = _largest_first(pd.concat(tables, ignore_index=True), "influence")
    found = found[found["influence"] != 0].groupby("code", sort=False).head(N_TOP)
    place = {code: i for i, code in enumerate(order)}
    by_species = found.sort_values("code", key=lambda codes: codes.map(place), kind="stable")
    return by_species.reset_index(drop=True)


def _chance(folds: Sequence[_Fold]) -> Chance | None:
    return draw_chance(
        [(fold.a.parts, fold.b.parts) for fold in folds],
        [(fold.a.moved, fold.b.moved) for fold in folds],
    )


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
