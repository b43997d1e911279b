"""A transformer over the frames of a spectrogram, in place of a network for images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from birdlab.spec.kinds import implements
from birdlab.spec.model import TransformerSpec

LONGEST_PERIOD = 10_000.0
"""The ratio of the longest to the shortest wavelength of the position code."""


class FrameTransformer(nn.Module):
    """A map [B, width, 1, T'] of an image [B, C, M, T]: one column per `stride` frames.

    T' = ceil(T / stride); the last token is filled with zeros on the right. All bins and
    channels of the frames of a token go through one linear layer, sines and cosines of its place
    are added, then `depth` blocks look at all tokens at once. Any length fits, with equal
    weights. The columns come out of a layer norm and are negative as often as positive: a head
    with `pool: mean` keeps both, the generalised mean clamps the negative half.
    """

    def __init__(self, spec: TransformerSpec, in_channels: int, n_bins: int) -> None:
        super().__init__()
        self.stride = spec.stride
        self.embed = nn.Conv1d(in_channels * n_bins, spec.width, spec.stride, spec.stride)
        self.dropout = nn.Dropout(spec.dropout)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.width)
        self.recompute = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass instead of keeping their activations."""
        self.recompute = enable

    def forward(self, image: Tensor) -> Tensor:
        frames = nn.functional.pad(image.flatten(1, 2), (0, -image.shape[3] % self.stride))
        tokens = self.embed(frames).transpose(1, 2)
        tokens = self.dropout(tokens + build_positions(tokens.shape[1], tokens.shape[2]).to(tokens))
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        columns: Tensor = self.norm(tokens).transpose(1, 2).unsqueeze(2)
        return columns


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each added to normalised tokens [B, T, width].

    Source: Vaswani et al. 2017, with the norms before the layers (Xiong et al. 2020).
    """

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        self.n_heads, self.p = spec.heads, spec.dropout
        self.norm_attention = nn.LayerNorm(spec.width)
        self.qkv = nn.Linear(spec.width, 3 * spec.width)
        self.mix = nn.Linear(spec.width, spec.width)
        self.norm_mlp = nn.LayerNorm(spec.width)
        self.mlp = nn.Sequential(
            nn.Linear(spec.width, 4 * spec.width),
            nn.GELU(),
            nn.Dropout(spec.dropout),
            nn.Linear(4 * spec.width, spec.width),
        )
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.dropout(self._attend(self.norm_attention(tokens)))
        added: Tensor = tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))
        return added

    def _attend(self, tokens: Tensor) -> Tensor:
        per_head = self.qkv(tokens).unflatten(2, (3, self.n_heads, -1))  # [B, T, 3, heads, d]
        query, key, value = per_head.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.p if self.training else 0.0
        )
        mixed: Tensor = self.mix(seen.transpose(1, 2).flatten(2))
        return mixed


def build_positions(n_tokens: int, width: int) -> Tensor:
    """The place of each token as sines and cosines: [n_tokens, width] float32, -1..1.

    Source: Vaswani et al. 2017, section 3.5.
    """
    place = torch.arange(n_tokens, dtype=torch.float32)[:, None]
    pair = torch.arange(0, width, 2, dtype=torch.float32)
    angle = place * torch.exp(pair * (-math.log(LONGEST_PERIOD) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


@implements(TransformerSpec)
def build_transformer(spec: TransformerSpec, in_channels: int, n_bins: int) -> FrameTransformer:
    """The transformer of `spec` over frames of `in_channels` times `n_bins` numbers."""
    return FrameTransformer(spec, in_channels, n_bins)
