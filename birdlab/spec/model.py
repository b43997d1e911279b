"""The network of an experiment: front-end, backbone, head, and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Name, Positive, Probability, Spec, Tuple
from birdlab.spec.kinds import KindOf, register


@register("frontend")
class LogMelSpec(Spec):
    """Log-mel spectrogram, clamped and scaled clip by clip.

    Source: first place of BirdCLEF 2023.
    """

    kind: Literal["log_mel"] = "log_mel"
    sample_rate_hz: Annotated[int, Field(ge=4000, le=192_000)] = 32_000
    """The rate that audio is brought to."""
    n_fft: Annotated[int, Field(ge=64, le=16_384)] = 2048
    """The length of the Fourier transform. Unit: samples."""
    hop: Annotated[int, Field(ge=16, le=16_384)] = 512
    """The step from one frame to the next. Unit: samples."""
    n_mels: Annotated[int, Field(ge=8, le=512)] = 128
    """The number of mel bands. Unit: bands."""
    f_min_hz: Annotated[float, Field(ge=0)] = 20.0
    """Where the lowest band begins."""
    f_max_hz: Positive = 16_000.0
    """Where the highest band ends, at most half the rate."""
    top_db: Positive = 80.0
    """What is further below the loudest value of the clip is raised to that."""

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


@register("frontend")
class MultiMelSpec(Spec):
    """Several log-mel spectrograms of one clip as the channels of one image.

    They share rate, hop and number of mels, so that their frames and bins line up, and differ in
    n_fft, band or top_db.

    Source: birdlab.
    """

    kind: Literal["multi_mel"] = "multi_mel"
    channels: Annotated[Tuple[LogMelSpec], Field(min_length=2, max_length=16)]
    """The spectrograms, each with the fields of `log_mel`; `model.in_channels` is to be their
    number."""

    @model_validator(mode="after")
    def _line_up(self) -> MultiMelSpec:
        for name in ("sample_rate_hz", "hop", "n_mels"):
            values = [getattr(channel, name) for channel in self.channels]
            if len(set(values)) > 1:
                raise ValueError(f"the channels should share {name}; got {values}")
        return self

    @property
    def sample_rate_hz(self) -> int:
        """The rate of every channel."""
        return self.channels[0].sample_rate_hz


@register("backbone")
class TransformerSpec(Spec):
    """A transformer over the frames of the spectrogram, in place of a timm network.

    Source: Vaswani et al. 2017, with the norms before the layers (Xiong et al. 2020).
    """

    kind: Literal["transformer"] = "transformer"
    width: Annotated[int, Field(ge=8, le=2048)] = 256
    """The length of a token. Unit: numbers."""
    depth: Annotated[int, Field(ge=1, le=48)] = 6
    """The number of layers. Unit: layers."""
    heads: Annotated[int, Field(ge=1, le=32)] = 4
    """The number of heads of self-attention; `width` is a multiple of it. Unit: heads."""
    stride: Annotated[int, Field(ge=1, le=64)] = 4
    """How many frames become one token. Unit: frames."""
    dropout: Probability = 0.1
    """The chance that a number is dropped in training. Unit: probability."""

    @model_validator(mode="after")
    def _divides(self) -> TransformerSpec:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} should be even and a multiple of {self.heads}")
        return self


@register("head")
class SedAttention(Spec):
    """Pooling over frequency, then attention over time: clip and framewise logits.

    Source: first place of BirdCLEF 2023; GeM of Radenović et al. 2018.
    """

    kind: Literal["sed_attention"] = "sed_attention"
    hidden: Annotated[int, Field(ge=1)] = 512
    """The width of the layer before the attention. Unit: units."""
    dropout: Probability = 0.5
    """The chance that a unit is dropped before the attention; half of it before the hidden layer.
    Unit: probability."""
    gem_p: Annotated[float, Field(ge=1, le=10)] = 3.0
    """The power that the generalised mean over frequency starts from; it is learned. Unit:
    exponent."""
    pool: Annotated[Literal["gem", "mean"], AddedLater(as_before="gem")] = "gem"
    """How frequencies are pooled: by the generalised mean, or the plain one."""
    attention: Annotated[Literal["tanh", "sigmoid", "none"], AddedLater(as_before="tanh")] = "tanh"
    """What squashes the attention logits before their softmax."""
    gru: Annotated[int, Field(ge=0, le=2048), AddedLater(as_before=0)] = 0
    """The units a direction of a bidirectional GRU between the hidden layer and the attention; 0 is
    none. Unit: units. Source: Cho et al. 2014."""


@register("head")
class Pooled(Spec):
    """A plain classifier: pooling over frequency and time, dropout, one linear layer.

    Framewise logits are the same layer on each frame.

    Source: GeM of Radenović et al. 2018.
    """

    kind: Literal["pooled"] = "pooled"
    dropout: Probability = 0.5
    """The chance that a feature is dropped in training. Unit: probability."""
    pool: Literal["gem", "mean"] = "gem"
    """How frequencies are pooled: by the generalised mean, or the plain one."""
    gem_p: Annotated[float, Field(ge=1, le=10)] = 3.0
    """The power that the generalised mean starts from; it is learned. Unit: exponent."""
    gru: Annotated[int, Field(ge=0, le=2048)] = 0
    """The units a direction of a bidirectional GRU over the frames; 0 is none. Unit: units. Source:
    Cho et al. 2014."""


class ModelSpec(Spec):
    """The network: front-end, backbone, head, and the weights it starts from."""

    backbone: Annotated[str | Spec, KindOf("backbone", text=True)]
    """The name of a timm network, or a kind of birdlab's own."""
    pretrained: bool = False
    """Take the pretrained weights of timm's hub, which needs a network."""
    weights: Name | None = None
    """Take the weights of this entry of `[weights]` in the lab file."""
    features: Literal["features_only", "forward_features"] = "features_only"
    """Where the maps for the head come from: a stage of `features_only`, or the result of
    `forward_features`."""
    feature_level: int | Annotated[Tuple[int], Field(min_length=2, max_length=8)] = -1
    """Which stage of `features_only`, negative from the end; several are pooled to the size of the
    smallest and stacked. Unit: stage."""
    in_channels: Annotated[int, Field(ge=1, le=16)] = 1
    """The channels of the image that the front-end makes. Unit: channels."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The highest chance with which blocks of the backbone are skipped in training; it grows with
    their depth from 0. Unit: probability. Source: Huang et al. 2016."""
    grad_checkpointing: Annotated[bool, AddedLater(as_before=False)] = False
    """Compute activations again instead of keeping them: less memory, more time."""
    normalise: Annotated[Literal["crop", "recording"], AddedLater(as_before="crop")] = "crop"
    """What brings a waveform to peak 1: each window by itself, or its whole recording."""
    frontend: Annotated[Spec, KindOf("frontend", "log_mel")] = LogMelSpec()
    """What makes an image of a waveform."""
    head: Annotated[Spec, KindOf("head", "sed_attention")] = SedAttention()
    """What makes logits of classes from the maps of the backbone."""

    @model_validator(mode="after")
    def _holds(self) -> ModelSpec:
        if self.pretrained and self.weights is not None:
            raise ValueError("give `pretrained: true` or `weights: name`, not both")
        if isinstance(self.feature_level, tuple):
            if self.features != "features_only":
                raise ValueError("several feature levels need `features: features_only`")
            if len(set(self.feature_level)) < len(self.feature_level):
                raise ValueError(f"feature_level names one twice: {list(self.feature_level)}")
        if not isinstance(self.backbone, str) and (self.pretrained or self.feature_level != -1):
            raise ValueError("pretrained and feature_level are for timm networks")
        if isinstance(self.frontend, MultiMelSpec):
            n = len(self.frontend.channels)
            if self.in_channels != n:
                raise ValueError(f"in_channels is {self.in_channels}, the front-end makes {n}")
        return self
