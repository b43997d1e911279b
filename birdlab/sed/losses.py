"""Losses: from what the network says and the targets to one number.

The function of a kind is `loss(spec, logits, targets, mask) -> scalar float32`, for
`logits: [B, C]`, `targets: [B, C]` in 0..1 and `mask: [B, C]` bool or None. Where the mask is
False the pair of clip and class contributes nothing, neither to the value nor to a gradient,
and is not counted in the mean. `compute_loss` does what all kinds share.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from birdlab.errors import SpecError
from birdlab.sed.heads import SedOutput
from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.losses import Bce, CrossEntropy, Focal, FocalBce, LossSpec


def compute_loss(
    spec: Spec, output: SedOutput, targets: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The loss of a batch: a float32 scalar.

    The loss on the clip logits and that on the largest framewise logit of each class are added
    with the weights `clip` and `time_max`. Targets are smoothed first: t * (1 - e) + e / 2 with
    e = `label_smoothing`; a kind registered with `smooths=True` does that by itself. A batch in
    which nothing counts has loss 0. Raises SpecError when the kind is no LossSpec.
    """
    if not isinstance(spec, LossSpec):
        raise SpecError(
            f"the loss {getattr(spec, 'kind', type(spec).__name__)!r} has no weights",
            where="train.loss",
            fix=f"make {type(spec).__name__} a subclass of birdlab.spec.losses.LossSpec",
        )
    loss_of = function_of(spec)
    if spec.label_smoothing > 0 and not loss_of.__dict__.get("smooths", False):
        targets = targets * (1 - spec.label_smoothing) + spec.label_smoothing / 2
    total = output.logits.new_zeros((), dtype=torch.float32)
    if spec.clip > 0:
        total = total + spec.clip * loss_of(spec, output.logits.float(), targets, mask)
    if spec.time_max > 0:
        loudest = output.frame_logits.float().amax(dim=1)
        total = total + spec.time_max * loss_of(spec, loudest, targets, mask)
    return total


@implements(Focal)
def focal_loss(spec: Focal, logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sigmoid focal loss, mean over the pairs of clip and class that count.

    A soft target mixes the two sides of the focusing factor linearly. Source: Lin et al. 2017,
    equation 5.
    """
    logits, targets = _counted(logits, targets, mask)
    return _mean(_focal_terms(logits, targets, spec.gamma, spec.alpha), mask)


@implements(Bce)
def bce_loss(_spec: Bce, logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over the pairs of clip and class that count."""
    logits, targets = _counted(logits, targets, mask)
    if mask is None:  # other last bits than the mean of the terms
        return binary_cross_entropy_with_logits(logits, targets)
    return _mean(_bce_terms(logits, targets), mask)


@implements(FocalBce)
def focal_bce_loss(
    spec: FocalBce, logits: Tensor, targets: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Focal loss and binary cross-entropy, added with the weights `focal` and `bce`."""
    logits, targets = _counted(logits, targets, mask)
    focal = _focal_terms(logits, targets, spec.gamma, spec.alpha)
    return _mean(spec.focal * focal + spec.bce * _bce_terms(logits, targets), mask)


@implements(CrossEntropy, smooths=True)
def cross_entropy_loss(
    spec: CrossEntropy, logits: Tensor, targets: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Softmax cross-entropy against the targets scaled to sum to 1, mean over the clips.

    Targets are scaled first and smoothed then, t * (1 - e) + e / C. A masked class leaves the
    softmax of its clip, the scaling and C. A clip without a positive target that counts has no
    distribution to learn and is left out of the mean.
    """
    counts = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
    logits = logits.float().masked_fill(~counts, torch.finfo(torch.float32).min)
    targets = targets.float().masked_fill(~counts, 0.0)
    sums = targets.sum(dim=1, keepdim=True)
    shares = targets / sums.clamp(min=torch.finfo(torch.float32).tiny)
    e = spec.label_smoothing
    shares = shares * (1 - e) + e / counts.sum(dim=1, keepdim=True).clamp(min=1)
    log_probs = logits.log_softmax(dim=1).masked_fill(~counts, 0.0)
    return _mean(-(shares * log_probs).sum(dim=1), sums.squeeze(1) > 0)


def _counted(logits: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both as float32, 0 where masked: so no gradient flows there, whatever the logit."""
    logits, targets = logits.float(), targets.float()
    if mask is None:
        return logits, targets
    return logits.masked_fill(~mask, 0.0), targets.masked_fill(~mask, 0.0)


def _bce_terms(logits: Tensor, targets: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _focal_terms(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    missed = targets * (-logits).sigmoid() + (1.0 - targets) * logits.sigmoid()  # 1 - p_t
    missed = missed.clamp(min=1e-30)  # the power has no finite slope at 0 when gamma < 1
    weights = alpha * targets + (1.0 - alpha) * (1.0 - targets)
    return weights * missed.pow(gamma) * _bce_terms(logits, targets)


def _mean(terms: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the terms that count; 0, with gradients of 0, when there are none."""
    if mask is None:
        return terms.mean()
    return terms.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
