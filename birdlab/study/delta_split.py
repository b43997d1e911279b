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

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.score import N_PAD
from birdlab.spec.estimators import PaddedCmap
from birdlab.study.influence import check_metric
from birdlab.study.recordings import check_pairs
from birdlab.study.sharing import Shared
from birdlab.study.split_chance import Chance, draw_chance
from birdlab.study.split_tables import (
    FoldSplit,
    SideOfFold,
    moves_table,
    parts_table,
    recordings_table,
    species_table,
)
from birdlab.study.split_words import split_sentences


@dataclass(frozen=True, eq=False)
class DeltaSplit:
    """The difference of an arm to its base, species by species and recording by recording.

    species: code, support (recordings that carry it), ap_a, ap_b (the score of the species in base
    and arm, mean over seeds and folds, 1 in a fold without it; where `metric` is macro_auc ROC-AUC
    over the folds that have it), share (what it adds; the shares sum to `delta`), by_chance (the SD
    of the share between two equal runs, NaN where a run has one seed or was split otherwise);
    largest share first, whatever its sign.
    recordings: recording, fold (of the base), primary (code, "" where that is not compared),
    share (what the ranks of its own labels add; the shares sum to `delta`), influence, by_chance
    (the SD of the influence between two equal runs), prob_a, prob_b (of the primary class, mean
    over seeds); largest influence first. `remainder` is delta less the sum of the influences.
    parts: for each species the `N_TOP` recordings that move its share most: code, recording, fold,
    labelled (whether it carries the species), share and influence (those of all species sum to the
    recording's), prob_a, prob_b (of this species); in the order of `species`. moves: the same for
    the `N_MOVES` species that each recording moves most, in the order of `recordings`.
    metric: padded_cmap, padded_cmap_pad3 for 3 rows of ones, or macro_auc.
    chance: what seeds alone would show, None where a run has one seed or was split otherwise.
    """

    base: str
    arm: str
    metric: str
    delta: float
    species: pd.DataFrame
    recordings: pd.DataFrame
    parts: pd.DataFrame
    moves: pd.DataFrame
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
        a, b = (SideOfFold.of([pair[side] for pair in both], metric, n_pad) for side in (0, 1))
        folds.append(FoldSplit(homes[number][0] if homes else number, a, b))
    species, recordings = species_table(folds), recordings_table(folds)
    if homes:  # pieces share networks, so that their seeds do not tell how far the mean scatters
        species, recordings = (table.assign(by_chance=np.nan) for table in (species, recordings))
    delta = math.fsum(species["share"])
    remainder = delta - math.fsum(recordings["influence"])
    chance = None if homes else _chance(folds)
    return DeltaSplit(
        shared.base,
        arm,
        metric if metric == "macro_auc" else PaddedCmap.title({"pad": n_pad}),
        delta,
        species,
        recordings,
        parts_table(folds, list(species["code"])),
        moves_table(folds, list(recordings["recording"])),
        remainder,
        chance,
        tuple(split_sentences(delta, species, recordings, remainder, chance)),
    )


def _chance(folds: Sequence[FoldSplit]) -> Chance | None:
    return draw_chance(
        [(fold.a.parts, fold.b.parts) for fold in folds],
        [(fold.a.moved, fold.b.moved) for fold in folds],
    )
