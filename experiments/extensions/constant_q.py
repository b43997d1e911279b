"""A front-end of your own: the constant-Q transform, whose bins lie evenly over the octaves.

A mel spectrogram has one window for all frequencies; here a bin's window is as long as so many
periods of its own pitch. The transform is a handful of convolutions, so that what trains is also
what is exported. Nothing here imports torch before a network is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Positive, Spec
from birdlab.spec.kinds import implements, register

if TYPE_CHECKING:
    from torch import Tensor, nn

Kernels = npt.NDArray[np.float64]


@register("frontend")
class ConstantQSpec(Spec):
    """Constant-Q spectrogram in dB, clamped and scaled clip by clip like the mel one.

    Bin k is at `f_min_hz * 2 ** (k / bins_per_octave)`; `n_bins` of them end below half the
    sample rate.
    """

    kind: Literal["constant_q"] = "constant_q"
    sample_rate_hz: Annotated[int, Field(ge=4000, le=192_000)] = 32_000
    hop: Annotated[int, Field(ge=16, le=16_384)] = 512
    f_min_hz: Annotated[float, Field(ge=20)] = 250.0
    bins_per_octave: Annotated[int, Field(ge=2, le=96)] = 16
    n_bins: Annotated[int, Field(ge=8, le=512)] = 96
    top_db: Positive = 80.0

    @model_validator(mode="after")
    def _band(self) -> ConstantQSpec:
        if self.highest_hz >= self.sample_rate_hz / 2:
            raise ValueError(
                f"the highest bin is at {self.highest_hz:.0f} Hz, which is not below "
                f"sample_rate_hz / 2 = {self.sample_rate_hz / 2:g}: lower n_bins or f_min_hz"
            )
        return self

    @property
    def highest_hz(self) -> float:
        """The centre of the last bin."""
        return float(self.f_min_hz * 2 ** ((self.n_bins - 1) / self.bins_per_octave))


def build_kernels(spec: ConstantQSpec) -> list[Kernels]:
    """One bank of filters per octave, lowest first: [2 k, length], cosines above sines.

    A filter is a Hann window of Q periods of its bin, Q = 1 / (2^(1/bins_per_octave) - 1), over
    the window's sum, around the middle of an odd length. Each octave is half as long as the one
    below it, which makes the banks together about as cheap as the longest of them times two.
    Source: Brown 1991, Calculation of a constant Q spectral transform, eq. 5.
    """
    q = 1 / (2 ** (1 / spec.bins_per_octave) - 1)
    centres_hz = spec.f_min_hz * 2 ** (np.arange(spec.n_bins) / spec.bins_per_octave)
    banks = []
    for first in range(0, spec.n_bins, spec.bins_per_octave):
        hz = centres_hz[first : first + spec.bins_per_octave, None]
        widths = q * spec.sample_rate_hz / hz
        half = int(np.ceil(widths.max() / 2))
        samples = np.arange(-half, half + 1)
        window = np.where(
            np.abs(samples) < widths / 2, 0.5 + 0.5 * np.cos(2 * np.pi * samples / widths), 0.0
        )
        window /= window.sum(axis=1, keepdims=True)
        angle = 2 * np.pi * hz * samples / spec.sample_rate_hz
        banks.append(np.concatenate([window * np.cos(angle), window * np.sin(angle)]))
    return banks


@implements(ConstantQSpec)
def build_constant_q(spec: ConstantQSpec) -> nn.Module:
    """The front-end of `spec`: wave [B, S] → [B, 1, n_bins, 1 + S // hop] float32, 0..1.

    The top row is the highest bin, as in a mel spectrogram of this house the last. Power in dB
    from 1e-10 up, at most `top_db` under the clip's maximum, then scaled clip by clip. Raises
    SpecError for a clip that is too short to reflect its ends.
    """
    import torch
    from torch import nn

    from birdlab.sed.frontend import AMIN, scale_clips

    class ConstantQ(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            banks = [torch.from_numpy(bank).float()[:, None] for bank in build_kernels(spec)]
            self.margin = max(bank.shape[-1] for bank in banks) // 2
            for octave, bank in enumerate(banks):
                self.register_buffer(f"octave{octave}", bank, persistent=False)

        def export_form(self) -> nn.Module:
            """Itself: it holds real convolutions only."""
            return self

        def decibels(self, wave: Tensor) -> Tensor:
            """Power in dB: [B, n_bins, T]."""
            if wave.shape[-1] <= self.margin:
                raise SpecError(
                    "a clip is too short for the front-end",
                    where="model.frontend.f_min_hz",
                    got=f"{wave.shape[-1]} samples",
                    expected=f"more than half the longest filter, {self.margin} samples",
                    fix="use a longer train.window_s, a higher f_min_hz or fewer bins_per_octave",
                )
            padded = nn.functional.pad(
                wave.float()[:, None], (self.margin, self.margin + 1), mode="reflect"
            )
            powers = []
            for bank in self.buffers():
                spare = self.margin - bank.shape[-1] // 2
                part = padded[..., spare : padded.shape[-1] - spare]
                re, im = nn.functional.conv1d(part, bank, stride=spec.hop).chunk(2, dim=1)
                powers.append(re * re + im * im)
            db = 10 * torch.log10(torch.cat(powers, dim=1).clamp(min=AMIN))
            return torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - spec.top_db)

        def forward(self, wave: Tensor) -> Tensor:
            if torch.compiler.is_exporting():
                return scale_clips(self.decibels(wave))
            with torch.autocast(wave.device.type, enabled=False):
                return scale_clips(self.decibels(wave))

    return ConstantQ()
