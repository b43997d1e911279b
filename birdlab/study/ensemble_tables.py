"""Tables of fitted weights and of a greedy choice, as text to show."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from birdlab.study.blending import FittedShares
from birdlab.study.ensemble_gates import NOT_MEASURED
from birdlab.study.greedy import GreedyChoice


def shares_words(fitted: FittedShares) -> pd.DataFrame:
    """The weights of each member: fitted, the range of the fits without a fold, and those used."""
    low, high = fitted.by_fold.min(axis=0), fitted.by_fold.max(axis=0)
    return pd.DataFrame(
        {
            "member": fitted.names,
            "fitted": [f"{w:.3f}" for w in fitted.fitted],
            "without a fold": [
                "" if a != a else f"{a:.3f} to {b:.3f}" for a, b in zip(low, high, strict=True)
            ],
            "used": [f"{w:.3f}" for w in fitted.weights],
        }
    )


def steps_words(choice: GreedyChoice) -> pd.DataFrame:
    """The steps of a greedy choice."""
    steps = choice.steps
    return pd.DataFrame(
        {
            "step": steps["step"],
            "member": steps["member"],
            "score": number_words(steps["score"]),
            "nested": number_words(steps["nested"]),
            "ms": time_words(steps["cost_ms"]),
            "ms so far": time_words(steps["total_ms"]),
            f"against {choice.best}": number_words(steps["delta"], sign="+"),
            "verdict": steps["verdict"],
            "taken": steps["chosen"].map({True: "yes", False: "no"}),
        }
    )


def number_words(values: Iterable[float], sign: str = "") -> list[str]:
    """Scores with four digits, nothing for NaN."""
    return ["" if value != value else f"{value:{sign}.4f}" for value in values]


def time_words(values: Iterable[float]) -> list[str]:
    """Milliseconds with one digit; NaN was not measured."""
    return [NOT_MEASURED if value != value else f"{value:.1f}" for value in values]
