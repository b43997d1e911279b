"""Losses: what is minimised on clip logits and on the time maximum."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Probability, Spec
from birdlab.spec.kinds import register


class LossSpec(Spec):
    """A loss; each subclass is one kind.

    It is computed on the clip logits and on the maximum over time of the framewise logits, and the
    two are added with the weights `clip` and `time_max`.
    """

    kind: str
    """Which loss it is."""
    clip: Annotated[float, Field(ge=0), AddedLater(as_before=1.0)] = 1.0
    """The weight of the loss on clip logits. Unit: weight. Source: first place of BirdCLEF 2023,
    who trained on these alone."""
    time_max: Annotated[float, Field(ge=0), AddedLater(as_before=0.0)] = 0.0
    """The weight of the loss on the maximum over time of the framewise logits. Unit: weight.
    Source: birdlab."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), AddedLater(as_before=0.0)] = 0.0
    """How much targets are drawn together before the loss: t (1 - e) + e / 2, and + e / C for a
    loss over a distribution. Unit: share. Source: Szegedy et al. 2016."""

    @model_validator(mode="after")
    def _on_something(self) -> LossSpec:
        if self.clip + self.time_max == 0:
            raise ValueError("clip and time_max are both 0: the loss would be on nothing")
        return self


@register("loss")
class Focal(LossSpec):
    """Sigmoid focal loss, mean over batch and classes.

    Source: Lin et al. 2017, equation 5; gamma and alpha as there and in the first place of BirdCLEF
    2023.
    """

    kind: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """How much less clear cases count; 0 is binary cross-entropy times alpha. Unit: exponent."""
    alpha: Probability = 0.25
    """The weight of positives; that of negatives is 1 - alpha. Unit: share."""


@register("loss")
class Bce(LossSpec):
    """Binary cross-entropy, mean over batch and classes.

    Source: minus the mean log-likelihood of independent classes.
    """

    kind: Literal["bce"] = "bce"


@register("loss")
class FocalBce(LossSpec):
    """Focal loss and binary cross-entropy, each with its weight.

    Source: Lin et al. 2017, equation 5, for the focal part.
    """

    kind: Literal["focal_bce"] = "focal_bce"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """How much less clear cases count in the focal loss. Unit: exponent."""
    alpha: Probability = 0.25
    """The weight of positives in the focal loss. Unit: share."""
    focal: Annotated[float, Field(ge=0)] = 1.0
    """The weight of the focal loss. Unit: weight. Source: birdlab."""
    bce: Annotated[float, Field(ge=0)] = 1.0
    """The weight of the binary cross-entropy. Unit: weight. Source: birdlab."""

    @model_validator(mode="after")
    def _weighs(self) -> FocalBce:
        if self.focal + self.bce == 0:
            raise ValueError("focal and bce are both 0: there would be no loss")
        return self


@register("loss")
class CrossEntropy(LossSpec):
    """Softmax cross-entropy against the targets scaled to sum to 1, mean over the batch.

    Source: minus the mean log-likelihood of one class per clip.
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
