"""The graph that promoted models are measured against: every member with a mel of its own.

It is what was submitted in 2023 (docs/speed.md): waveform in, three complete models, each with a
convolution as its Fourier transform, the root mean square of their probabilities out; traced for
opset 12. One thing differs: top_db is taken from each clip and not from the whole batch, so that
the outputs can be compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from birdlab.promote.export import Member, load_member
from birdlab.sed.frontend import AMIN, build_filterbank, build_window, scale_clips
from birdlab.sed.model import SEDModel
from birdlab.spec.model import LogMelSpec

OPSET = 12


class ConvolutionMel(nn.Module):
    """Log-mel images by a convolution with the windowed cosines and sines of every bin."""

    def __init__(self, spec: LogMelSpec) -> None:
        super().__init__()
        self.spec = spec
        bins = torch.arange(spec.n_fft // 2 + 1, dtype=torch.float64)[:, None]
        angle = 2 * math.pi * bins * torch.arange(spec.n_fft, dtype=torch.float64) / spec.n_fft
        waves = torch.cat([angle.cos(), -angle.sin()]) * build_window(spec)
        self.register_buffer("kernels", waves.float()[:, None])
        self.register_buffer("mel", build_filterbank(spec).float())

    def forward(self, wave: Tensor) -> Tensor:
        pad = self.spec.n_fft // 2
        padded = nn.functional.pad(wave[:, None], (pad, pad), mode="reflect")
        both = nn.functional.conv1d(padded, self.kernels, stride=self.spec.hop)
        real, imaginary = both.chunk(2, dim=1)
        power = torch.matmul(self.mel, real**2 + imaginary**2)
        db = 10.0 * torch.log10(power.clamp(min=AMIN))
        top = db.amax(dim=(1, 2), keepdim=True)
        return scale_clips(torch.maximum(db, top - self.spec.top_db))


class ReferenceGraph(nn.Module):
    """The root mean square of complete models."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.models = nn.ModuleList(load_member(member) for member in members)
        self.shares = [(member.clip, member.time_max) for member in members]
        for model in self.models:
            assert isinstance(model, SEDModel)
            model.frontend = ConvolutionMel(LogMelSpec())

    def forward(self, wave: Tensor) -> Tensor:
        squares = []
        for model, (clip, time_max) in zip(self.models, self.shares, strict=True):
            output = model(wave)
            squares.append((clip * output.probs + time_max * output.time_max) ** 2)
        return torch.sqrt(torch.stack(squares).mean(dim=0))


def write_graph(module: nn.Module, path: Path, n_samples: int, output: str) -> Path:
    """The path of the traced graph, `wave` [B, samples] → `output`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the old one, on purpose
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, n_samples),),
            str(path),
            input_names=["wave"],
            output_names=[output],
            opset_version=OPSET,
            dynamo=False,
            dynamic_axes={"wave": {0: "batch"}, output: {0: "batch"}},
        )
    return path
