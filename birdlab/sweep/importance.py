"""How much of a search's spread each searched entry explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from birdlab.spec.sweep import OptunaSpec

MIN_TRIALS = 12
TRIALS_PER_ENTRY = 6
"""Below these an importance often names the wrong entry; tests/test_search.py simulates it."""


def n_needed(spec: OptunaSpec) -> int:
    """How many finished trials at different points an importance takes."""
    n_entries = sum(not entry.when for entry in spec.space.values())
    return max(MIN_TRIALS, TRIALS_PER_ENTRY * n_entries)


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


def importance_sentence(spec: OptunaSpec, shares: Mapping[str, float], n_finished: int) -> str:
    """The importances in words, or why there are none."""
    if shares:
        listed = ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares.items())
        left_out = [key for key in spec.space if key not in shares]
        note = f"; not asked everywhere, or never moved: {', '.join(left_out)}" if left_out else ""
        return f"importance of what was searched, from {n_finished} points: {listed}{note}"
    if n_finished < n_needed(spec):
        return (
            f"importance of what was searched: unknown, {n_finished} of the {n_needed(spec)} "
            "finished points that it takes"
        )
    return "importance of what was searched: nothing to compare"
