"""A front-end of your own that learns: Gabor filters, Gaussian pooling, normalised energy.

In the manner of LEAF, whose filters start as a mel filterbank and move while the network trains.
To be affordable on a CPU the filters are not slid sample by sample but by `stride`, as
EfficientLEAF does. Nothing here imports torch before a network is built.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from birdlab.spec.base import Positive, Spec
from birdlab.spec.kinds import implements, register

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = npt.NDArray[np.float64]
EPS = 1e-6
"""Added to the mean that a band is divided by."""
HALF_HEIGHT = math.sqrt(2 * math.log(2))
"""Where a Gaussian of deviation 1 is half as high as in its middle."""


@register("frontend")
class LeafSpec(Spec):
    """Learned filters of `window` samples, computed every `stride` samples, pooled every `hop`.

    They start as a mel filterbank from `f_min_hz` to `f_max_hz`. Bands are divided by their
    exponential mean over about `smooth_s`; how far, and the root after it, are learned too.
    """

    kind: Literal["leaf"] = "leaf"
    sample_rate_hz: Annotated[int, Field(ge=4000, le=192_000)] = 32_000
    n_filters: Annotated[int, Field(ge=8, le=512)] = 64
    window: Annotated[int, Field(ge=33, le=8191)] = 801
    stride: Annotated[int, Field(ge=1, le=1024)] = 32
    hop: Annotated[int, Field(ge=16, le=16_384)] = 512
    f_min_hz: Annotated[float, Field(ge=0)] = 60.0
    f_max_hz: Positive = 15_000.0
    smooth_s: Positive = 0.4

    @model_validator(mode="after")
    def _fits(self) -> LeafSpec:
        if not self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"f_min_hz < f_max_hz <= sample_rate_hz / 2 does not hold: "
                f"{self.f_min_hz:g}, {self.f_max_hz:g}, {self.sample_rate_hz / 2:g}"
            )
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} should be odd, so that it has a middle")
        if self.hop % self.stride or self.stride > self.window // 2:
            raise ValueError(
                f"stride {self.stride} should divide hop {self.hop} and be at most half of "
                f"window {self.window}"
            )
        return self


def place_filters(spec: LeafSpec) -> tuple[Floats, Floats]:
    """Centres in radians a sample and widths in samples [n_filters] of the filters at first.

    A width is that of the Gaussian whose spectrum is as broad at half height as the mel triangle.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (spec.f_min_hz, spec.f_max_hz))
    mels = np.linspace(low, high, spec.n_filters + 2)
    edges = 700 * (10 ** (mels / 2595) - 1) / spec.sample_rate_hz
    half_height = (edges[2:] - edges[:-2]) / 2
    return 2 * np.pi * edges[1:-1], HALF_HEIGHT / (np.pi * half_height)


@implements(LeafSpec)
def build_leaf(spec: LeafSpec) -> nn.Module:
    """The front-end of `spec`: wave [B, S] → [B, 1, n_filters, 1 + S // hop] float32, 0..1.

    Its parameters are trained with the head's rate. After compression each clip is scaled to
    0..1 as the log-mel one is.
    Source: Zeghidour et al. 2021, LEAF: a learnable frontend for audio classification, eq. 2-5;
    Schlüter & Gutenbrunner 2022, EfficientLEAF (strided filters).
    """
    import torch
    from torch import nn

    from birdlab.sed.frontend import scale_clips

    per_hop = spec.hop // spec.stride
    half = spec.window // 2

    class Leaf(nn.Module):
        time: Tensor
        pool_time: Tensor

        def __init__(self) -> None:
            super().__init__()
            centres, widths = place_filters(spec)
            self.centre = nn.Parameter(torch.from_numpy(centres).float())
            self.width = nn.Parameter(torch.from_numpy(widths).float())
            self.pool_width = nn.Parameter(torch.full((spec.n_filters,), 0.4))
            start = torch.tensor([0.96, 2.0, 0.5]).log()
            self.shape = nn.Parameter(start[:, None, None].repeat(1, spec.n_filters, 1))
            time = torch.arange(-half, half + 1, dtype=torch.float32)
            pool_time = torch.linspace(-1, 1, 2 * per_hop + 1)
            self.register_buffer("time", time, persistent=False)
            self.register_buffer("pool_time", pool_time, persistent=False)

        def export_form(self) -> nn.Module:
            """Itself: it holds real convolutions only."""
            return self

        def filters(self) -> Tensor:
            """The Gabor filters as they are now, cosines above sines: [2 n_filters, window]."""
            widest = spec.window * HALF_HEIGHT / math.pi
            width = self.width.clamp(4 * HALF_HEIGHT / math.pi, widest)[:, None]
            centre = self.centre.clamp(0.0, math.pi)[:, None]
            bell = torch.exp(-0.5 * (self.time / width) ** 2) / (math.sqrt(2 * math.pi) * width)
            angle = centre * self.time
            return torch.cat([bell * angle.cos(), bell * angle.sin()])

        def bands(self, wave: Tensor) -> Tensor:
            """Pooled energy of each filter: [B, n_filters, T]."""
            n_taps = -(-spec.window // spec.stride)
            n = (wave.shape[1] // spec.stride + n_taps) * spec.stride
            padded = nn.functional.pad(wave.float(), (half, n - half - wave.shape[1]))
            filters = nn.functional.pad(self.filters(), (0, n_taps * spec.stride - spec.window))
            # Samples a stride apart lie beside each other as channels, which convolves faster.
            phases, taps = (
                x.reshape(x.shape[0], -1, spec.stride).transpose(1, 2) for x in (padded, filters)
            )
            re, im = nn.functional.conv1d(phases, taps).chunk(2, dim=1)
            bell = torch.exp(
                -0.5 * (self.pool_time / self.pool_width.clamp(0.05, 0.5)[:, None]) ** 2
            )
            bell = (bell / bell.sum(dim=1, keepdim=True))[:, None]
            return nn.functional.conv1d(
                re * re + im * im, bell, stride=per_hop, padding=per_hop, groups=spec.n_filters
            )

        def compress(self, energy: Tensor) -> Tensor:
            """Bands over their recent mean, rooted: [B, n_filters, T]."""
            alpha, delta, root = self.shape.exp()
            mean = energy @ _running_mean(energy)
            gained = energy / (EPS + mean) ** alpha
            # (gained + delta)^root - delta^root, written so that silence is 0 to the last bit.
            rooted: Tensor = delta**root * torch.expm1(root * torch.log1p(gained / delta))
            return rooted

        def forward(self, wave: Tensor) -> Tensor:
            if torch.compiler.is_exporting():
                return scale_clips(self.compress(self.bands(wave)))
            with torch.autocast(wave.device.type, enabled=False):
                return scale_clips(self.compress(self.bands(wave)))

    def _running_mean(energy: Tensor) -> Tensor:
        """The recursion M[t] = (1 - s) M[t-1] + s E[t], M[0] = E[0], as one matrix [T, T]."""
        keep = math.exp(-spec.hop / spec.sample_rate_hz / spec.smooth_s)
        frame = torch.arange(energy.shape[-1], device=energy.device, dtype=energy.dtype)
        age = frame - frame[:, None]
        weight = torch.where(frame[:, None] > 0, 1 - keep, 1.0)
        return torch.where(age < 0, 0.0, weight * keep ** age.clamp(min=0))

    return Leaf()
