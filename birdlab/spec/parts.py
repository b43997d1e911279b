"""The parts of an experiment: model, recipe, augmentations, stages, output, evidence."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.spec.base import AddedLater, Name, Positive, Probability, Spec, Tuple
from birdlab.spec.kinds import KindOf, register
from birdlab.spec.named import NamedList

# ---------------------------------------------------------------- model


@register("frontend")
class LogMelSpec(Spec):
    """Log-mel spectrogram, clamped and scaled clip by clip."""

    kind: Literal["log_mel"] = "log_mel"
    sample_rate_hz: Annotated[int, Field(ge=4000, le=192_000)] = 32_000
    n_fft: Annotated[int, Field(ge=64, le=16_384)] = 2048
    hop: Annotated[int, Field(ge=16, le=16_384)] = 512
    n_mels: Annotated[int, Field(ge=8, le=512)] = 128
    f_min_hz: Annotated[float, Field(ge=0)] = 20.0
    f_max_hz: Positive = 16_000.0
    top_db: Positive = 80.0

    @model_validator(mode="after")
    def _band(self) -> LogMelSpec:
        if not self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"f_min_hz < f_max_hz <= sample_rate_hz / 2 does not hold: "
                f"{self.f_min_hz:g}, {self.f_max_hz:g}, {self.sample_rate_hz / 2:g}"
            )
        if self.hop > self.n_fft:
            raise ValueError(f"hop {self.hop} is larger than n_fft {self.n_fft}")
        return self


@register("head")
class SedAttention(Spec):
    """GeM over frequency, then attention over time: clip and framewise logits."""

    kind: Literal["sed_attention"] = "sed_attention"
    hidden: Annotated[int, Field(ge=1)] = 512
    dropout: Probability = 0.5
    gem_p: Annotated[float, Field(ge=1, le=10)] = 3.0


class ModelSpec(Spec):
    """The network: front-end, timm backbone, head, and the weights it starts from.

    `weights` names an entry of `[weights]` in the lab file; `pretrained` asks timm's hub.
    `features` takes a stage of `features_only` (`feature_level`, negative from the end) or
    the result of `forward_features`.
    """

    backbone: str
    pretrained: bool = False
    weights: Name | None = None
    features: Literal["features_only", "forward_features"] = "features_only"
    feature_level: int = -1
    in_channels: Annotated[int, Field(ge=1, le=16)] = 1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    frontend: Annotated[Spec, KindOf("frontend", "log_mel")] = LogMelSpec()
    head: Annotated[Spec, KindOf("head", "sed_attention")] = SedAttention()

    @model_validator(mode="after")
    def _one_source(self) -> ModelSpec:
        if self.pretrained and self.weights is not None:
            raise ValueError("give `pretrained: true` or `weights: name`, not both")
        return self


# ---------------------------------------------------------------- recipe


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


@register("optimizer")
class Adam(Spec):
    """Adam; `weight_decay` is the L2 term inside the gradient."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


@register("optimizer")
class AdamW(Spec):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


@register("schedule")
class Cosine(Spec):
    """Half a cosine from the optimiser's rate to `min_lr`, changed each epoch or step."""

    kind: Literal["cosine"] = "cosine"
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    per: Literal["epoch", "step"] = "epoch"


@register("schedule")
class Constant(Spec):
    """The optimiser's rate throughout."""

    kind: Literal["constant"] = "constant"


@register("loss")
class Focal(Spec):
    """Sigmoid focal loss on clip logits, mean over batch and classes."""

    kind: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    alpha: Probability = 0.25


@register("loss")
class Bce(Spec):
    """Binary cross-entropy on clip logits, mean over batch and classes."""

    kind: Literal["bce"] = "bce"


@register("sampler")
class InversePower(Spec):
    """Draws with replacement, a row of class c with weight (n_c / N) ** -power."""

    kind: Literal["inverse_power"] = "inverse_power"
    power: Annotated[float, Field(ge=0, le=2)] = 0.5


@register("sampler")
class Plain(Spec):
    """Every row once an epoch, in random order."""

    kind: Literal["plain"] = "plain"


