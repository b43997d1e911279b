"""The recipe of a stage: how long, how fast, on what crops, with which loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Positive, Probability, Spec
from birdlab.spec.kinds import KindOf, register


class Length(Spec):
    """How long to train: exactly one of epochs, optimiser steps, clips seen.

    Source: first place of BirdCLEF 2023, 50 epochs.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over as many clips as the training table has rows. Unit: epochs."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Steps of the optimiser. Unit: steps."""
    clips: Annotated[int, Field(ge=1)] | None = None
    """Clips that go through the network. Unit: clips."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Length:
        given = [k for k in ("epochs", "steps", "clips") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of epochs, steps, clips; got {given or 'none'}")
        return self


# ---------------------------------------------------------------- optimisers, schedules


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
    """How strongly weights are pulled to 0, norms and biases too. Unit: rate."""


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


@register("optimizer")
class RAdam(OptimizerSpec):
    """Adam whose first steps are held back while its variance is unknown.

    Source: Liu et al. 2020.
    """

    kind: Literal["radam"] = "radam"


@register("optimizer")
class Sgd(OptimizerSpec):
    """Stochastic gradient descent with momentum.

    Source: Sutskever et al. 2013.
    """

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
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
    et al. 2017."""


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


# ---------------------------------------------------------------- losses, samplers


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


# ---------------------------------------------------------------- recipe


class Average(Spec):
    """The mean of the weights of `k` epochs: the last ones, or the best by validation.

    The statistics of batch norms are computed anew for the mean.

    Source: Izmailov et al. 2018.
    """

    of: Literal["last", "best"] = "last"
    """Which epochs; `best` needs `validate_every` and makes the score a chosen one."""
    k: Annotated[int, Field(ge=2, le=100)]
    """How many epochs. Unit: epochs."""


class TrainSpec(Spec):
    """One recipe: how long, how fast, on what crops, with which loss."""

    window_s: Annotated[float, Field(gt=0.1, le=60)] = 5.0
    """How long the crops are that are trained on. Source: first place of BirdCLEF 2023."""
    length: Length = Length(epochs=50)
    """How long to train."""
    batch: Annotated[int, Field(ge=1)] = 64
    """How many clips go through the network at once. Unit: clips. Source: first place of BirdCLEF
    2023."""
    accumulate: Annotated[int, Field(ge=1, le=1024), AddedLater(as_before=1)] = 1
    """How many batches make one step of the optimiser. Unit: batches."""
    optimizer: Annotated[Spec, KindOf("optimizer", "adam")] = Adam()
    """The optimiser and its rates."""
    schedule: Annotated[Spec, KindOf("schedule", "cosine")] = Cosine()
    """How the rates change."""
    loss: Annotated[Spec, KindOf("loss", "focal")] = Focal()
    """What is minimised."""
    sampler: Annotated[Spec, KindOf("sampler", "inverse_power")] = InversePower()
    """How rows are drawn."""
    secondary: Probability | Literal["mask"] = 1.0
    """What a secondary label counts, or `mask`: it is then left out of the loss. Unit: share.
    Source: first place of BirdCLEF 2023, 1."""
    freeze_epochs: Annotated[
        Annotated[int, Field(ge=0)] | Literal["all"], AddedLater(as_before=0)
    ] = 0
    """How long the backbone holds still, or `all`: throughout."""
    clip_norm: Annotated[Positive | None, AddedLater(as_before=None)] = None
    """The longest that a gradient may be; longer ones are shortened to it. Unit: norm. Source:
    Pascanu et al. 2013."""
    ema_decay: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, AddedLater(as_before=None)] = (
        None
    )
    """Keep the running mean of the weights, in which a step counts 1 - decay, and evaluate that.
    Unit: share. Source: Polyak and Juditsky 1992."""
    average: Annotated[Average | None, AddedLater(as_before=None)] = None
    """Take the mean of the weights of several epochs."""
    validate_every: Annotated[
        Annotated[int, Field(ge=1)] | Literal["last"], AddedLater(as_before="last")
    ] = "last"
    """Score the fold every so many epochs, which costs time; `last` does so at the end alone. Unit:
    epochs."""
    checkpoint: Annotated[Literal["last", "best"], AddedLater(as_before="last")] = "last"
    """Which weights are taken: the last, or the best by validation, which makes the score a chosen
    one. Source: birdlab."""
    early_stop: Annotated[Annotated[int, Field(ge=1)] | None, AddedLater(as_before=None)] = None
    """End after so many scores without a better one, which makes the score a chosen one. Unit:
    scores."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The numbers that the network computes with on a GPU or CPU."""
    threads_per_cell: Annotated[int, Field(ge=1, le=256)] = 1
    """The threads that a cell computes with on a CPU. Another number gives other last digits. Unit:
    threads."""
    channels_last: Annotated[bool, AddedLater(as_before=False)] = False
    """Lay images out as most convolutions like them: 1.3 to 1.8 times as fast for small backbones
    on a CPU, and other last digits."""
    compile: Annotated[bool, AddedLater(as_before=False)] = False
    """Hand the network to torch.compile."""

    @property
    def is_steered(self) -> bool:
        """Whether validation rows decide which weights are kept."""
        best = self.average is not None and self.average.of == "best"
        return self.checkpoint == "best" or self.early_stop is not None or best

    @model_validator(mode="after")
    def _holds(self) -> TrainSpec:
        if self.is_steered and self.validate_every == "last":
            raise ValueError(
                "checkpoint: best, early_stop and average of the best need validate_every: 1 or so"
            )
        if self.average is not None and self.checkpoint == "best":
            raise ValueError("give `average` or `checkpoint: best`, not both")
        if self.average is not None and self.ema_decay is not None:
            raise ValueError("give `average` or `ema_decay`, not both")
        return self
