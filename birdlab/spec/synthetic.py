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

    `n` for each fold, of `seconds` (whole windows) each, over recordings of the data sets
    `backgrounds`. `per_minute` parts of recordings begin in a minute on average, of a species drawn
    `evenly` or as often as it was recorded (`as_recorded`), `part_s` seconds long and `snr_db` over
    the background in the bands where the species sings; as many overlap as happen to. A window
    holds a species that sings in it for `min_s` or more. `seed` is of the mixture.
    """

    n: Annotated[int, Field(ge=1, le=1000)] = 24
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    backgrounds: Annotated[Tuple[Name], Field(min_length=1)]
    per_minute: Annotated[float, Field(gt=0, le=600)] = 8.0
    species: Literal["evenly", "as_recorded"] = "evenly"
    part_s: Range = (2.0, 8.0)
    snr_db: Range = (0.0, 20.0)
    min_s: Positive = 0.3
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _possible(self) -> SyntheticSpec:
        if not self.part_s[0] >= self.min_s:
            raise ValueError(
                f"part_s should begin at min_s, {self.min_s:g} s, or more; got {list(self.part_s)}"
            )
        if max(map(abs, self.snr_db)) > LOUDEST_DB:
            raise ValueError(f"snr_db should lie within {LOUDEST_DB:g} dB; got {list(self.snr_db)}")
        return self
