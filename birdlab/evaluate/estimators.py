"""What an experiment's estimators say of a run: one number each, from its stored outputs.

Each kind is one pure function `(spec, evidence) -> Estimate`. `EstimatorSpec` in
`birdlab.spec.estimators` says what can be declared; an extension adds a kind in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from birdlab.evaluate.evidence import Cell, Evidence
from birdlab.evaluate.metrics import MIN_POSITIVES, ClassRanks
from birdlab.spec.estimators import (
    CmapMin5,
    EstimatorSpec,
    MacroAuc,
    MeanMinusSd,
    MeasureSpec,
    NewRecordists,
    NewSites,
    OneFold,
    PaddedCmap,
    Pooled,
    SoundscapeWindows,
    SyntheticWindows,
)
from birdlab.spec.kinds import function_of, implements

__all__ = ["Estimate", "Evidence", "estimate", "estimate_all", "fold_means", "mean_of_folds"]

NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of a run: its score, NaN where there is none and then why.

    cells: the score of each (fold, seed) where it is a mean of these, else empty.
    """

    score: float
    cells: Mapping[Cell, float] = field(default_factory=dict)
    why: str = ""


def estimate(estimator: EstimatorSpec, evidence: Evidence) -> Estimate:
    """What one estimator says; SpecError for a kind without a function."""
    found: Estimate = function_of(estimator)(estimator, evidence)
    unsaid = np.isnan(found.score) and not found.why
    return replace(found, why="it has no class to count in a part of the rows") if unsaid else found


def estimate_all(
    estimators: Sequence[EstimatorSpec], evidence: Evidence
) -> tuple[dict[str, float], dict[Cell, dict[str, float]]]:
    """The scores of a run as `cv/<name>`, and those of each of its cells as `<name>`.

    Estimators that have no score on this evidence are left out.
    """
    scores: dict[str, float] = {}
    cells: dict[Cell, dict[str, float]] = {cell: {} for cell in evidence.tables}
    for estimator in estimators:
        found = estimate(estimator, evidence)
        if not np.isnan(found.score):
            scores[f"cv/{estimator.name}"] = found.score
            for cell, score in found.cells.items():
                cells[cell][estimator.name] = score
    return scores, cells


def mean_of_folds(cells: Mapping[Cell, float], why: str = "") -> Estimate:
    """The mean over folds of the means over seeds; cells that are NaN are left out."""
    sound = {cell: score for cell, score in cells.items() if not np.isnan(score)}
    if not sound:
        return Estimate(NAN, why=why or "no fold has what it counts")
    return Estimate(float(np.mean(fold_means(sound))), sound)


def fold_means(cells: Mapping[Cell, float]) -> list[float]:
    """The mean over seeds of each fold, in the order of folds."""
    folds = sorted({fold for fold, _ in cells})
    return [float(np.mean([s for (f, _), s in cells.items() if f == fold])) for fold in folds]


@implements(PaddedCmap)
def estimate_padded_cmap(spec: PaddedCmap, evidence: Evidence) -> Estimate:
    """The mean over folds of the padded cmAP with `spec.pad` rows of ones."""
    return mean_of_folds({cell: _cmap(r, spec.pad) for cell, r in evidence.ranks.items()})


@implements(MacroAuc)
def estimate_macro_auc(spec: MacroAuc, evidence: Evidence) -> Estimate:
    """The mean over folds of the AUC."""
    return mean_of_folds({cell: _auc(ranks) for cell, ranks in evidence.ranks.items()})


@implements(CmapMin5)
def estimate_cmap_min5(spec: CmapMin5, evidence: Evidence) -> Estimate:
    """The mean over folds of the unpadded AP of frequent classes; none where a fold has none."""
    cells = {cell: _min5(ranks) for cell, ranks in evidence.ranks.items()}
    why = "a fold has no class with 5 positives"
    return Estimate(NAN, why=why) if np.isnan(list(cells.values())).any() else mean_of_folds(cells)


@implements(Pooled)
def estimate_pooled(spec: Pooled, evidence: Evidence) -> Estimate:
    """The mean over seeds of the score over all folds as one table."""
    measure = _measure(spec)
    return Estimate(float(np.mean([measure(r) for r in evidence.pooled_ranks.values()])))


@implements(OneFold)
def estimate_one_fold(spec: OneFold, evidence: Evidence) -> Estimate:
    """The mean over seeds of the score of one fold; none where the run has not that fold."""
    measure = _measure(spec)
    found = [measure(r) for (fold, _), r in evidence.ranks.items() if fold == spec.fold]
    if not found:
        return Estimate(NAN, why=f"the run has no fold {spec.fold}")
    return Estimate(float(np.mean(found)))


@implements(MeanMinusSd)
def estimate_mean_minus_sd(spec: MeanMinusSd, evidence: Evidence) -> Estimate:
    """The mean of the folds minus their spread; none for a run of one fold."""
    measure = _measure(spec)
    folds = fold_means({cell: measure(ranks) for cell, ranks in evidence.ranks.items()})
    if len(folds) < 2:
        return Estimate(NAN, why="one fold has no spread")
    return Estimate(float(np.mean(folds) - spec.sds * np.std(folds, ddof=1)))


@implements(NewRecordists)
def estimate_new_recordists(spec: NewRecordists, evidence: Evidence) -> Estimate:
    """The mean over the folds that have recordings of new recordists, of the score of these."""
    measure = _measure(spec)
    cells = {cell: measure(ranks) for cell, ranks in evidence.new_ranks.items()}
    why = "every recordist of a fold is also in its training, or training rows are not known"
    return mean_of_folds(cells, why)


@implements(SoundscapeWindows)
def estimate_soundscape_windows(spec: SoundscapeWindows, evidence: Evidence) -> Estimate:
    """The mean over models of the score over the windows of labelled soundscapes."""
    measure = _measure(spec)
    cells = {cell: measure(ranks) for cell, ranks in evidence.heard_ranks.items()}
    return mean_of_folds(cells, "no labelled soundscape was heard: name some in evaluate")


@implements(NewSites)
def estimate_new_sites(spec: NewSites, evidence: Evidence) -> Estimate:
    """The mean over the folds that have recordings from new sites, of the score of these."""
    measure, new = _measure(spec), evidence.new_sites(spec.km)
    cells = {cell: measure(ranks) for cell, ranks in evidence.ranks_among(new).items()}
    why = f"no recording is known to be from further than {spec.km:g} km from all training"
    return mean_of_folds(cells, why)


@implements(SyntheticWindows)
def estimate_synthetic_windows(spec: SyntheticWindows, evidence: Evidence) -> Estimate:
    """The mean over folds of the score over the windows of synthetic soundscapes."""
    measure = _measure(spec)
    cells = {cell: measure(ranks) for cell, ranks in evidence.synthetic_ranks.items()}
    return mean_of_folds(cells, "no synthetic soundscape was heard: write evaluate.synthetic")


def _measure(spec: MeasureSpec) -> Callable[[ClassRanks], float]:
    return _auc if spec.metric == "macro_auc" else lambda ranks: _cmap(ranks, spec.pad)


def _cmap(ranks: ClassRanks, pad: int) -> float:
    return float(ranks.average_precision(pad).mean())


def _auc(ranks: ClassRanks) -> float:
    values = ranks.auc()
    defined = ~np.isnan(values)
    return float(values[defined].mean()) if defined.any() else NAN


def _min5(ranks: ClassRanks) -> float:
    frequent = ranks.n_positives >= MIN_POSITIVES
    return float(ranks.average_precision(0)[frequent].mean()) if frequent.any() else NAN
