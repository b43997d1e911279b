"""The built-in augmentations: what each does and its ranges."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from birdlab.spec.base import AddedLater, Name, Positive, Probability, Spec, Tuple
from birdlab.spec.kinds import register


class AugmentationSpec(Spec):
    """A step of the augmentation list; each subclass is one kind.

    `domain` says what it works on: `wave` (batches of waveforms) or `mel` (spectrograms).
    """

    name: Name
    """What the step is called in this list; its kind unless said."""
    kind: str
    """Which step it is; its name unless said."""
    p: Probability = 1.0
    """The chance that a clip is changed. Unit: probability."""
    domain: ClassVar[Literal["wave", "mel"]] = "wave"


def _rises(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"should rise; got {list(value)}")
    return value


Range = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_rises)]
"""A uniform range, [low, high]."""

Partner = Literal["uniform", "class_weight"]
"""How the other clip of a mixture is drawn: every row alike, or by the stage's sampler."""


@register("augmentation", semantics=2)
class OrMixup(AugmentationSpec):
    """The mean of two peak-normalised clips, labelled with the union of their labels.

    Source: first place of BirdCLEF 2023.
    """

    kind: Literal["or_mixup"] = "or_mixup"
    p: Probability = 0.5
    partner: Annotated[Partner, AddedLater(as_before="uniform")] = "uniform"
    """How the other clip is drawn: every row alike, or by the stage's sampler."""


@register("augmentation")
class Mixup(AugmentationSpec):
    """`l * clip + (1 - l) * other`, l from Beta(alpha, alpha), peak-normalised again.

    Source: Zhang et al. 2018.
    """

    kind: Literal["mixup"] = "mixup"
    p: Probability = 0.5
    alpha: Positive = 0.4
    """Of the Beta distribution: near 0 hardly mixed, 1 uniform. Unit: shape."""
    labels: Literal["hard", "soft"] = "hard"
    """`hard` gives the union of both, `soft` blends them with the same l."""
    partner: Partner = "uniform"
    """How the other clip is drawn: every row alike, or by the stage's sampler."""


@register("augmentation")
class Cutmix(AugmentationSpec):
    """A stretch of time replaced by the same stretch of another clip.

    Source: Yun et al. 2019, along time.
    """

    kind: Literal["cutmix"] = "cutmix"
    p: Probability = 0.5
    share: Range = (0.2, 0.8)
    """How much of the clip is replaced, drawn from [low, high]. Unit: share."""
    labels: Literal["hard", "soft"] = "hard"
    """`hard` gives the union of both, `soft` weighs them by their shares of time."""
    partner: Partner = "uniform"
    """How the other clip is drawn: every row alike, or by the stage's sampler."""

    @model_validator(mode="after")
    def _share(self) -> Cutmix:
        if not 0 <= self.share[0] <= self.share[1] <= 1:
            raise ValueError(f"share should lie within 0..1; got {list(self.share)}")
        return self


@register("augmentation", semantics=2)
class Background(AugmentationSpec):
    """`(1 - g) * clip + g * noise`, noise from the named data sets, g uniform in `level`.

    Source: first place of BirdCLEF 2023.
    """

    kind: Literal["background"] = "background"
    p: Probability = 0.5
    noise: Annotated[Tuple[Name], Field(min_length=1)]
    """The data sets with the noise."""
    level: Range = (0.25, 0.75)
    """The weight g of the noise, drawn from [low, high]. Unit: share."""

    @model_validator(mode="after")
    def _level(self) -> Background:
        if not 0 <= self.level[0] <= self.level[1] <= 1:
            raise ValueError(f"level should lie within 0..1; got {list(self.level)}")
        return self


@register("augmentation")
class ColouredNoise(AugmentationSpec):
    """Gaussian noise whose power falls with frequency: white not, pink as 1/f, brown as 1/f².

    The sum is peak-normalised.

    Source: birdlab.
    """

    kind: Literal["coloured_noise"] = "coloured_noise"
    p: Probability = 0.5
    colour: Literal["white", "pink", "brown"] = "white"
    """How its power falls."""
    snr_db: Range = (3.0, 30.0)
    """The power of the clip over that of the noise, drawn from [low, high]."""


@register("augmentation", semantics=2)
class RandomFiltering(AugmentationSpec):
    """A random smooth filter per clip: `points` gains in dB, interpolated over frequency.

    Source: first place of BirdCLEF 2023.
    """

    kind: Literal["random_filtering"] = "random_filtering"
    points: Annotated[int, Field(ge=2, le=64)] = 4
    """How many gains are drawn. Unit: gains."""
    gain_db: Range = (-20.0, 0.0)
    """The range of each, [low, high]."""


@register("augmentation")
class LowPass(AugmentationSpec):
    """What a distant bird loses: a low-pass filter above a random cutoff.

    The cutoff is uniform on a logarithmic scale; the clip is peak-normalised again.

    Source: birdlab.
    """

    kind: Literal["low_pass"] = "low_pass"
    p: Probability = 0.3
    cutoff_hz: Range = (2000.0, 12_000.0)
    """Where the filter begins, drawn from [low, high]."""
    db_per_octave: Annotated[float, Field(gt=0, le=96)] = 12.0
    """How steeply it falls. Unit: dB per octave."""

    @model_validator(mode="after")
    def _positive(self) -> LowPass:
        if self.cutoff_hz[0] <= 0:
            raise ValueError(f"cutoff_hz should be above 0; got {list(self.cutoff_hz)}")
        return self


@register("augmentation")
class Gain(AugmentationSpec):
    """The clip louder or softer by a random gain; what comes later meets it at that level.

    Source: birdlab.
    """

    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: Range = (-12.0, 0.0)
    """The gain, drawn from [low, high]."""


@register("augmentation")
class TimeShift(AugmentationSpec):
    """The clip rolled in time; what leaves one end enters the other.

    Source: birdlab.
    """

    kind: Literal["time_shift"] = "time_shift"
    p: Probability = 0.5
    max_s: Positive = 1.0
    """The most that it is rolled, either way."""


@register("augmentation")
class SpecMask(AugmentationSpec):
    """Frequency masks, then time masks, on the spectrogram; each axis with probability p.

    Source: Park et al. 2019; numbers of the first place of BirdCLEF 2023.
    """

    kind: Literal["spec_mask"] = "spec_mask"
    p: Probability = 0.3
    max_masks: Annotated[int, Field(ge=1, le=16)] = 3
    """The most masks on one axis. Unit: masks."""
    max_bins: Annotated[int, Field(ge=0)] = 10
    """The widest frequency mask. Unit: bands."""
    max_frames: Annotated[int, Field(ge=0)] = 20
    """The widest time mask. Unit: frames."""
    domain: ClassVar[Literal["wave", "mel"]] = "mel"
