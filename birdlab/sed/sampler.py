"""Which rows an epoch draws: weights by class size, with or without replacement."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.recipe import InversePower, Plain


def row_weights(labels: npt.ArrayLike, power: float) -> npt.NDArray[np.float64]:
    """The sampling weight of each row, (n_c / N) ** -power for a row of class c.

    Counts come from `labels`, one primary label (a code, or the number of a class) per row.
    Source: BirdCLEF 2023, first place; a class with 1 of 33,111 rows weighs 181.964282.
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    of_class = (counts / len(classes)) ** -power
    weights: npt.NDArray[np.float64] = of_class[classes]
    return weights


def draw_rows(
    spec: Spec, labels: npt.ArrayLike, n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The rows of one epoch in order, as positions in `labels`, shape [n_draws]."""
    rows: npt.NDArray[np.int64] = function_of(spec)(spec, np.asarray(labels), n_draws, rng)
    return rows


@implements(InversePower)
def draw_inverse_power(
    spec: InversePower, labels: npt.NDArray[Any], n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows drawn with replacement: without it an epoch is a permutation and nothing is balanced."""
    cumulative = np.cumsum(row_weights(labels, spec.power))
    places: npt.NDArray[np.int64] = np.searchsorted(
        cumulative, rng.random(n_draws) * cumulative[-1], side="right"
    )
    np.minimum(places, len(labels) - 1, out=places)
    return places


@implements(Plain)
def draw_plain(
    _spec: Plain, labels: npt.NDArray[Any], n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Every row once, in random order; repeated only where more draws than rows are asked for."""
    rounds = [rng.permutation(len(labels)) for _ in range(-(-n_draws // len(labels)))]
    rows: npt.NDArray[np.int64] = np.concatenate(rounds)[:n_draws]
    return rows
