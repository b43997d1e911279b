"""How large shares of a difference come out between two equal runs: by their seeds alone.

Seeds of one run that are held against each other know the same, so that all they differ by is
chance. A difference of two runs with S seeds each has the noise of both: from each run a contrast
of its seeds, of squared length 1/S and in a direction that is drawn. It is the same in all folds,
since one seed may move all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdlab.study.contrasts import Floats

Sides = tuple[Floats, Floats]
"""Of base and arm, [seeds, items] each."""


@dataclass(frozen=True)
class Chance:
    """What the same split would show if only the seeds differed.

    gains: the sum of the positive shares, on average (losses are as large); largest: the share of
    the largest species, largest_recording: the influence of the largest recording, the median of
    `n_draws` draws each; delta: the SD of the difference itself.
    """

    delta: float
    gains: float
    largest: float
    largest_recording: float
    n_draws: int


def draw_chance(
    species: Sequence[Sides], recordings: Sequence[Sides], *, n_draws: int = 500, seed: int = 0
) -> Chance | None:
    """The split of two equal runs with these seeds; None unless both have two in every fold.

    For each fold the parts of the score by species, and the influences of its recordings, seeds in
    one order; a recording that has none (NaN) is never the largest.
    """
    if any(len(side) < 2 for sides in species for side in sides):
        return None
    rng = np.random.default_rng(seed)
    drawn = [_contrasts(rng, len(side), n_draws) for side in species[0]]
    total = np.zeros((n_draws, species[0][0].shape[1]))
    highest = np.zeros(n_draws)
    for of_species, of_recordings in zip(species, recordings, strict=True):
        total += _noise(drawn, of_species)
        moved = np.nan_to_num(_noise(drawn, of_recordings))
        highest = np.maximum(highest, np.abs(moved).max(axis=1))
    total /= len(species)
    return Chance(
        float(total.sum(axis=1).std()),
        float(np.abs(total).sum(axis=1).mean() / 2),
        float(np.median(np.abs(total).max(axis=1))),
        float(np.median(highest) / len(species)),
        n_draws,
    )


def seed_sd(sides: Sides) -> Floats:
    """The SD of the difference of two means over seeds, [items]; NaN under two seeds of either."""
    if min(len(side) for side in sides) < 2:
        return np.full(sides[0].shape[1], np.nan)
    variances = [side.var(axis=0, ddof=1) / len(side) for side in sides]
    return np.asarray(np.sqrt(variances[0] + variances[1]))


def _contrasts(rng: np.random.Generator, n_seeds: int, n_draws: int) -> Floats:
    """Weights of seeds [draws, seeds] that sum to 0, their squares to 1/seeds."""
    drawn = rng.normal(size=(n_draws, n_seeds))
    drawn -= drawn.mean(axis=1, keepdims=True)
    return np.asarray(drawn / (np.linalg.norm(drawn, axis=1, keepdims=True) * np.sqrt(n_seeds)))


def _noise(drawn: Sequence[Floats], sides: Sides) -> Floats:
    return np.asarray(drawn[1] @ sides[1] - drawn[0] @ sides[0])
