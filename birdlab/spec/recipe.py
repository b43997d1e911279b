"""The recipe of a stage: how long, how fast, on what crops, with which loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Positive, Probability, Spec
from birdlab.spec.kinds import KindOf
from birdlab.spec.losses import Focal
from birdlab.spec.optimizers import Adam, Cosine
from birdlab.spec.samplers import InversePower


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
    Unit: share. Source: TensorFlow's ExponentialMovingAverage; Polyak and Juditsky 1992 weigh all
    steps alike."""
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
