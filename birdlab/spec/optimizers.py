"""Optimisers, and how their rates change."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Positive, Spec
from birdlab.spec.kinds import register


class OptimizerSpec(Spec):
    """An optimiser; each subclass is one kind."""

    kind: str
    """Which optimiser it is."""
    lr: Positive = 1e-3
    """The learning rate of the head, and of the backbone too unless `backbone_lr` is given. Unit:
    rate. Source: first place of BirdCLEF 2023, for eca_nfnet_l0."""
    backbone_lr: Annotated[Positive | None, AddedLater(as_before=None)] = None
    """The learning rate of the backbone. Unit: rate. Source: birdlab."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """How strongly weights are pulled to 0, norms and biases too. Unit: rate. Source: birdlab."""


@register("optimizer")
class Adam(OptimizerSpec):
    """Adam; `weight_decay` is the L2 term inside the gradient.

    Source: Kingma and Ba 2015.
    """

    kind: Literal["adam"] = "adam"


@register("optimizer")
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay.

    Source: Loshchilov and Hutter 2019.
    """

    kind: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """How strongly weights are pulled to 0, norms and biases too. Unit: rate. Source: the default
    of PyTorch."""


@register("optimizer")
class RAdam(OptimizerSpec):
    """Adam whose first steps are held back while its variance is unknown.

    Source: Liu et al. 2020.
    """

    kind: Literal["radam"] = "radam"


@register("optimizer")
class Sgd(OptimizerSpec):
    """Stochastic gradient descent with momentum.

    Source: Sutskever et al. 2013; the update is PyTorch's, in which the rate scales the whole step.
    """

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    """The learning rate of the head, and of the backbone too unless `backbone_lr` is given. Unit:
    rate. Source: birdlab."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """How much of the last step goes into the next. Unit: share."""
    nesterov: bool = True
    """Look ahead by the momentum before the gradient is taken."""

    @model_validator(mode="after")
    def _momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleSpec(Spec):
    """How learning rates change; each subclass is one kind."""

    kind: str
    """Which schedule it is."""
    warmup_epochs: Annotated[float, Field(ge=0), AddedLater(as_before=0.0)] = 0.0
    """How long rates rise linearly from 0, step by step, before the schedule begins. Source: Goyal
    et al. 2017, who begin above 0."""


@register("schedule")
class Cosine(ScheduleSpec):
    """Half a cosine from the optimiser's rate to `min_lr`, changed each epoch or step.

    Source: Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    kind: Literal["cosine"] = "cosine"
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    """The rate at the end. Unit: rate. Source: first place of BirdCLEF 2023."""
    per: Literal["epoch", "step"] = "epoch"
    """Whether the rate changes with each epoch or with each step. Source: first place of BirdCLEF
    2023, per epoch."""


@register("schedule")
class Constant(ScheduleSpec):
    """The optimiser's rate throughout.

    Source: birdlab.
    """

    kind: Literal["constant"] = "constant"


@register("schedule")
class OneCycle(Spec):
    """Half a cosine from rate / `start_div` up to the rate, then down to rate / `end_div`.

    The rate changes each step.

    Source: Smith and Topin 2018, with cosines in place of lines.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """The share of all steps that the rise takes. Unit: share."""
    start_div: Annotated[float, Field(ge=1)] = 25.0
    """How many times lower the rate is at the start. Unit: factor."""
    end_div: Annotated[float, Field(ge=1)] = 1e4
    """How many times lower the rate is at the end. Unit: factor."""
