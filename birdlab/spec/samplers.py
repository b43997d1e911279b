"""How training rows are drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import Spec
from birdlab.spec.kinds import register


@register("sampler")
class InversePower(Spec):
    """Draws with replacement, a row of class c with weight (n_c / N) ** -power.

    Source: first place of BirdCLEF 2023, with power 0.5.
    """

    kind: Literal["inverse_power"] = "inverse_power"
    power: Annotated[float, Field(ge=0, le=2)] = 0.5
    """How far rare classes are drawn more often: 0 not at all, 1 all classes alike. Unit: exponent.
    """


@register("sampler")
class Clamped(Spec):
    """Draws with replacement, each class as if it had `minimum` to `cap` rows.

    Source: birdlab.
    """

    kind: Literal["clamped"] = "clamped"
    minimum: Annotated[int, Field(ge=1)] = 1
    """A class with fewer rows is drawn as if it had so many. Unit: rows."""
    cap: Annotated[int, Field(ge=1)] | None = None
    """A class with more rows is drawn as if it had so many; without it there is no limit. Unit:
    rows."""

    @model_validator(mode="after")
    def _order(self) -> Clamped:
        if self.cap is not None and self.cap < self.minimum:
            raise ValueError(f"cap {self.cap} is below minimum {self.minimum}")
        return self


@register("sampler")
class Plain(Spec):
    """Every row once an epoch, in random order.

    Source: birdlab.
    """

    kind: Literal["plain"] = "plain"
