"""Synthetic soundscapes as a spec declares them: how many, how long, how full, how loud."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.augmentations import Range
from birdlab.spec.base import Name, Positive, Spec, Tuple

LOUDEST_DB = 100.0
"""How far a song may be above or below its background; what 16 bits hold ends before."""


class SyntheticSpec(Spec):
    """Soundscapes mixed from the held-out recordings of a fold, with truth for every moment.

    Source: birdlab.
    """

    n: Annotated[int, Field(ge=1, le=1000)] = 24
    """How many for each fold. Unit: soundscapes."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long each is, in whole windows. Unit: s."""
    backgrounds: Annotated[Tuple[Name], Field(min_length=1)]
    """The data sets whose recordings lie below."""
    per_minute: Annotated[float, Field(gt=0, le=600)] = 8.0
    """How many parts of recordings begin in a minute on average; as many overlap as happen to.
    Unit: per minute."""
    species: Literal["evenly", "as_recorded"] = "evenly"
    """How the species of a part is drawn: all alike, or as often as they were recorded."""
    part_s: Range = (2.0, 8.0)
    """How long a part is, drawn from [low, high]."""
    snr_db: Range = (0.0, 20.0)
    """How far a part is above the background in the bands where the species sings, drawn from [low,
    high]."""
    min_s: Positive = 0.3
    """A window holds a species that sings in it for so long or more."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the mixture. Unit: seed."""

    @model_validator(mode="after")
    def _possible(self) -> SyntheticSpec:
        if not self.part_s[0] >= self.min_s:
            raise ValueError(
                f"part_s should begin at min_s, {self.min_s:g} s, or more; got {list(self.part_s)}"
            )
        if max(map(abs, self.snr_db)) > LOUDEST_DB:
            raise ValueError(f"snr_db should lie within {LOUDEST_DB:g} dB; got {list(self.snr_db)}")
        return self
