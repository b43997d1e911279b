"""What a sweep may hold: a search of a space, a race, more evidence for the best."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from birdlab.spec.base import Spec
from birdlab.spec.parts import CellsSpec
from birdlab.spec.space import Range


class OptunaSpec(Spec):
    """A search by Optuna: the sampler, the number of trials, the searched fields.

    Results are told in trial order in batches, so a resumed search asks for what an undisturbed one
    would.

    Source: Akiba et al. 2019.
    """

    space: Annotated[dict[str, Range], Field(min_length=1)]
    """The searched fields by dotted name, or names of your own with bundles of changes."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How many points are tried. Unit: trials."""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """How the next point is chosen: TPE, at random, or by a Gaussian process."""
    batch: Annotated[int, Field(ge=1, le=100)] = 2
    """How many trials are told together. Unit: trials. Source: birdlab."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the sampler. Unit: seed."""


class RandomSpec(Spec):
    """Points drawn at random, each once, all known before anything starts."""

    space: Annotated[dict[str, Range], Field(min_length=1)]
    """The searched fields by dotted name, or names of your own with bundles of changes."""
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How many points are drawn; more add points to those that fewer draw. Unit: trials."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draws. Unit: seed."""


class ThenSpec(Spec):
    """More evidence for the best arms."""

    top: Annotated[int, Field(ge=1)]
    """How many arms of the ranking get it. Unit: arms."""
    cells: CellsSpec
    """The folds and seeds that they get."""


class RaceSpec(Spec):
    """Arms that are clearly worse than the control are stopped after a round of folds. `race: true`
    takes the defaults."""

    level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """The chance, over all looks together, that an arm equal to the control is stopped. Unit:
    probability."""
    min_rounds: Annotated[int, Field(ge=1)] = 1
    """How many seeds every arm gets in any case. Unit: seeds."""
