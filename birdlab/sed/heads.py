"""Heads: from feature maps of a backbone to clip and framewise logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from birdlab.spec.kinds import implements
from birdlab.spec.model import SedAttention


class SedOutput(NamedTuple):
    """What a sound event detector says about a batch of clips.

    `logits: [B, C]` clip logits, what the loss sees. `probs: [B, C]` clip probabilities,
    0..1. `frame_logits: [B, T, C]` logits per feature frame, in time order.
    `time_max: [B, C]` the largest framewise probability, 0..1. All float32.
    """

    logits: Tensor
    probs: Tensor
    frame_logits: Tensor
    time_max: Tensor


class FrequencyGem(nn.Module):
    """Generalised mean over frequency: [B, D, F, T] → [B, D, T], float32.

    The power is learned; values are clamped at 1e-6 first. Source: Radenović et al. 2018.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p], dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        powered = features.float().clamp(min=1e-6).pow(self.p)
        return powered.mean(dim=2).pow(1.0 / self.p)


class AttentionHead(nn.Module):
    """Attention over time between two 1×1 convolutions: features [B, D, F, T] → SedOutput.

    With attention a and value v per frame and class, w = softmax over time of tanh(a):
    clip logit Σ w·v, clip probability Σ w·sigmoid(v), time maximum max sigmoid(v).
    Attention is computed in float32 whatever the precision around it.
    """

    def __init__(self, spec: SedAttention, in_features: int, n_classes: int) -> None:
        super().__init__()
        self.pool = FrequencyGem(spec.gem_p)
        dense = nn.Linear(in_features, spec.hidden)
        self.project = nn.Sequential(
            nn.Dropout(spec.dropout / 2), dense, nn.ReLU(), nn.Dropout(spec.dropout)
        )
        self.attention = nn.Conv1d(spec.hidden, n_classes, kernel_size=1)
        self.value = nn.Conv1d(spec.hidden, n_classes, kernel_size=1)
        for layer in (dense, self.attention, self.value):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> SedOutput:
        frames = self.project(self.pool(features).transpose(1, 2)).transpose(1, 2)
        weights = self.attention(frames).float().tanh().softmax(dim=2)
        value = self.value(frames).float()
        return SedOutput(
            logits=(weights * value).sum(dim=2),
            probs=(weights * value.sigmoid()).sum(dim=2),
            frame_logits=value.transpose(1, 2),
            time_max=value.amax(dim=2).sigmoid(),
        )


@implements(SedAttention)
def build_attention_head(spec: SedAttention, in_features: int, n_classes: int) -> AttentionHead:
    """The attention head of `spec` on feature maps with `in_features` channels."""
    return AttentionHead(spec, in_features, n_classes)
