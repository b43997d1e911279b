"""Any runs against one of them: re-scored on what they share, with verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.estimators import estimate, fold_means
from birdlab.evaluate.evidence import Cell, Evidence
from birdlab.spec.estimators import EstimatorSpec, PaddedCmap
from birdlab.study.crossed import CrossedVerdict, judge_crossed
from birdlab.study.noise import NoiseFloor
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.recordings import RecordingInterval, weigh_recordists
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import Shared, share_tables
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.species_differences import compare_species
from birdlab.words import count_words

HEADLINE = PaddedCmap(name="padded_cmap")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What there is to say of several runs on the rows they share.

    scores: arm, fold, seed, score of each cell of the runs with the base's folds; ranking: the
    verdicts on them, None without any; crossed: the verdicts on the others; recordings: for each
    arm how far its padded cmAP hangs on who was recorded; species: for each arm what
    `compare_species` says of it (a is the base); sentences: what was compared and how, in words.
    """

    shared: Shared
    metric: str
    scores: pd.DataFrame
    ranking: Ranking | None
    crossed: tuple[CrossedVerdict, ...]
    recordings: Mapping[str, RecordingInterval]
    species: Mapping[str, pd.DataFrame]
    sentences: tuple[str, ...]


def compare_runs(
    runs: Sequence[RunTables],
    recordists: Mapping[str, str],
    *,
    metric: EstimatorSpec = HEADLINE,
    smallest_effect: float = 0.005,
    noise: NoiseFloor | None = None,
    split_folds: int | None = None,
    prior: EffectPrior | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The first run as base against the others, on what they share.

    recordists: who made a recording, by its name; one that is not in it stands for itself. `metric`
    is an estimator that is a mean over cells. Recordists are weighted `n_draws` times from `seed`;
    with 0 there are no intervals over recordings and no species. `noise` is the noise floor of
    these rows, where differences are to be shown in multiples of it, `split_folds` how many folds
    the split of the base has, `prior` how effects of the lab's sweeps are distributed. Raises
    DataError for runs that share nothing or a metric without scores of cells.
    """
    shared = share_tables(runs)
    scores = score_shared(shared, metric)
    several = len(shared.tables) > 1
    recordings, species = {}, {}
    for arm in shared.arms if n_draws else []:
        pairs = shared.pairs(arm)
        recordings[arm] = weigh_recordists(pairs, recordists, n_draws=n_draws, seed=seed)
        base, other = ({cell: pair[i] for cell, pair in pairs.items()} for i in (0, 1))
        species[arm] = compare_species(base, other, recordists, n_draws=n_draws, seed=seed)
    return Comparison(
        shared,
        metric.name,
        scores,
        rank_arms(
            scores,
            base=shared.base,
            smallest_effect=smallest_effect,
            noise=noise,
            split_folds=split_folds,
            prior=prior,
        )
        if several
        else None,
        tuple(_judge(shared, arm, metric) for arm in shared.crossed),
        recordings,
        species,
        (_what_is_shared(shared, metric.name), *shared.notes, *_unknown(shared, recordists)),
    )


def _judge(shared: Shared, arm: str, metric: EstimatorSpec) -> CrossedVerdict:
    """The verdict on a run that was split otherwise, from the scores of pieces."""
    pieces = shared.crossed[arm]
    rows, columns = (sorted({key[i] for key in pieces}) for i in (0, 1))
    scores = np.full((2, len(rows), len(columns)), np.nan)
    numbered = dict(enumerate(sorted(pieces)))
    for side in (0, 1):
        tables = {
            (i, seed): pair[side]
            for i, key in numbered.items()
            for seed, pair in pieces[key].items()
        }
        cells = _cells_of(metric, Evidence(tables), arm)
        for i, (fold, own) in numbered.items():
            found = [score for (piece, _), score in cells.items() if piece == i]
            if found:
                scores[side, rows.index(fold), columns.index(own)] = np.mean(found)
    return judge_crossed(arm, scores[0], scores[1], n_arms=len(shared.arms))


def score_shared(shared: Shared, metric: EstimatorSpec) -> pd.DataFrame:
    """arm, fold, seed, score of every cell that is compared.

    Runs that share no seed have one row a fold, the mean over their own seeds, as seed 0. Raises
    DataError for an estimator that is no mean over cells or has no score on these rows.
    """
    rows = []
    for name, tables in shared.tables.items():
        cells = _cells_of(metric, Evidence(tables), name)
        if not shared.paired:
            folds = sorted({fold for fold, _ in cells})
            cells = {(f, 0): s for f, s in zip(folds, fold_means(cells), strict=True)}
        rows += [(name, fold, seed, score) for (fold, seed), score in sorted(cells.items())]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def _cells_of(metric: EstimatorSpec, evidence: Evidence, name: str) -> Mapping[Cell, float]:
    """The score of each cell; DataError for an estimator that gives none."""
    found = estimate(metric, evidence)
    if not found.cells:
        raise DataError(
            f"{metric.name} gives no score for each fold and seed, so it cannot be compared",
            where=name,
            got=found.why or "it is no mean over folds",
            expected="padded_cmap, macro_auc, cmap_min5 or another mean over folds",
        )
    return found.cells


def _what_is_shared(shared: Shared, metric: str) -> str:
    folds = f"{'folds' if len(shared.folds) > 1 else 'fold'} {_numbers(shared.folds)}"
    seeds = shared.seeds(shared.base)
    of_seeds = f", {'seeds' if len(seeds) > 1 else 'seed'} {_numbers(seeds)}"
    return (
        f"{metric} on {count_words(len(shared.recordings), 'recording')} and "
        f"{len(shared.codes)} species that all have: {folds} of {shared.base}"
        + (of_seeds if shared.paired else "")
        + "."
    )


def _unknown(shared: Shared, recordists: Mapping[str, str]) -> list[str]:
    n = int(np.sum([name not in recordists for name in shared.recordings]))
    if not n:
        return []
    which = "all" if n == len(shared.recordings) else f"{n} of {len(shared.recordings)}"
    return [
        f"Who made a recording is not known for {which}: each of these stands for a recordist of "
        "its own, which makes intervals over recordings too short where one person made several."
    ]


def _numbers(values: Sequence[int]) -> str:
    """`0-4` for a run of whole numbers, else `0, 2, 5`."""
    whole = list(values) == list(range(values[0], values[-1] + 1)) and len(values) > 2
    return f"{values[0]}-{values[-1]}" if whole else ", ".join(map(str, values))
