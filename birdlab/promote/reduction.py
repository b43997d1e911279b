"""How the probabilities of an ensemble's members become one: mean, RMS or geometric mean."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, Literal, get_args

from birdlab.errors import PromotionError

Reduction = Literal["mean", "rms", "geometric"]


def reduce_probs(
    probs: Sequence[Any], reduction: Reduction, weights: Sequence[float] | None = None
) -> Any:
    """One array for many of equal shape, numpy or torch alike, in 0..1.

    `weights` (default equal) are divided by their sum, w. mean: Σ w·p. rms: √(Σ w·p²).
    geometric: Π p^w. Raises PromotionError for no member or weights that do not fit.
    """
    shares = member_shares(len(probs), weights)
    if reduction == "mean":
        return functools.reduce(operator.add, (w * p for w, p in zip(shares, probs, strict=True)))
    if reduction == "rms":
        squares = (w * p * p for w, p in zip(shares, probs, strict=True))
        return functools.reduce(operator.add, squares) ** 0.5
    if reduction == "geometric":
        powers = (p**w for w, p in zip(shares, probs, strict=True))
        return functools.reduce(operator.mul, powers)
    raise PromotionError(
        "unknown reduction", got=reduction, expected=", ".join(get_args(Reduction))
    )


def member_shares(n_members: int, weights: Sequence[float] | None) -> list[float]:
    """The share of each member, summing to 1; PromotionError when weights do not fit."""
    given = [1.0] * n_members if weights is None else [float(w) for w in weights]
    if not n_members or len(given) != n_members or min(given) < 0 or sum(given) <= 0:
        raise PromotionError(
            "the weights do not fit the members of the ensemble",
            got=f"{given} for {n_members} members",
            expected="one weight >= 0 each, and a sum above 0",
        )
    return [w / sum(given) for w in given]
