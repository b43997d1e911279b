"""A run scored again in another way, from what it was scored on before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError

from birdlab.errors import SpecError
from birdlab.evaluate.estimators import estimate, fold_means
from birdlab.evaluate.evidence import Cell, Evidence, Heard
from birdlab.spec.estimators import EstimatorSpec, NewSites, OneFold, SyntheticWindows
from birdlab.spec.kinds import KindOf, kinds

VALIDATORS = {
    "folds": "",
    "pooled": "pooled",
    "new_recordists": "new_recordists",
    "new_sites": "new_sites",
    "soundscapes": "soundscape_windows",
    "synthetic": "synthetic_windows",
}
"""What a run may be scored on, and the kind of estimator that does it; folds are the metric's own.

Any other name is a data set of labelled soundscapes."""


@dataclass(frozen=True)
class Rescore:
    """The score of a run by one estimator, with what it is over.

    score: NaN where there is none, then `why`; sd: of the means of folds, NaN where the score is no
    mean over folds; floor: what the same estimator gives a predictor that says the same of every
    row; n_rows: recordings, or windows of soundscapes.
    """

    score: float
    sd: float
    floor: float
    n_folds: int
    n_seeds: int
    n_rows: int
    n_classes: int
    why: str = ""


def build_estimator(metric: str, validator: str = "folds", pad: int | None = None) -> EstimatorSpec:
    """The estimator that scores `metric` on what `validator` names, padded with `pad` rows.

    `metric` is padded_cmap, macro_auc, or with `folds` any kind of estimator. Raises SpecError for
    a kind that is not known, a metric that the validator has not, a padding where there is none.
    """
    kind = VALIDATORS.get(validator, "soundscape_windows")
    fields: dict[str, object] = {"kind": kind or metric, "name": kind or metric}
    if kind:
        fields["metric"] = metric
    if pad is not None:
        known = kinds("estimator").get(str(fields["kind"]))
        if metric == "macro_auc" or (known and "pad" not in known.cls.model_fields):
            raise SpecError(f"{metric} has no padding", fix="leave --pad out")
        fields["pad"] = pad
    try:
        estimator = KindOf("estimator").parse(fields)
    except ValidationError as error:
        raise SpecError(
            "this cannot be scored",
            got=f"--metric {metric} --validator {validator}",
            expected=str(error.errors()[0]["msg"]),
        ) from None
    except ValueError as error:
        raise SpecError("this cannot be scored", got=metric, expected=str(error)) from None
    assert isinstance(estimator, EstimatorSpec)
    return estimator


def rescore_run(evidence: Evidence, estimator: EstimatorSpec) -> Rescore:
    """What the estimator says of a run, with the floor and the size of what it is over."""
    found = estimate(estimator, evidence)
    folds = fold_means(found.cells) if found.cells else []
    over = evidence.tables
    n_classes = len(next(iter(over.values())).codes)
    if estimator.kind == "soundscape_windows":
        n_rows = len(next(iter(evidence.heard.values()))[0]) if evidence.heard else 0
    elif isinstance(estimator, SyntheticWindows):
        n_rows = sum(
            {fold: len(truth) for (fold, _), (truth, _) in evidence.synthetic.items()}.values()
        )
    else:
        one = {fold: table for (fold, _), table in over.items()}
        names = [(fold, name) for fold, table in one.items() for name in table.recordings]
        if isinstance(estimator, OneFold):
            names = [(f, name) for f, name in names if f == estimator.fold]
        if estimator.kind == "new_recordists":
            names = [(f, name) for f, name in names if name in evidence.new.get(f, ())]
        if isinstance(estimator, NewSites):
            far = evidence.new_sites(estimator.km)
            names = [(f, name) for f, name in names if name in far.get(f, ())]
        n_rows = len(names)
    return Rescore(
        found.score,
        float(np.std(folds, ddof=1)) if len(folds) > 1 else float("nan"),
        estimate(estimator, _knowing_nothing(evidence)).score,
        len(evidence.folds),
        len(evidence.seeds),
        n_rows,
        n_classes,
        found.why,
    )


def _knowing_nothing(evidence: Evidence) -> Evidence:
    """The same rows, of all of which the same is said."""
    return Evidence(
        {
            c: replace(table, probs=np.zeros_like(table.probs))
            for c, table in evidence.tables.items()
        },
        _silent(evidence.heard),
        evidence.new,
        _silent(evidence.synthetic),
        evidence.places,
    )


def _silent(windows: Mapping[Cell, Heard]) -> dict[Cell, Heard]:
    return {cell: (truth, np.zeros_like(probs)) for cell, (truth, probs) in windows.items()}
