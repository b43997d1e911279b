"""A backbone of your own: convolutions over time in the manner of ECAPA-TDNN.

It comes from recognising speakers and takes the bins of the spectrogram as channels, so that it
knows no shift in pitch. Its own attentive pooling is left to the head. Nothing here imports
torch before a network is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import Spec, Tuple
from birdlab.spec.kinds import implements, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("backbone")
class EcapaTdnnSpec(Spec):
    """A convolution, one SE-Res2 block per dilation, and all their outputs put together.

    `channels` is the width of the blocks, `scale` into how many parts a Res2 step cuts it,
    `squeeze` the width inside squeeze-and-excitation, `width` that of what the head gets.
    """

    kind: Literal["ecapa_tdnn"] = "ecapa_tdnn"
    channels: Annotated[int, Field(ge=8, le=2048)] = 256
    scale: Annotated[int, Field(ge=2, le=16)] = 8
    dilations: Annotated[Tuple[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1)] = (2, 3, 4)
    squeeze: Annotated[int, Field(ge=4, le=1024)] = 64
    width: Annotated[int, Field(ge=8, le=4096)] = 768

    @model_validator(mode="after")
    def _divides(self) -> EcapaTdnnSpec:
        if self.channels % self.scale:
            raise ValueError(f"channels {self.channels} is no multiple of scale {self.scale}")
        return self


@implements(EcapaTdnnSpec)
def build_ecapa_tdnn(spec: EcapaTdnnSpec, in_channels: int, n_bins: int) -> nn.Module:
    """The backbone of `spec`: image [B, in_channels, n_bins, T] → [B, width, 1, T].

    Source: Desplanques et al. 2020, ECAPA-TDNN, sections 3.2 and 3.3, figure 2.
    """
    import torch
    from torch import nn

    def layer(n_in: int, n_out: int, size: int = 1, dilation: int = 1) -> nn.Sequential:
        """Convolution over time that keeps its length, ReLU, batch norm."""
        padding = dilation * (size // 2)
        conv = nn.Conv1d(n_in, n_out, size, dilation=dilation, padding=padding)
        return nn.Sequential(conv, nn.ReLU(), nn.BatchNorm1d(n_out))

    class Res2(nn.Module):
        """Convolutions of one part after the other, each fed what the last one gave."""

        def __init__(self, dilation: int) -> None:
            super().__init__()
            part = spec.channels // spec.scale
            self.layers = nn.ModuleList(
                layer(part, part, 3, dilation) for _ in range(spec.scale - 1)
            )

        def forward(self, x: Tensor) -> Tensor:
            first, *parts = x.chunk(spec.scale, dim=1)
            done = [first]
            for i, (convolve, part) in enumerate(zip(self.layers, parts, strict=True)):
                done.append(convolve(part if i == 0 else part + done[-1]))
            return torch.cat(done, dim=1)

    class Block(nn.Module):
        """1×1, Res2, 1×1, channels weighed by what they are on average; added to the input."""

        def __init__(self, dilation: int) -> None:
            super().__init__()
            n = spec.channels
            self.body = nn.Sequential(layer(n, n), Res2(dilation), layer(n, n))
            self.weigh = nn.Sequential(
                nn.Conv1d(n, spec.squeeze, 1),
                nn.ReLU(),
                nn.Conv1d(spec.squeeze, n, 1),
                nn.Sigmoid(),
            )

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x)
            weighed: Tensor = x + y * self.weigh(y.mean(dim=-1, keepdim=True))
            return weighed

    class EcapaTdnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = layer(in_channels * n_bins, spec.channels, 5)
            self.blocks = nn.ModuleList(Block(dilation) for dilation in spec.dilations)
            self.gather = nn.Conv1d(len(spec.dilations) * spec.channels, spec.width, 1)

        def forward(self, image: Tensor) -> Tensor:
            x = self.stem(image.flatten(1, 2))
            outputs = []
            for block in self.blocks:
                x = block(x)
                outputs.append(x)
            return torch.relu(self.gather(torch.cat(outputs, dim=1)))[:, :, None]

    return EcapaTdnn()
