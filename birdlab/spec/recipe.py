"""The recipe of a stage: how long, how fast, on what crops, with which loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Positive, Probability, Spec
from birdlab.spec.kinds import KindOf, register


class Length(Spec):
    """How long to train: exactly one of epochs, optimiser steps, clips seen."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    clips: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Length:
        given = [k for k in ("epochs", "steps", "clips") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of epochs, steps, clips; got {given or 'none'}")
        return self


# ---------------------------------------------------------------- optimisers, schedules


class OptimizerSpec(Spec):
    """An optimiser; each subclass is one kind.

    `lr` is the rate of the head, and of the backbone too unless `backbone_lr` is given.
    """

    kind: str
    lr: Positive = 1e-3
    backbone_lr: Annotated[Positive | None, AddedLater(as_before=None)] = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


@register("optimizer")
class Adam(OptimizerSpec):
    """Adam; `weight_decay` is the L2 term inside the gradient."""

    kind: Literal["adam"] = "adam"


@register("optimizer")
class AdamW(OptimizerSpec):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


@register("optimizer")
class RAdam(OptimizerSpec):
    """Adam whose first steps are held back while its variance is unknown."""

    kind: Literal["radam"] = "radam"


@register("optimizer")
class Sgd(OptimizerSpec):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True

    @model_validator(mode="after")
    def _momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleSpec(Spec):
    """How learning rates change; each subclass is one kind.

    With `warmup_epochs` rates rise linearly from 0, step by step, before the schedule begins.
    """

    kind: str
    warmup_epochs: Annotated[float, Field(ge=0), AddedLater(as_before=0.0)] = 0.0


@register("schedule")
class Cosine(ScheduleSpec):
    """Half a cosine from the optimiser's rate to `min_lr`, changed each epoch or step."""

    kind: Literal["cosine"] = "cosine"
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    per: Literal["epoch", "step"] = "epoch"


@register("schedule")
class Constant(ScheduleSpec):
    """The optimiser's rate throughout."""

    kind: Literal["constant"] = "constant"


@register("schedule")
class OneCycle(Spec):
    """Half a cosine from rate / `start_div` up to the rate, then down to rate / `end_div`.

    The rise takes `rise` of all steps; the rate changes each step.
    """

    kind: Literal["one_cycle"] = "one_cycle"
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    start_div: Annotated[float, Field(ge=1)] = 25.0
    end_div: Annotated[float, Field(ge=1)] = 1e4


# ---------------------------------------------------------------- losses, samplers


class LossSpec(Spec):
    """A loss; each subclass is one kind.

    It is computed on the clip logits and on the maximum over time of the framewise logits, and
    the two are added with the weights `clip` and `time_max`. `label_smoothing` e draws targets
    together before it: t * (1 - e) + e / 2, and + e / C for a loss over a distribution.
    """

    kind: str
    clip: Annotated[float, Field(ge=0), AddedLater(as_before=1.0)] = 1.0
    time_max: Annotated[float, Field(ge=0), AddedLater(as_before=0.0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1), AddedLater(as_before=0.0)] = 0.0

    @model_validator(mode="after")
    def _on_something(self) -> LossSpec:
        if self.clip + self.time_max == 0:
            raise ValueError("clip and time_max are both 0: the loss would be on nothing")
        return self


@register("loss")
class Focal(LossSpec):
    """Sigmoid focal loss, mean over batch and classes."""

    kind: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    alpha: Probability = 0.25


@register("loss")
class Bce(LossSpec):
    """Binary cross-entropy, mean over batch and classes."""

    kind: Literal["bce"] = "bce"


@register("loss")
class FocalBce(LossSpec):
    """Focal loss and binary cross-entropy, each with its weight."""

    kind: Literal["focal_bce"] = "focal_bce"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    alpha: Probability = 0.25
    focal: Annotated[float, Field(ge=0)] = 1.0
    bce: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _weighs(self) -> FocalBce:
        if self.focal + self.bce == 0:
            raise ValueError("focal and bce are both 0: there would be no loss")
        return self


@register("loss")
class CrossEntropy(LossSpec):
    """Softmax cross-entropy against the targets scaled to sum to 1, mean over the batch."""

    kind: Literal["cross_entropy"] = "cross_entropy"


@register("sampler")
class InversePower(Spec):
    """Draws with replacement, a row of class c with weight (n_c / N) ** -power."""

    kind: Literal["inverse_power"] = "inverse_power"
    power: Annotated[float, Field(ge=0, le=2)] = 0.5


@register("sampler")
class Clamped(Spec):
    """Draws with replacement, each class as if it had `minimum` to `cap` rows."""

    kind: Literal["clamped"] = "clamped"
    minimum: Annotated[int, Field(ge=1)] = 1
    cap: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _order(self) -> Clamped:
        if self.cap is not None and self.cap < self.minimum:
            raise ValueError(f"cap {self.cap} is below minimum {self.minimum}")
        return self


@register("sampler")
class Plain(Spec):
    """Every row once an epoch, in random order."""

    kind: Literal["plain"] = "plain"


# ---------------------------------------------------------------- recipe


class Average(Spec):
    """The mean of the weights of `k` epochs: the last ones, or the best by validation.

    The statistics of batch norms are computed anew for the mean.
    """

    of: Literal["last", "best"] = "last"
    k: Annotated[int, Field(ge=2, le=100)]


class TrainSpec(Spec):
    """One recipe: how long, how fast, on what crops, with which loss.

    `batch` clips go through the network at once; `accumulate` batches make one optimiser step.
    `secondary` is what a secondary label counts, or `mask`: it is then left out of the loss.
    `freeze_epochs` holds the backbone still for the first epochs, or for `all`. `validate_every`
    scores the fold every so many epochs, which costs time and, where it picks the checkpoint
    (`checkpoint: best`, `early_stop` after so many scores without a better one, `average` of the
    best), makes the score a chosen one. `channels_last` lays images out as most convolutions
    like them: 1.3 to 1.8 times as fast for small backbones on a CPU, and other last digits;
    `compile` hands the network to torch.compile.
    """

    window_s: Annotated[float, Field(gt=0.1, le=60)] = 5.0
    length: Length = Length(epochs=50)
    batch: Annotated[int, Field(ge=1)] = 64
    accumulate: Annotated[int, Field(ge=1, le=1024), AddedLater(as_before=1)] = 1
    optimizer: Annotated[Spec, KindOf("optimizer", "adam")] = Adam()
    schedule: Annotated[Spec, KindOf("schedule", "cosine")] = Cosine()
    loss: Annotated[Spec, KindOf("loss", "focal")] = Focal()
    sampler: Annotated[Spec, KindOf("sampler", "inverse_power")] = InversePower()
    secondary: Probability | Literal["mask"] = 1.0
    freeze_epochs: Annotated[
        Annotated[int, Field(ge=0)] | Literal["all"], AddedLater(as_before=0)
    ] = 0
    clip_norm: Annotated[Positive | None, AddedLater(as_before=None)] = None
    ema_decay: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, AddedLater(as_before=None)] = (
        None
    )
    average: Annotated[Average | None, AddedLater(as_before=None)] = None
    validate_every: Annotated[
        Annotated[int, Field(ge=1)] | Literal["last"], AddedLater(as_before="last")
    ] = "last"
    checkpoint: Annotated[Literal["last", "best"], AddedLater(as_before="last")] = "last"
    early_stop: Annotated[Annotated[int, Field(ge=1)] | None, AddedLater(as_before=None)] = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads_per_cell: Annotated[int, Field(ge=1, le=256)] = 1
    channels_last: Annotated[bool, AddedLater(as_before=False)] = False
    compile: Annotated[bool, AddedLater(as_before=False)] = False

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
