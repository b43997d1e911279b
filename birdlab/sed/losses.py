"""Losses: from clip logits and targets to one number."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from birdlab.spec.kinds import implements
from birdlab.spec.recipe import Bce, Focal


@implements(Focal)
def focal_loss(spec: Focal, logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid focal loss, mean over batch and classes: a float32 scalar.

    `logits: [B, C]`, `targets: [B, C]` in 0..1. A soft target mixes the two sides of the
    focusing factor linearly. Source: Lin et al. 2017, equation 5.
    """
    logits, targets = logits.float(), targets.float()
    cross_entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = targets * (-logits).sigmoid() + (1.0 - targets) * logits.sigmoid()  # 1 - p_t
    missed = missed.clamp(min=1e-30)  # the power has no finite slope at 0 when gamma < 1
    alpha = spec.alpha * targets + (1.0 - spec.alpha) * (1.0 - targets)
    return (alpha * missed.pow(spec.gamma) * cross_entropy).mean()


@implements(Bce)
def bce_loss(spec: Bce, logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, mean over batch and classes: a float32 scalar.

    `logits: [B, C]`, `targets: [B, C]` in 0..1.
    """
    return binary_cross_entropy_with_logits(logits.float(), targets.float())
