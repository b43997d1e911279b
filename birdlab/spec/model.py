"""The network of an experiment: front-end, backbone, head, and where its weights come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import AddedLater, Name, Positive, Probability, Spec, Tuple
from birdlab.spec.kinds import KindOf, register


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


@register("frontend")
class MultiMelSpec(Spec):
    """Several log-mel spectrograms of one clip as the channels of one image.

    They share rate, hop and number of mels, so that their frames and bins line up, and differ
    in n_fft, band or top_db. `model.in_channels` is to be their number.
    """

    kind: Literal["multi_mel"] = "multi_mel"
    channels: Annotated[Tuple[LogMelSpec], Field(min_length=2, max_length=16)]

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

    Every `stride` frames become one token of `width` numbers; `depth` layers of self-attention
    with `heads` heads follow.
    """

    kind: Literal["transformer"] = "transformer"
    width: Annotated[int, Field(ge=8, le=2048)] = 256
    depth: Annotated[int, Field(ge=1, le=48)] = 6
    heads: Annotated[int, Field(ge=1, le=32)] = 4
    stride: Annotated[int, Field(ge=1, le=64)] = 4
    dropout: Probability = 0.1

    @model_validator(mode="after")
    def _divides(self) -> TransformerSpec:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} should be even and a multiple of {self.heads}")
        return self


@register("head")
class SedAttention(Spec):
    """Pooling over frequency, then attention over time: clip and framewise logits.

    `attention` squashes the attention logits before their softmax. `gru` puts a bidirectional
    GRU of so many units a direction between the hidden layer and the attention; 0 is none.
    """

    kind: Literal["sed_attention"] = "sed_attention"
    hidden: Annotated[int, Field(ge=1)] = 512
    dropout: Probability = 0.5
    gem_p: Annotated[float, Field(ge=1, le=10)] = 3.0
    pool: Annotated[Literal["gem", "mean"], AddedLater(as_before="gem")] = "gem"
    attention: Annotated[Literal["tanh", "sigmoid", "none"], AddedLater(as_before="tanh")] = "tanh"
    gru: Annotated[int, Field(ge=0, le=2048), AddedLater(as_before=0)] = 0


@register("head")
class Pooled(Spec):
    """A plain classifier: pooling over frequency and time, dropout, one linear layer.

    Framewise logits are the same layer on each frame.
    """

    kind: Literal["pooled"] = "pooled"
    dropout: Probability = 0.5
    pool: Literal["gem", "mean"] = "gem"
    gem_p: Annotated[float, Field(ge=1, le=10)] = 3.0
    gru: Annotated[int, Field(ge=0, le=2048)] = 0


class ModelSpec(Spec):
    """The network: front-end, backbone, head, and the weights it starts from.

    `backbone` is the name of a timm network, or a kind of birdlab's own. `weights` names an
    entry of `[weights]` in the lab file; `pretrained` asks timm's hub. `features` takes a stage
    of `features_only` (`feature_level`, negative from the end; several are pooled to the size of
    the smallest and stacked) or the result of `forward_features`. `normalise` says what brings
    a waveform to peak 1: each window by itself, or its whole recording.
    `grad_checkpointing` computes activations again instead of keeping them.
    """

    backbone: Annotated[str | Spec, KindOf("backbone", text=True)]
    pretrained: bool = False
    weights: Name | None = None
    features: Literal["features_only", "forward_features"] = "features_only"
    feature_level: int | Annotated[Tuple[int], Field(min_length=2, max_length=8)] = -1
    in_channels: Annotated[int, Field(ge=1, le=16)] = 1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    grad_checkpointing: Annotated[bool, AddedLater(as_before=False)] = False
    normalise: Annotated[Literal["crop", "recording"], AddedLater(as_before="crop")] = "crop"
    frontend: Annotated[Spec, KindOf("frontend", "log_mel")] = LogMelSpec()
    head: Annotated[Spec, KindOf("head", "sed_attention")] = SedAttention()

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
