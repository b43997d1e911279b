"""Scores of folds and runs, recomputed from stored outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import OutputsError
from birdlab.evaluate.deployed import deployed_probs
from birdlab.evaluate.evidence import Evidence, FoldTable, Heard, pool_ranks
from birdlab.evaluate.metrics import (
    class_auc,
    constant_floor,
    padded_cmap,
    rank_positives,
    top1_accuracy,
)
from birdlab.evaluate.outputs import StoredOutputs
from birdlab.evaluate.pooling import pool_recordings
from birdlab.spec.estimators import N_PAD
from birdlab.spec.parts import EvaluateSpec, OutputSpec
from birdlab.spec.postprocess import PostStep

__all__ = [
    "APART",
    "N_PAD",
    "SOUNDSCAPES",
    "SYNTHETIC",
    "FoldScore",
    "FoldTable",
    "chosen_sentence",
    "deployed_probs",
    "deployed_windows",
    "fold_table",
    "score_apart",
    "score_classes",
    "score_evidence",
    "score_fold",
    "score_fold_apart",
    "score_run",
    "score_soundscape_windows",
    "score_soundscapes",
]

APART = "_apart"
"""Ends the name of a score over rows of which a part is in training."""

_AVERAGED = ("padded_cmap", "macro_auc", "top1")


@dataclass(frozen=True)
class FoldScore:
    """Scores of one (fold, seed), which only compare on equal rows, classes and floor."""

    padded_cmap: float
    macro_auc: float
    top1: float
    floor: float
    n_rows: int
    n_classes: int


def fold_table(
    stored: StoredOutputs,
    output: OutputSpec,
    evaluate: EvaluateSpec,
    steps: Sequence[PostStep] = (),
    *,
    apart: bool = False,
) -> FoldTable:
    """Per recording the maximum over its rows of the deployed output, and its targets.

    A recording is a file to the `steps`: its windows go through them before the maximum.

    Recordings of which a part is in training (`apart` in the stored labels) are left out; with
    `apart` the table holds them alone, and may have no rows.
    """
    w, labels = stored.windows, stored.labels
    marked = labels["apart"] if "apart" in labels else pd.Series(False, labels.index)
    chosen = np.flatnonzero(marked.to_numpy(bool) == apart)
    classes = stored.classes
    probs = np.empty((0, len(classes)), np.float32)
    if len(chosen):
        rows = deployed_probs(stored, output, steps)
        probs = pool_recordings(rows.probs, rows.recording_index)[chosen]
    secondary = 1.0 if evaluate.secondary == "count" else 0.0
    primary = list(labels["primary_label"])
    targets = classes.encode(primary, list(labels["secondary_labels"]), secondary_weight=secondary)
    return FoldTable(
        tuple(w.recordings[i] for i in chosen),
        w.codes,
        np.asarray([classes.index[code] for code in primary], np.int64)[chosen],
        targets[chosen] > 0,
        probs,
    )


def score_fold(table: FoldTable) -> FoldScore:
    """The scores of one fold. Source: padded cmAP as in BirdCLEF 2023, macro AUC as in 2024."""
    return FoldScore(
        table.ranks.padded_cmap(N_PAD),
        table.ranks.macro_auc(),
        top1_accuracy(table.primary, table.probs),
        constant_floor(table.targets, N_PAD),
        *table.targets.shape,
    )


def score_classes(tables: Sequence[FoldTable]) -> pd.DataFrame:
    """One row per class over pooled folds: code, support, ap (padded), auc (NaN without both)."""
    ranks = pool_ranks(tables)
    return pd.DataFrame(
        {
            "code": tables[0].codes,
            "support": ranks.n_positives,
            "ap": ranks.average_precision(N_PAD),
            "auc": ranks.auc(),
        }
    )


def score_run(tables: Mapping[tuple[int, int], FoldTable]) -> dict[str, float]:
    """The scores of a run from its (fold, seed) tables: means over folds, never pooled.

    Seeds are averaged within a fold first; `_sd` is the spread between folds (left out for one).
    `cv/padded_cmap_pooled` scores all folds of a seed as one table, then averages seeds.
    Raises OutputsError when seeds do not cover the same folds.
    """
    return score_evidence(Evidence(tables))


def score_evidence(evidence: Evidence) -> dict[str, float]:
    """The scores of a run from all that it was scored on, see `score_run`."""
    tables, folds, seeds = evidence.tables, evidence.folds, evidence.seeds
    missing = [(f, s) for f in folds for s in seeds if (f, s) not in tables]
    if missing:
        raise OutputsError(
            "a run lacks cells, so it has no score",
            got=f"(fold, seed) {missing}",
            fix="run its spec again: only the cells that it lacks are trained",
        )
    scores = {key: score_fold(table) for key, table in tables.items()}
    out: dict[str, float] = {}
    for name in _AVERAGED:
        per_fold = [np.mean([getattr(scores[f, s], name) for s in seeds]) for f in folds]
        out[f"cv/{name}"] = float(np.mean(per_fold))
        if len(folds) > 1:
            out[f"cv/{name}_sd"] = float(np.std(per_fold, ddof=1))
    pooled = [ranks.padded_cmap(N_PAD) for ranks in evidence.pooled_ranks.values()]
    out["cv/padded_cmap_pooled"] = float(np.mean(pooled))
    out["cv/floor"] = float(np.mean([scores[f, seeds[0]].floor for f in folds]))
    return out


def chosen_sentence(chosen: str) -> str:
    """What is to be said beside scores of recordings that picked the weights; "" where none did.

    `chosen` says how, as a run's record does: `best epoch 7 of 30`.
    """
    if not chosen:
        return ""
    return (
        f"A chosen score ({chosen}): the recordings of each fold also picked the weights, so its "
        "score is higher than that of weights fixed beforehand. No soundscape picked any."
    )


def score_fold_apart(table: FoldTable) -> dict[str, float]:
    """The scores of rows of which a part is in training, under names that end in APART.

    Empty for a table without rows; the AUC is left out where no class has both a positive and a
    negative row, which is usual for so few.
    """
    if not table.recordings:
        return {}
    scores = {
        "padded_cmap": padded_cmap(table.targets, table.probs, N_PAD),
        "top1": top1_accuracy(table.primary, table.probs),
        "floor": constant_floor(table.targets, N_PAD),
        "n_rows": float(len(table.recordings)),
    }
    auc = class_auc(table.targets, table.probs)
    if not np.isnan(auc).all():
        scores["macro_auc"] = float(np.nanmean(auc))
    return {name + APART: value for name, value in scores.items()}


SOUNDSCAPES = "soundscapes_"
"""Begins the name of a score over the windows of labelled soundscapes."""
SYNTHETIC = "synthetic_"
"""Begins the name of a score over the windows of synthetic soundscapes."""


def deployed_windows(
    stored: StoredOutputs,
    targets: npt.NDArray[np.bool_],
    output: OutputSpec,
    steps: Sequence[PostStep] = (),
) -> Heard:
    """The truth and the deployed probability of every row of stored windows.

    `targets` [rows, classes]: files in order, rows in time, as many of each as `count_rows` says.
    Raises OutputsError when rows and targets differ in number.
    """
    probs = deployed_probs(stored, output, steps).probs
    if len(probs) != len(targets):
        raise OutputsError(
            "soundscape windows and their labels do not fit",
            got=f"{len(probs)} windows, {len(targets)} rows of labels",
        )
    return targets, probs


def score_soundscape_windows(windows: Heard, which: str = SOUNDSCAPES) -> dict[str, float]:
    """The scores of one cell over soundscape windows, names that begin with `which`.

    Padded cmAP and macro AUC of the deployed output, the floor of the first, and how many windows.
    The AUC is left out where no class is in some of the windows and not in others.
    """
    targets, _ = windows
    ranks = rank_positives(*windows)
    scores = {
        "padded_cmap": ranks.padded_cmap(N_PAD),
        "floor": constant_floor(targets, N_PAD),
        "n_windows": float(len(targets)),
    }
    if not np.isnan(ranks.auc()).all():
        scores["macro_auc"] = ranks.macro_auc()
    return {which + name: value for name, value in scores.items()}


def score_soundscapes(cells: Mapping[tuple[int, int], Mapping[str, float]]) -> dict[str, float]:
    """The soundscape scores of a run: means over the models of its folds, never pooled.

    `cells` has what `score_soundscape_windows` gives for each (fold, seed). All models hear the
    same windows of labelled soundscapes, so that `_sd`, the spread between folds, is that of the
    models alone; synthetic ones are each fold's own. It is left out for one fold. Seeds are
    averaged within a fold first.
    """
    folds = pd.DataFrame([{"fold": fold, **scores} for (fold, _), scores in cells.items()])
    means = folds.groupby("fold").mean()
    out = {f"cv/{name}": float(values.mean()) for name, values in means.items()}
    if len(means) > 1:
        for name in means.columns:
            if name.endswith(("_padded_cmap", "_macro_auc")) and means[name].count() > 1:
                out[f"cv/{name}_sd"] = float(means[name].std(ddof=1))
    return out


def score_apart(tables: Mapping[tuple[int, int], FoldTable]) -> dict[str, float]:
    """Scores over the rows that the headline leaves out: means over the folds that have any.

    `tables` as in score_run, of `fold_table(..., apart=True)`; names as in score_fold_apart.
    Seeds are averaged within a fold first.
    """
    lines = [{"fold": fold, **score_fold_apart(table)} for (fold, _), table in tables.items()]
    means = pd.DataFrame(lines).groupby("fold").mean().mean().dropna()
    return {f"cv/{name}": float(v) for name, v in means.items() if name != "n_rows" + APART}