class TrainSpec(Spec):
    """One recipe: how long, how fast, on what crops, with which loss.

    `channels_last` lays images out as most CPU and GPU convolutions like them: 1.3 to 1.8
    times as fast for small backbones on a CPU, and other last digits.
    """

    window_s: Annotated[float, Field(gt=0.1, le=60)] = 5.0
    length: Length = Length(epochs=50)
    batch: Annotated[int, Field(ge=1)] = 64
    optimizer: Annotated[Spec, KindOf("optimizer", "adam")] = Adam()
    schedule: Annotated[Spec, KindOf("schedule", "cosine")] = Cosine()
    loss: Annotated[Spec, KindOf("loss", "focal")] = Focal()
    sampler: Annotated[Spec, KindOf("sampler", "inverse_power")] = InversePower()
    secondary: Probability = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    threads_per_cell: Annotated[int, Field(ge=1, le=256)] = 1
    channels_last: Annotated[bool, AddedLater(as_before=False)] = False


# ---------------------------------------------------------------- augmentations


class AugmentationSpec(Spec):
    """A step of the augmentation list; each subclass is one kind.

    `domain` says what it works on: `wave` (batches of waveforms) or `mel` (spectrograms).
    """

    name: Name
    kind: str
    p: Probability = 1.0
    domain: ClassVar[Literal["wave", "mel"]] = "wave"


Range = Annotated[tuple[float, float], Field(strict=False)]


@register("augmentation")
class OrMixup(AugmentationSpec):
    """The mean of two peak-normalised clips, labelled with the union of their labels."""

    kind: Literal["or_mixup"] = "or_mixup"
    p: Probability = 0.5


@register("augmentation")
class Background(AugmentationSpec):
    """`(1 - g) * clip + g * noise`, noise from the named data sets, g uniform in `level`."""

    kind: Literal["background"] = "background"
    p: Probability = 0.5
    noise: Annotated[Tuple[Name], Field(min_length=1)]
    level: Range = (0.25, 0.75)

    @model_validator(mode="after")
    def _range(self) -> Background:
        if not 0 <= self.level[0] <= self.level[1] <= 1:
            raise ValueError(f"level should rise within 0..1; got {list(self.level)}")
        return self


@register("augmentation")
class RandomFiltering(AugmentationSpec):
    """A random smooth filter per clip: `points` gains in dB, interpolated over frequency."""

    kind: Literal["random_filtering"] = "random_filtering"
    points: Annotated[int, Field(ge=2, le=64)] = 4
    gain_db: Range = (-20.0, 0.0)

    @model_validator(mode="after")
    def _range(self) -> RandomFiltering:
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db should rise; got {list(self.gain_db)}")
        return self


@register("augmentation")
class SpecMask(AugmentationSpec):
    """Frequency masks, then time masks, on the spectrogram; each axis with probability p."""

    kind: Literal["spec_mask"] = "spec_mask"
    p: Probability = 0.3
    max_masks: Annotated[int, Field(ge=1, le=16)] = 3
    max_bins: Annotated[int, Field(ge=0)] = 10
    max_frames: Annotated[int, Field(ge=0)] = 20
    domain: ClassVar[Literal["wave", "mel"]] = "mel"


# ---------------------------------------------------------------- stages, output, evidence


class StageSpec(Spec):
    """One stage of training: its data, where it starts, its own recipe.

    Without `data` the stage trains on the folds of the base table. `start` names an earlier
    stage; `transfer` says what it hands over: `all` keeps its classes and head, `backbone`
    gives this stage a new head. `seeds: shared` trains the stage once for all seeds, which
    hides the variance between seeds that it would add.
    """

    name: Name
    data: Name | None = None
    start: Name | None = None
    transfer: Literal["all", "backbone"] = "all"
    seeds: Literal["per_seed", "shared"] = "per_seed"
    train: TrainSpec
    augment: Annotated[tuple[AugmentationSpec, ...], NamedList("augmentation")] = ()


class OutputSpec(Spec):
    """The deployed probability: clip * P + time_max * M."""

    clip: Probability = 0.75
    time_max: Probability = 0.25

    @model_validator(mode="after")
    def _sum(self) -> OutputSpec:
        if abs(self.clip + self.time_max - 1) > 1e-9:
            raise ValueError(f"clip + time_max should be 1; got {self.clip + self.time_max:g}")
        return self


class EvaluateSpec(Spec):
    """How stored outputs are scored: do secondary labels count as positives?

    `batch` is the number of windows per forward pass and changes no score.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"batch"})

    secondary: Literal["count", "ignore"] = "count"
    batch: Annotated[int, Field(ge=1)] = 32


class CellsSpec(Spec):
    """How much evidence: folds (a list, `all`, or `none` for training on everything) and seeds."""

    folds: Tuple[Annotated[int, Field(ge=0)]] | Literal["all", "none"] = "all"
    seeds: Tuple[Annotated[int, Field(ge=0)]] = (0,)

    @field_validator("folds", "seeds")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise ValueError("should list at least one number, each once")
        return value
