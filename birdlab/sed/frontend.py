"""The front-end: from waveforms to log-mel images between 0 and 1, clip by clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from birdlab.errors import SpecError
from birdlab.sed.dft import DftMelPower
from birdlab.spec.kinds import implements
from birdlab.spec.model import LogMelSpec, MultiMelSpec

AMIN = 1e-10
"""Power below which the decibel scale ends, -100 dB."""
EPS = 1e-6
"""Added to the standard deviation; a clip whose range is not above it becomes all zeros."""


def build_filterbank(spec: LogMelSpec) -> Tensor:
    """Triangles on the HTK mel scale: [n_mels, n_fft // 2 + 1] float64, peak 1.

    A band narrower than the spacing of FFT bins may hold no bin at all; it stays zero.
    Source: mel(f) = 2595 · log10(1 + f / 700).
    """

    def to_mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    bins_hz = torch.linspace(0, spec.sample_rate_hz / 2, spec.n_fft // 2 + 1, dtype=torch.float64)
    mels = torch.linspace(
        to_mel(spec.f_min_hz), to_mel(spec.f_max_hz), spec.n_mels + 2, dtype=torch.float64
    )
    edges_hz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    low, centre, high = (edges_hz[i : i + spec.n_mels, None] for i in range(3))
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


def build_window(spec: LogMelSpec) -> Tensor:
    """The periodic Hann window over the root of its energy: [n_fft] float64."""
    window = torch.hann_window(spec.n_fft, periodic=True, dtype=torch.float64)
    return window / window.square().sum().sqrt()


class FftMelPower(nn.Module):
    """Mel power of padded waves by torch's own FFT: [B, S + n_fft] → [B, n_mels, T]."""

    window: Tensor
    mel: Tensor

    def __init__(self, window: Tensor, filterbank: Tensor, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("mel", filterbank.float(), persistent=False)

    def forward(self, padded: Tensor) -> Tensor:
        frames = torch.stft(
            padded,
            n_fft=len(self.window),
            hop_length=self.hop,
            window=self.window,
            center=False,
            return_complex=True,
        )
        power = frames.real.square() + frames.imag.square()
        mel: Tensor = self.mel @ power
        return mel


class LogMel(nn.Module):
    """Log-mel images of waveforms, each clip clamped and scaled by itself.

    Called with `wave: [B, samples] float32, -1..1` at the spec's rate; gives
    `[B, 1, n_mels, T] float32, 0..1` with T = 1 + samples // hop (160,000 samples at the
    default settings: [B, 1, 128, 313]). Centred frames, reflected ends, Hann window
    normalised by its energy, power, HTK mel, 10·log10 with a floor at 1e-10 and at
    `top_db` under the clip's own maximum, z-score (unbiased deviation), then min-max.
    A clip without any range, such as silence, becomes zeros. Always float32, also under
    autocast. Raises SpecError when a clip is too short to reflect its ends.

    `exportable=True` builds the same function out of convolutions and matrix products.
    """

    def __init__(self, spec: LogMelSpec, *, exportable: bool = False) -> None:
        super().__init__()
        self.spec = spec
        form = DftMelPower if exportable else FftMelPower
        self.mel_power = form(build_window(spec), build_filterbank(spec), spec.hop)

    def export_form(self) -> LogMel:
        """This front-end without complex numbers, for ONNX."""
        return LogMel(self.spec, exportable=True)

    def decibels(self, wave: Tensor) -> Tensor:
        """Mel power in dB, clamped to `top_db` under each clip's maximum: [B, n_mels, T]."""
        pad = self.spec.n_fft // 2
        if wave.shape[-1] <= pad:
            raise SpecError(
                "a clip is too short for the front-end",
                where="model.frontend.n_fft",
                got=f"{wave.shape[-1]} samples, n_fft {self.spec.n_fft}",
                expected=f"more than n_fft / 2 = {pad} samples",
                fix="use a longer train.window_s or a smaller n_fft",
            )
        padded = nn.functional.pad(wave.float(), (pad, pad), mode="reflect")
        db = 10.0 * torch.log10(self.mel_power(padded).clamp(min=AMIN))
        return torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - self.spec.top_db)

    def forward(self, wave: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return scale_clips(self.decibels(wave))
        with torch.autocast(wave.device.type, enabled=False):
            return scale_clips(self.decibels(wave))


def scale_clips(db: Tensor) -> Tensor:
    """Each clip z-scored, then stretched to 0..1: [B, M, T] → [B, 1, M, T]; no range → zeros."""
    mean = db.mean(dim=(1, 2), keepdim=True)
    std = db.std(dim=(1, 2), keepdim=True, correction=1)
    z = (db - mean) / (std + EPS)
    low = z.amin(dim=(1, 2), keepdim=True)
    span = z.amax(dim=(1, 2), keepdim=True) - low
    scaled = torch.where(span > EPS, (z - low) / span.clamp(min=EPS), torch.zeros_like(z))
    return scaled.unsqueeze(1)


class MultiMel(nn.Module):
    """Several log-mel images of a waveform as the channels of one.

    Called with `wave: [B, samples]`; gives `[B, C, n_mels, T] float32, 0..1`, channel c by the
    c-th settings of the spec, clamped and scaled by itself. All share rate, hop and number of
    mels, so that frames and bins lie over each other. Raises SpecError as `LogMel` does.
    """

    def __init__(self, spec: MultiMelSpec, *, exportable: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.channels = nn.ModuleList(LogMel(c, exportable=exportable) for c in spec.channels)

    def export_form(self) -> MultiMel:
        """This front-end without complex numbers, for ONNX."""
        return MultiMel(self.spec, exportable=True)

    def forward(self, wave: Tensor) -> Tensor:
        return torch.cat([channel(wave) for channel in self.channels], dim=1)


@implements(MultiMelSpec)
def build_multi_mel(spec: MultiMelSpec) -> MultiMel:
    """The front-end with several log-mel channels of `spec`."""
    return MultiMel(spec)


@implements(LogMelSpec)
def build_log_mel(spec: LogMelSpec) -> LogMel:
    """The log-mel front-end of `spec`."""
    return LogMel(spec)
