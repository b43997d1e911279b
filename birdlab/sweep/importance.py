"""How much of a search's spread each searched entry explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from birdlab.spec.searches import OptunaSpec
from birdlab.study.importance_words import n_needed


def importance(
    spec: OptunaSpec, trials: Sequence[tuple[Mapping[str, Any], float]]
) -> dict[str, float]:
    """The share of the variance of the scores that each entry explains by itself, largest first.

    `trials` are finished ones, each point once, with its score. The shares are of functional
    ANOVA over a random forest and sum to 1. Entries that are asked at some points only are left
    out. Empty with fewer trials than `n_needed`, or where there is nothing to compare.
    Source: Hutter, Hoos and Leyton-Brown (2014), An efficient approach for assessing
    hyperparameter importance.
    """
    always = [key for key in spec.space if all(key in point for point, _ in trials)]
    moved = [key for key in always if len({repr(point[key]) for point, _ in trials}) > 1]
    if len(trials) < n_needed(spec) or len(moved) < 2:
        return {}
    if len({score for _, score in trials}) < 2:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    from birdlab.sweep.search import fill_study

    study = fill_study(spec, [(dict(point), score) for point, score in trials])
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=moved)
    return {key: float(share) for key, share in shares.items()}
