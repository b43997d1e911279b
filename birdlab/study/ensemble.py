"""Runs as members of one ensemble: how alike they are, and what each of them adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from birdlab.errors import DataError, OutputsError
from birdlab.evaluate.blends import Blend
from birdlab.study.blending_scores import BlendScorer, Metric, build_scorer
from birdlab.study.ensemble_classes import add_classes, class_notes
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.study.species import FoldTables, mean_seeds, pool_folds

Floats = npt.NDArray[np.float64]
ENSEMBLE = "ensemble"
MIN_RANKED = 3
"""A fold with fewer recordings says nothing about the order of two members."""


@dataclass(frozen=True, eq=False)
class Members:
    """Runs on the recordings that all of them have out-of-fold outputs of, and the first's classes.

    names: of the runs; fold: [R] of each recording, rising; targets: [R, C]; probs: [M, R, C]
    float32, the mean over the seeds of a run, 0 for classes that it does not know; left_out: what
    is not compared, and whose labels are others, in words; known: [M, C], which classes a member
    knows.
    """

    names: tuple[str, ...]
    recordings: tuple[str, ...]
    codes: tuple[str, ...]
    fold: npt.NDArray[np.int64]
    targets: npt.NDArray[np.bool_]
    probs: npt.NDArray[np.float32]
    left_out: tuple[str, ...]
    known: npt.NDArray[np.bool_]

    def scorer(self, blend: Blend | None = None, metric: Metric = "padded_cmap") -> BlendScorer:
        """What scores their blends at any weights, see `build_scorer`; the mean by default."""
        blend = Blend() if blend is None else blend
        return build_scorer(self.targets, self.probs, self.known, self.fold, blend, metric)


def align_members(runs: Mapping[str, FoldTables]) -> Members:
    """The runs, by name, on what they share with the first, each as the mean over its seeds.

    The labels and classes are those of the first; a run that lacks some of them gives 0 there and
    `known` says so. A run that shares no recording or no class is left out, and so is one that was
    split otherwise, since a fold of the ensemble would mix several of its models; `left_out` says
    so. Raises OutputsError for no run.
    """
    if not runs:
        raise OutputsError("an ensemble needs members")
    tables = {name: mean_seeds(own) for name, own in runs.items()}
    codes = {name: next(iter(own.values())).codes for name, own in tables.items()}
    shared, left_out = _share(add_classes(tables))
    pooled = {name: pool_folds(own) for name, own in shared.items()}
    name, first = next(iter(pooled.items()))
    known = np.stack([np.isin(first.codes, codes[own]) for own in pooled])
    return Members(
        tuple(pooled),
        first.recordings,
        first.codes,
        np.concatenate(
            [np.full(len(table.recordings), fold) for (fold, _), table in shared[name].items()]
        ),
        first.targets,
        np.stack([table.probs for table in pooled.values()]),
        (*left_out, *class_notes(tuple(pooled), first.codes, known)),
        known,
    )


def _share(runs: Mapping[str, FoldTables]) -> tuple[Mapping[str, FoldTables], tuple[str, ...]]:
    """The runs cut down to what they share, the first always among them, and what is left out."""
    if len(runs) < 2:
        return runs, ()
    try:
        shared = share_tables([RunTables(name, own) for name, own in runs.items()])
    except DataError as error:
        first = dict(list(runs.items())[:1])
        return first, (f"{error.what[0].upper()}{error.what[1:]}: {error.got}",)
    if shared.crossed:  # without them the others may share more
        kept, left_out = _share({n: own for n, own in runs.items() if n not in shared.crossed})
        return kept, (
            *(
                f"{name} is left out: it was split otherwise than {shared.base}, so several of its "
                "models would speak in one fold."
                for name in shared.crossed
            ),
            *left_out,
        )
    return shared.tables, (*shared.left_out, *shared.notes)


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


def weigh_members(
    members: Members, blend: Blend | None = None, *, metric: Metric = "padded_cmap"
) -> pd.DataFrame:
    """What each member adds: name, alone, without, gain, gain_low, gain_high, helps.

    Scores are the fold-averaged metric of blends with equal weights, the mean by default. alone:
    of the member; without: of the blend of the others; gain: by how much the ensemble of all is
    better than that, and the lowest and highest fold of it; helps: in how many folds. NaN for an
    ensemble of one.
    """
    scorer, n = members.scorer(blend, metric), len(members.names)
    whole, each = scorer.score_folds(np.ones(n)), np.eye(n)
    rows = []
    for m, name in enumerate(members.names):
        row: dict[str, object] = {"name": name, "alone": scorer.score(each[m])}
        if n > 1:
            without = scorer.score_folds(1 - each[m])
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


def judge_ensemble(
    members: Members, blend: Blend | None = None, *, metric: Metric = "padded_cmap"
) -> Ranking | None:
    """The verdict on the ensemble of equal weights against its best member, paired by fold; None
    for one.

    The ensemble counts every member once, whatever its number of seeds. The best member was picked
    by the scores it is judged on, which favours it, so `better` is said no more often than it
    should be.
    """
    n = len(members.names)
    if n < 2:
        return None
    scorer = members.scorer(blend, metric)
    scores = dict(zip(members.names, map(scorer.score_folds, np.eye(n)), strict=True))
    best = max(scores, key=lambda name: float(scores[name].mean()))
    arm = ENSEMBLE if best != ENSEMBLE else f"{ENSEMBLE} of all"
    return rank_folds({best: scores[best], arm: scorer.score_folds(np.ones(n))}, base=best)


def rank_folds(scores: Mapping[str, Floats], base: str) -> Ranking:
    """The verdicts on fold scores [F] by name against those of the base, paired by fold."""
    rows = [
        {"arm": name, "fold": fold, "seed": 0, "score": float(score)}
        for name, folds in scores.items()
        for fold, score in enumerate(folds)
    ]
    return rank_arms(pd.DataFrame(rows), base=base)
