"""Which rows an epoch draws: weights by class size, with or without replacement.

The function of a kind is `draw(spec, labels, n_draws, rng) -> int64 [n_draws]`. A kind also
says how often each row is drawn, with `@implements(Kind, weights=function)`, where
`function(spec, labels) -> float64 [N]`; labels are those of the training rows, and nothing else
is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError, SpecError
from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.samplers import Clamped, InversePower, Plain

Weights = npt.NDArray[np.float64]


def row_weights_of(spec: Spec, labels: npt.ArrayLike) -> Weights:
    """How often each row is drawn compared with others, shape [N], by the kind of sampler.

    `labels` are one primary label (a code, or the number of a class) per training row. Raises
    SpecError when an extension's sampler does not say.
    """
    weigh = function_of(spec).__dict__.get("weights")
    if weigh is None:
        raise SpecError(
            f"the sampler {getattr(spec, 'kind', type(spec).__name__)!r} does not say its weights",
            where="train.sampler",
            fix=f"write @implements({type(spec).__name__}, weights=function) in its file",
        )
    weights: Weights = weigh(spec, np.asarray(labels))
    return weights


def expected_draws(spec: Spec, labels: npt.ArrayLike, n_draws: int) -> Weights:
    """How often each row comes in `n_draws` draws on average, shape [N]; they sum to `n_draws`."""
    weights = row_weights_of(spec, labels)
    expected: Weights = n_draws * weights / weights.sum()
    return expected


def draw_rows(
    spec: Spec, labels: npt.ArrayLike, n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The rows of one epoch in order, as positions in `labels`, shape [n_draws].

    Raises DataError when there are no rows.
    """
    labels = np.asarray(labels)
    if len(labels) == 0:
        raise DataError("there are no training rows to draw from", fix="relax data.clean")
    rows: npt.NDArray[np.int64] = function_of(spec)(spec, labels, n_draws, rng)
    return rows


def row_weights(labels: npt.ArrayLike, power: float) -> Weights:
    """The weight of each row by inverse power: (n_c / N) ** -power for a row of class c.

    Source: BirdCLEF 2023, first place; a class with 1 of 33,111 rows weighs 181.964282.
    """
    classes, counts = _count_classes(labels)
    of_class = (counts / len(classes)) ** -power
    weights: Weights = of_class[classes]
    return weights


def _weigh_inverse_power(spec: InversePower, labels: npt.NDArray[Any]) -> Weights:
    return row_weights(labels, spec.power)


def _weigh_clamped(spec: Clamped, labels: npt.NDArray[Any]) -> Weights:
    classes, counts = _count_classes(labels)
    of_class = np.clip(counts, spec.minimum, spec.cap) / counts
    weights: Weights = of_class[classes]
    return weights


def _weigh_plain(_spec: Plain, labels: npt.NDArray[Any]) -> Weights:
    return np.ones(len(labels))


def _count_classes(labels: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The class of each row as a number, and the rows of each class."""
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return classes, counts


@implements(InversePower, weights=_weigh_inverse_power)
def draw_inverse_power(
    spec: InversePower, labels: npt.NDArray[Any], n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows drawn with replacement: without it an epoch is a permutation and nothing is balanced."""
    return draw_weighted(_weigh_inverse_power(spec, labels), n_draws, rng)


@implements(Clamped, weights=_weigh_clamped)
def draw_clamped(
    spec: Clamped, labels: npt.NDArray[Any], n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows drawn with replacement, classes by their sizes held within `minimum` and `cap`."""
    return draw_weighted(_weigh_clamped(spec, labels), n_draws, rng)


@implements(Plain, weights=_weigh_plain)
def draw_plain(
    _spec: Plain, labels: npt.NDArray[Any], n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Every row once, in random order; repeated only where more draws than rows are asked for."""
    rounds = [rng.permutation(len(labels)) for _ in range(-(-n_draws // len(labels)))]
    rows: npt.NDArray[np.int64] = np.concatenate(rounds)[:n_draws]
    return rows


def draw_weighted(
    weights: Weights, n_draws: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Positions in `weights`, drawn with replacement in proportion to them, shape [n_draws]."""
    cumulative = np.cumsum(weights)
    places: npt.NDArray[np.int64] = np.searchsorted(
        cumulative, rng.random(n_draws) * cumulative[-1], side="right"
    )
    np.minimum(places, len(weights) - 1, out=places)
    return places
