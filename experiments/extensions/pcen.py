"""A front-end of your own: per-channel energy normalisation in place of the logarithm.

Each mel band is divided by its own recent mean, which takes steady noise out and leaves what
changes; then a root compresses it. The exponents can learn. Nothing here imports torch before
a network is built.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Positive, Spec
from birdlab.spec.kinds import implements, register
from birdlab.spec.model import LogMelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6
"""Added to the mean that a band is divided by."""


@register("frontend")
class PcenSpec(Spec):
    """Mel power over its recent mean, `(E / (eps + M)^alpha + delta)^root - delta^root`.

    M is the exponential mean of E over about `smooth_s`. With `trainable` alpha, delta and root
    start here and are learned, band by band. `mel` is the mel spectrogram, whose `top_db` has
    no meaning here.
    """

    kind: Literal["pcen"] = "pcen"
    mel: LogMelSpec = LogMelSpec()
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.98
    delta: Positive = 2.0
    root: Annotated[float, Field(gt=0, le=1)] = 0.5
    smooth_s: Positive = 0.4
    trainable: bool = True

    @model_validator(mode="after")
    def _no_decibels(self) -> PcenSpec:
        if self.mel.top_db != LogMelSpec().top_db:
            raise ValueError("mel.top_db does nothing here: there are no decibels")
        return self

    @property
    def sample_rate_hz(self) -> int:
        """The rate of the mel spectrogram."""
        return self.mel.sample_rate_hz


@implements(PcenSpec)
def build_pcen(spec: PcenSpec) -> nn.Module:
    """The front-end of `spec`: wave [B, S] → [B, 1, n_mels, 1 + S // hop] float32, 0..1.

    After normalisation each clip is scaled to 0..1 as the log-mel one is. Raises SpecError for
    a clip that is too short to reflect its ends.
    Source: Wang et al. 2017, Trainable frontend for robust and far-field keyword spotting, eq. 1.
    """
    import torch
    from torch import nn

    from birdlab.sed.dft import DftMelPower
    from birdlab.sed.frontend import FftMelPower, build_filterbank, build_window, scale_clips

    class Pcen(nn.Module):
        def __init__(self, exportable: bool) -> None:
            super().__init__()
            form = DftMelPower if exportable else FftMelPower
            self.mel_power = form(build_window(spec.mel), build_filterbank(spec.mel), spec.mel.hop)
            start = torch.tensor([spec.alpha, spec.delta, spec.root]).log()
            self.shape = nn.Parameter(
                start[:, None, None].repeat(1, spec.mel.n_mels, 1), requires_grad=spec.trainable
            )

        def export_form(self) -> nn.Module:
            """This front-end without complex numbers, with the exponents it has learned."""
            twin = Pcen(exportable=True)
            twin.load_state_dict(self.state_dict())
            return twin

        def normalise(self, wave: Tensor) -> Tensor:
            """Normalised bands: [B, n_mels, T], 0 or more."""
            pad = spec.mel.n_fft // 2
            if wave.shape[-1] <= pad:
                raise SpecError(
                    "a clip is too short for the front-end",
                    where="model.frontend.mel.n_fft",
                    got=f"{wave.shape[-1]} samples, n_fft {spec.mel.n_fft}",
                    expected=f"more than n_fft / 2 = {pad} samples",
                    fix="use a longer train.window_s or a smaller n_fft",
                )
            padded = nn.functional.pad(wave.float(), (pad, pad), mode="reflect")
            energy = self.mel_power(padded)
            alpha, delta, root = self.shape.exp()
            mean = energy @ _running_mean(energy)
            gained = energy / (EPS + mean) ** alpha
            # (gained + delta)^root - delta^root, written so that silence is 0 to the last bit.
            rooted: Tensor = delta**root * torch.expm1(root * torch.log1p(gained / delta))
            return rooted

        def forward(self, wave: Tensor) -> Tensor:
            if torch.compiler.is_exporting():
                return scale_clips(self.normalise(wave))
            with torch.autocast(wave.device.type, enabled=False):
                return scale_clips(self.normalise(wave))

    def _running_mean(energy: Tensor) -> Tensor:
        """The recursion M[t] = (1 - s) M[t-1] + s E[t], M[0] = E[0], as one matrix [T, T]."""
        keep = math.exp(-spec.mel.hop / spec.mel.sample_rate_hz / spec.smooth_s)
        frame = torch.arange(energy.shape[-1], device=energy.device, dtype=energy.dtype)
        age = frame - frame[:, None]
        weight = torch.where(frame[:, None] > 0, 1 - keep, 1.0)
        return torch.where(age < 0, 0.0, weight * keep ** age.clamp(min=0))

    return Pcen(exportable=False)
