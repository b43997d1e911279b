"""How well a run knows each species, and which ones it takes for each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import OutputsError
from birdlab.evaluate.metrics import class_auc, class_average_precision
from birdlab.evaluate.score import N_PAD, FoldTable

FoldTables = Mapping[tuple[int, int], FoldTable]
"""Truth and deployed out-of-fold probabilities of a run by (fold, seed)."""


@dataclass(frozen=True, eq=False)
class Confusions:
    """Which species a run takes for which, over the recordings of the rows' species.

    `pairs`: a row per pair with at least one recording taken wrongly: species, other, recordings
    (of the species, without those in which the other is a label too), mistaken (in how many of
    them the other has the higher probability), share, excess (by how much, the mean over the
    mistaken ones), example (the one with the largest excess). `matrix`: the share for each pair of
    species, NaN on the diagonal and where no recording can tell.
    """

    pairs: pd.DataFrame
    matrix: pd.DataFrame


def mean_seeds(tables: FoldTables) -> dict[tuple[int, int], FoldTable]:
    """The run as if it had one seed, 0, whose probabilities are the means over its seeds.

    Raises OutputsError for no table, and where the seeds of a fold heard other recordings.
    """
    if not tables:
        raise OutputsError(
            "a run lacks cells, so there is nothing to study",
            fix="run its spec again: only the cells that it lacks are trained",
        )
    found = {}
    for fold in sorted({fold for fold, _ in tables}):
        seeds = [table for (f, _), table in sorted(tables.items()) if f == fold]
        first = seeds[0]
        if any(s.recordings != first.recordings or s.codes != first.codes for s in seeds):
            raise OutputsError(
                "the seeds of a fold heard other recordings",
                where=f"fold {fold}",
                fix="train the seeds on the same data: run the spec again",
            )
        mean = np.mean([s.probs for s in seeds], axis=0, dtype=np.float64)
        found[fold, 0] = replace(first, probs=np.asarray(mean, np.float32))
    return found


def pool_folds(tables: FoldTables) -> FoldTable:
    """All folds as one table: each recording once, its probability the mean over seeds.

    A probability is that of the models that did not train on the recording. Raises OutputsError
    as mean_seeds, and for folds of other classes.
    """
    folds = list(mean_seeds(tables).values())
    if any(fold.codes != folds[0].codes for fold in folds):
        raise OutputsError(
            "the folds of a run have other classes",
            fix="train the folds on the same data: run the spec again",
        )
    return FoldTable(
        tuple(name for fold in folds for name in fold.recordings),
        folds[0].codes,
        np.concatenate([fold.primary for fold in folds]),
        np.concatenate([fold.targets for fold in folds]),
        np.concatenate([fold.probs for fold in folds]),
    )


def score_species(tables: FoldTables) -> pd.DataFrame:
    """One row per class over pooled folds, in class order: code, support, ap, floor, above, auc.

    ap: padded average precision, the mean over seeds; floor: what a constant predictor gets, which
    is high for rare species; above: (ap - floor) / (1 - floor), 0 for a constant and 1 for a
    perfect predictor; auc: ROC-AUC, the mean over seeds. A class without positives has support 0
    and NaN for the rest: its padded precision is 1 whatever the model says. Raises OutputsError as
    pool_folds.
    """
    pooled = pool_folds(tables)
    n = pooled.targets.sum(axis=0)
    seeds = [
        pool_folds({key: table for key, table in tables.items() if key[1] == seed})
        for seed in sorted({seed for _, seed in tables})
    ]
    ap = np.mean([class_average_precision(s.targets, s.probs, N_PAD) for s in seeds], axis=0)
    floor = padded_floor(n, len(pooled.recordings))
    scores = pd.DataFrame(
        {
            "ap": ap,
            "floor": floor,
            "above": (ap - floor) / np.where(floor < 1, 1 - floor, np.nan),
            "auc": np.mean([class_auc(s.targets, s.probs) for s in seeds], axis=0),
        }
    )
    scores[n == 0] = np.nan
    return pd.concat([pd.DataFrame({"code": pooled.codes, "support": n}), scores], axis=1)


def padded_floor(support: npt.ArrayLike, n_rows: int) -> npt.NDArray[np.float64]:
    """The padded average precision of a constant predictor for classes of so many positives.

    All rows tie after the padding, at precision (pad + n) / (pad + rows). Source: the definition
    of padded cmAP in BirdCLEF 2023; `evaluate.metrics.constant_floor` is its mean over classes.
    """
    n = np.asarray(support, np.float64)
    tied = n * (N_PAD + n) / (N_PAD + n_rows)
    return (N_PAD + tied) / (N_PAD + n)


def find_confusions(tables: FoldTables) -> Confusions:
    """For recordings of each species, how often another one gets the higher probability.

    A recording counts for its primary label, and against species that are no label of it. Raises
    OutputsError as pool_folds.
    """
    pooled = pool_folds(tables)
    codes, rows = pooled.codes, []
    matrix = np.full((len(codes), len(codes)), np.nan)
    for a in range(len(codes)):
        heard = np.flatnonzero(pooled.primary == a)
        absent = ~pooled.targets[heard]
        excess = pooled.probs[heard] - pooled.probs[heard, a][:, None]
        wrong = absent & (excess > 0)
        n, mistaken = absent.sum(axis=0), wrong.sum(axis=0)
        n[a] = mistaken[a] = 0
        told = n > 0
        matrix[a, told] = mistaken[told] / n[told]
        for b in np.flatnonzero(mistaken):
            worst = int(np.argmax(np.where(wrong[:, b], excess[:, b], -1)))
            rows.append(
                {
                    "species": codes[a],
                    "other": codes[b],
                    "recordings": int(n[b]),
                    "mistaken": int(mistaken[b]),
                    "share": float(mistaken[b] / n[b]),
                    "excess": float(excess[wrong[:, b], b].mean()),
                    "example": pooled.recordings[heard[worst]],
                }
            )
    columns = ["species", "other", "recordings", "mistaken", "share", "excess", "example"]
    pairs = pd.DataFrame(rows, columns=columns)
    pairs = pairs.sort_values(["mistaken", "share", "excess"], ascending=False, kind="stable")
    return Confusions(
        pairs.reset_index(drop=True), pd.DataFrame(matrix, index=codes, columns=codes)
    )
