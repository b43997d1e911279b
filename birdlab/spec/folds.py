"""How the base table is split into folds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Spec
from birdlab.spec.kinds import register


class _Rare(Spec):
    """What both kinds of stratified folds do with species of fewer than `rare_below` rows."""

    n: Annotated[int, Field(ge=2, le=50)] = 5
    """The number of folds. Unit: folds."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Which of the possible folds are made. Unit: seed."""
    rare: Annotated[Literal["leave", "train", "halves"], AddedLater(as_before="leave")] = "leave"
    """`leave` spreads rare species like others, so that some folds lack them; `train` puts them in
    every training fold and never validates on them; `halves` cuts a species' single recording in
    two that lie in different folds: a leak, which the audit lists and the score leaves apart.
    Source: birdlab."""
    rare_below: Annotated[int | None, Field(ge=2), AddedLater(as_before=None)] = None
    """How many rows make a species common. Without it the number of folds for `train`, 2 for
    `halves`. Unit: rows. Source: birdlab."""

    @model_validator(mode="after")
    def _used(self) -> _Rare:
        if self.rare == "leave" and self.rare_below is not None:
            raise ValueError("rare_below does nothing with rare: leave")
        return self


@register("folds")
class Stratified(_Rare):
    """Folds with equal shares of every species.

    Source: first place of BirdCLEF 2023, scikit-learn's StratifiedKFold with 5 folds and seed 42.
    """

    kind: Literal["stratified"] = "stratified"


@register("folds")
class StratifiedGroup(_Rare):
    """Folds with near-equal shares of every species and no recordist in two of them.

    Source: second place of BirdCLEF 2025, scikit-learn's StratifiedGroupKFold.
    """

    kind: Literal["stratified_group"] = "stratified_group"


@register("folds")
class Predefined(Spec):
    """Folds from a column of the base table: 0 to n - 1; empty or -1 is always in training.

    Source: birdlab.
    """

    kind: Literal["predefined"] = "predefined"
    column: str = "fold"
    """The column with the number of the fold."""
    n: Annotated[int, Field(ge=1, le=50)]
    """The number of folds. Unit: folds."""
