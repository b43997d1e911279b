"""Heads: from feature maps of a backbone to clip and framewise logits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from birdlab.spec.kinds import implements
from birdlab.spec.model import Pooled, SedAttention

Pool = Literal["gem", "mean"]


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


class FrequencyMean(nn.Module):
    """Mean over frequency: [B, D, F, T] → [B, D, T], float32; negative values count too."""

    def forward(self, features: Tensor) -> Tensor:
        return features.float().mean(dim=2)


def build_pool(pool: Pool, gem_p: float) -> nn.Module:
    """The pooling over frequency [B, D, F, T] → [B, D, T] of that name."""
    return FrequencyGem(gem_p) if pool == "gem" else FrequencyMean()


class BothWays(nn.Module):
    """What a GRU says of each frame from both sides: [B, T, D] → [B, T, 2 · units], float32.

    Computed in float32 whatever the precision around it. The two directions follow each other
    over the last axis. In an ONNX file it is one GRU node. Source: Cho et al. 2014.
    """

    def __init__(self, in_features: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_features, units, batch_first=True, bidirectional=True)

    def forward(self, frames: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return self._as_node(frames)
        with torch.autocast(frames.device.type, enabled=False):
            out: Tensor = self.gru(frames.float())[0]
        return out

    def _as_node(self, frames: Tensor) -> Tensor:
        """The ONNX operator, whose gates come in the order update, reset, new."""
        n, units, ways = frames.shape[1], self.gru.hidden_size, ("", "_reverse")

        def weights(name: str) -> Tensor:
            both = (getattr(self.gru, f"{name}_l0{way}") for way in ways)
            turned = [torch.cat([w[units : 2 * units], w[:units], w[2 * units :]]) for w in both]
            return torch.stack(turned)

        bias = torch.cat([weights("bias_ih"), weights("bias_hh")], dim=1)
        states = torch.onnx.ops.symbolic(
            "GRU",
            (frames.transpose(0, 1), weights("weight_ih"), weights("weight_hh"), bias),
            attrs={"direction": "bidirectional", "hidden_size": units, "linear_before_reset": 1},
            dtype=torch.float32,
            shape=(n, 2, frames.shape[0], units),
        )
        return states.permute(2, 0, 1, 3).flatten(2)


class AttentionHead(nn.Module):
    """Attention over time between two 1×1 convolutions: features [B, D, F, T] → SedOutput.

    With attention a and value v per frame and class, w = softmax over time of tanh(a) (or of
    sigmoid(a), or of a itself): clip logit Σ w·v, clip probability Σ w·sigmoid(v), time maximum
    max sigmoid(v). Attention is computed in float32 whatever the precision around it.
    """

    def __init__(self, spec: SedAttention, in_features: int, n_classes: int) -> None:
        super().__init__()
        self.squash = spec.attention
        self.pool = build_pool(spec.pool, spec.gem_p)
        dense = nn.Linear(in_features, spec.hidden)
        self.project = nn.Sequential(
            nn.Dropout(spec.dropout / 2), dense, nn.ReLU(), nn.Dropout(spec.dropout)
        )
        width = 2 * spec.gru if spec.gru else spec.hidden
        self.recurrent = BothWays(spec.hidden, spec.gru) if spec.gru else None
        self.attention = nn.Conv1d(width, n_classes, kernel_size=1)
        self.value = nn.Conv1d(width, n_classes, kernel_size=1)
        for layer in (dense, self.attention, self.value):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def class_parameters(self) -> list[tuple[str, ...]]:
        """The layers whose first dimension is the class: names in this module's state dict."""
        return [("attention.weight", "attention.bias"), ("value.weight", "value.bias")]

    def forward(self, features: Tensor) -> SedOutput:
        frames = self.project(self.pool(features).transpose(1, 2))
        if self.recurrent is not None:
            frames = self.recurrent(frames)
        frames = frames.transpose(1, 2)
        attention = self.attention(frames).float()
        if self.squash != "none":
            attention = attention.tanh() if self.squash == "tanh" else attention.sigmoid()
        weights = attention.softmax(dim=2)
        value = self.value(frames).float()
        return SedOutput(
            logits=(weights * value).sum(dim=2),
            probs=(weights * value.sigmoid()).sum(dim=2),
            frame_logits=value.transpose(1, 2),
            time_max=value.amax(dim=2).sigmoid(),
        )


class PooledHead(nn.Module):
    """One linear layer on what is left of a clip after pooling: features [B, D, F, T] → SedOutput.

    Frequency is pooled first, then time in the same way (with a GRU between them, whose outputs
    have signs, time is averaged). The clip probability is the sigmoid of the clip logit. The
    layer on each frame gives the framewise logits, whose maximum is the time maximum.
    """

    def __init__(self, spec: Pooled, in_features: int, n_classes: int) -> None:
        super().__init__()
        self.pool = build_pool(spec.pool, spec.gem_p)
        self.recurrent = BothWays(in_features, spec.gru) if spec.gru else None
        self.dropout = nn.Dropout(spec.dropout)
        self.linear = nn.Linear(2 * spec.gru if spec.gru else in_features, n_classes)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def class_parameters(self) -> list[tuple[str, ...]]:
        """The layers whose first dimension is the class: names in this module's state dict."""
        return [("linear.weight", "linear.bias")]

    def forward(self, features: Tensor) -> SedOutput:
        pooled = self.pool(features)  # [B, D, T]
        if self.recurrent is None:
            frames = pooled.transpose(1, 2)
            clip = self.pool(pooled.unsqueeze(3)).squeeze(2)
        else:
            frames = self.recurrent(pooled.transpose(1, 2))
            clip = frames.mean(dim=1)
        logits = self.linear(self.dropout(clip)).float()
        frame_logits = self.linear(self.dropout(frames)).float()
        return SedOutput(
            logits=logits,
            probs=logits.sigmoid(),
            frame_logits=frame_logits,
            time_max=frame_logits.amax(dim=1).sigmoid(),
        )


@implements(SedAttention)
def build_attention_head(spec: SedAttention, in_features: int, n_classes: int) -> AttentionHead:
    """The attention head of `spec` on feature maps with `in_features` channels."""
    return AttentionHead(spec, in_features, n_classes)


@implements(Pooled)
def build_pooled_head(spec: Pooled, in_features: int, n_classes: int) -> PooledHead:
    """The plain classifier of `spec` on feature maps with `in_features` channels."""
    return PooledHead(spec, in_features, n_classes)
