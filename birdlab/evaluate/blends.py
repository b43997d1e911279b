"""How the probabilities of an ensemble's members become one. No torch."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError

BlendKind = Literal["mean", "power", "geometric", "rank"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """A way to blend members: `mean`, `power` with an exponent (2 is the RMS), `geometric`, `rank`.

    `rank` puts the ranks of a member's probabilities in each class, over all rows that are blended
    together, in their place; so it has no meaning for a row by itself. `power` counts for that
    kind only. Raises OutputsError for an unknown kind and for an exponent outside of 0.1 to 8: the
    graph counts in float32, which holds no eighth power of what lies below 2e-5.
    """

    kind: BlendKind = "mean"
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(BlendKind):
            expected = ", ".join(get_args(BlendKind))
            raise OutputsError("unknown way to blend", got=self.kind, expected=expected)
        if not 0.1 <= self.power <= 8:
            raise OutputsError("an exponent to blend with", got=self.power, expected="0.1 to 8")

    def __str__(self) -> str:
        return f"power mean of exponent {self.power:g}" if self.kind == "power" else self.kind


MEAN = Blend()


def blend_members(probs: Sequence[Any], blend: Blend, shares: Sequence[Any] | None = None) -> Any:
    """One array for those of M members, each [..., C] in 0..1, numpy or torch alike.

    `shares`: per member a weight or an array [C] of weights (default: equal), as they come from
    `class_shares`; those of a class sum to 1, or are all 0: then it comes out as 0. mean: Σ w·p.
    power: (Σ w·p^a)^(1/a). geometric: Π p^w. rank: Σ w·rank(p), numpy only, see `rank_rows`.
    Raises OutputsError for no member or shares that do not fit.
    """
    if shares is None:
        shares = [1.0 / len(probs)] * len(probs) if probs else []
    if not probs or len(shares) != len(probs):
        raise OutputsError(
            "the weights do not fit the members of the ensemble",
            got=f"{len(shares)} for {len(probs)} members",
        )
    pairs = list(zip(shares, probs, strict=True))
    if blend.kind == "mean":
        return functools.reduce(operator.add, (w * p for w, p in pairs))
    if blend.kind == "power":
        powers = (w * p**blend.power for w, p in pairs)
        return functools.reduce(operator.add, powers) ** (1 / blend.power)
    if blend.kind == "geometric":
        product = functools.reduce(operator.mul, (p**w for w, p in pairs))
        return product * (functools.reduce(operator.add, shares) > 0)
    return functools.reduce(operator.add, (w * rank_rows(p) for w, p in pairs))


def rank_rows(probs: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The rank of each row within its column, ties shared, as (rank - ½) / rows: [R, C] in (0, 1).

    A column that never changes is ½ everywhere.
    """
    values = np.asarray(probs)
    out = np.empty(values.shape, np.float64)
    for column in range(values.shape[1]):
        _, first, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        out[:, column] = ((below + counts / 2) / len(values))[first]
    return out


def class_shares(weights: Sequence[float], known: npt.ArrayLike | None = None) -> Floats:
    """The share of each member in each class: [M, C] float64, columns summing to 1; [M, 1] without
    `known`.

    `weights`: one per member, 0 or more; `known: [M, C] bool`, which classes a member has. A class
    is blended from the members that know it, by their weights. Raises OutputsError for weights
    that do not fit, and for a class that no member with a weight knows.
    """
    w = np.asarray(weights, np.float64)
    if w.ndim != 1 or not len(w) or not np.isfinite(w).all() or w.min() < 0 or w.sum() <= 0:
        raise OutputsError(
            "the weights do not fit the members of the ensemble",
            got=str(list(weights)),
            expected="one weight >= 0 each, and a sum above 0",
        )
    has = np.ones((len(w), 1), bool) if known is None else np.asarray(known, bool)
    if has.ndim != 2 or len(has) != len(w):
        raise OutputsError(
            "the classes of members do not fit their weights",
            got=f"{has.shape}",
            expected=f"{len(w)} rows",
        )
    each = w[:, None] * has
    total = each.sum(axis=0)
    if (total <= 0).any():
        raise OutputsError(
            "no member of the ensemble knows a class",
            got=f"class number {int(np.flatnonzero(total <= 0)[0])}",
            fix="add a member that was trained on it, or promote fewer classes",
        )
    return np.asarray(each / total, np.float64)
