"""Losses: golden values, plain loops in NumPy, peers, masks, gradients that stay finite."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from birdlab.errors import SpecError
from birdlab.sed.heads import SedOutput
from birdlab.sed.losses import bce_loss, compute_loss, cross_entropy_loss, focal_loss
from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.losses import Bce, CrossEntropy, Focal, FocalBce, LossSpec

ALL: list[LossSpec] = [
    Focal(),
    Focal(gamma=0.5, alpha=0.8),
    Bce(),
    FocalBce(focal=0.7, bce=0.2, gamma=1.5),
    CrossEntropy(),
    CrossEntropy(label_smoothing=0.1),
]


def as_text(spec: Any) -> str:
    return f"{spec.kind}{'' if spec == type(spec)() else '-changed'}"


# ------------------------------------------------------------------ a plain version in loops


def _pair(spec: LossSpec, x: float, t: float) -> float:
    """The binary losses of one clip and one class, straight from their definitions."""
    p = 1 / (1 + math.exp(-x))
    bce = -t * math.log(p) - (1 - t) * math.log1p(-p)
    if isinstance(spec, Bce):
        return bce
    assert isinstance(spec, Focal | FocalBce)
    p_t = p * t + (1 - p) * (1 - t)
    alpha_t = spec.alpha * t + (1 - spec.alpha) * (1 - t)
    focal = alpha_t * (1 - p_t) ** spec.gamma * bce
    return focal if isinstance(spec, Focal) else spec.focal * focal + spec.bce * bce


def _row(e: float, x: list[float], t: list[float]) -> float:
    """Softmax cross-entropy of one clip over the classes given."""
    log_sum = math.log(sum(math.exp(v) for v in x))
    shares = [v / sum(t) * (1 - e) + e / len(t) for v in t]
    return -sum(s * (v - log_sum) for s, v in zip(shares, x, strict=True))


def plain_loss(spec: LossSpec, logits: Any, targets: Any, mask: Any) -> float:
    """The mean over what counts; smoothing of cross-entropy only, as its function does it."""
    found = []
    for x, t, counts in zip(logits.tolist(), targets.tolist(), mask.tolist(), strict=True):
        if isinstance(spec, CrossEntropy):
            x_in = [v for v, c in zip(x, counts, strict=True) if c]
            t_in = [v for v, c in zip(t, counts, strict=True) if c]
            if sum(t_in) > 0:
                found.append(_row(spec.label_smoothing, x_in, t_in))
        else:
            found += [_pair(spec, a, b) for a, b, c in zip(x, t, counts, strict=True) if c]
    return sum(found) / len(found) if found else 0.0


@st.composite
def batches(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Logits, targets with many exact zeros and ones, and a mask: float64, float64, bool."""
    n, c = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.choice([0.0, 0.0, 0.0, 1.0, 0.3, rng.random()], (n, c))
    return rng.normal(0, 4, (n, c)), targets, rng.random((n, c)) < draw(st.sampled_from([1, 0.5]))


@pytest.mark.parametrize("spec", ALL, ids=as_text)
@given(batch=batches())
@settings(max_examples=40)
def test_every_loss_equals_a_plain_loop(spec: LossSpec, batch: tuple[Any, Any, Any]) -> None:
    logits, targets, mask = batch
    got = function_of(spec)(spec, *(torch.from_numpy(a) for a in batch))
    assert got.dtype == torch.float32
    assert got.ndim == 0
    assert got.item() == pytest.approx(plain_loss(spec, logits, targets, mask), rel=2e-5, abs=1e-6)


# ------------------------------------------------------------------ golden values and peers


@pytest.mark.parametrize(
    ("logit", "target", "golden"), [(0.0, 1.0, 0.0433), (2.0, 1.0, 0.0005), (-2.0, 0.0, 0.0014)]
)
def test_focal_goldens(logit: float, target: float, golden: float) -> None:
    loss = focal_loss(Focal(), torch.tensor([[logit]]), torch.tensor([[target]]))
    assert round(loss.item(), 4) == golden


@given(
    logit=st.floats(-15, 15), positive=st.booleans(), alpha=st.floats(0, 1), gamma=st.floats(0, 5)
)
def test_focal_equals_its_formula(logit: float, positive: bool, alpha: float, gamma: float) -> None:
    p = torch.tensor(logit, dtype=torch.float64).sigmoid()
    p_t, alpha_t = (p, alpha) if positive else (1 - p, 1 - alpha)
    expected = -alpha_t * (1 - p_t) ** gamma * p_t.log()
    spec = Focal(alpha=alpha, gamma=gamma)
    loss = focal_loss(spec, torch.tensor([[logit]]), torch.tensor([[float(positive)]]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def some(seed: int = 0, n: int = 8, c: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=generator)
    return logits, torch.rand(n, c, generator=generator).round(decimals=1)


def test_peers_agree() -> None:
    logits, targets = some()
    theirs = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2, reduction="mean")
    assert focal_loss(Focal(), logits, targets).item() == pytest.approx(theirs.item(), rel=1e-5)
    theirs = functional.binary_cross_entropy_with_logits(logits, targets)
    assert torch.equal(bce_loss(Bce(), logits, targets), theirs)
    shares = targets / targets.sum(1, keepdim=True)
    for e in (0.0, 0.05, 0.5):
        theirs = functional.cross_entropy(logits, shares, label_smoothing=e)
        ours = cross_entropy_loss(CrossEntropy(label_smoothing=e), logits, targets)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_focal_without_focus_is_half_of_bce() -> None:
    logits, targets = some()
    focal = focal_loss(Focal(gamma=0, alpha=0.5), logits, targets)
    assert focal.item() == pytest.approx(0.5 * bce_loss(Bce(), logits, targets).item(), rel=1e-5)


def test_half_precision_is_computed_in_float32() -> None:
    for spec in ALL:
        loss_of = function_of(spec)
        half = loss_of(spec, torch.full((2, 3), 0.5, dtype=torch.bfloat16), torch.eye(2, 3))
        assert half.dtype == torch.float32
        assert torch.equal(half, loss_of(spec, torch.full((2, 3), 0.5), torch.eye(2, 3)))


# ------------------------------------------------------------------ masks


@pytest.mark.parametrize("spec", ALL, ids=as_text)
@pytest.mark.parametrize("junk", [7.0, 1e30, math.inf, math.nan])
def test_a_masked_pair_has_no_part_in_value_or_gradient(spec: LossSpec, junk: float) -> None:
    logits, targets = some(1)
    mask = torch.rand(logits.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    values, gradients = [], []
    for fill, label in ((0.0, 0.0), (junk, 1.0)):
        x = logits.masked_fill(~mask, fill).requires_grad_()
        loss = function_of(spec)(spec, x, targets.masked_fill(~mask, label), mask)
        loss.backward()
        assert x.grad is not None
        values.append(loss.detach())
        gradients.append(x.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert (gradients[1][~mask] == 0).all()
    assert (gradients[1][mask] != 0).any()


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_a_mask_that_hides_nothing_changes_nothing(spec: LossSpec) -> None:
    logits, targets = some(3)
    everything = torch.ones_like(targets, dtype=torch.bool)
    loss_of = function_of(spec)
    assert loss_of(spec, logits, targets, everything).item() == pytest.approx(
        loss_of(spec, logits, targets, None).item(), rel=1e-6
    )


def test_the_mean_is_over_what_counts() -> None:
    logits, targets = some(4)
    mask = torch.zeros_like(targets, dtype=torch.bool)
    mask[2, 3] = mask[5, 1] = True
    pairs = [
        bce_loss(Bce(), logits[i : i + 1, j : j + 1], targets[i : i + 1, j : j + 1]).item()
        for i, j in ((2, 3), (5, 1))
    ]
    assert bce_loss(Bce(), logits, targets, mask).item() == pytest.approx(sum(pairs) / 2, rel=1e-6)


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_where_nothing_counts_the_loss_is_0(spec: LossSpec) -> None:
    logits, targets = some(5)
    logits.requires_grad_()
    loss = function_of(spec)(spec, logits, targets, torch.zeros_like(targets, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_cross_entropy_leaves_out_clips_without_a_positive() -> None:
    logits, targets = some(6)
    targets[3] = 0
    kept = [i for i in range(8) if i != 3]
    for spec in (CrossEntropy(), CrossEntropy(label_smoothing=0.2)):
        whole = cross_entropy_loss(spec, logits, targets)
        assert whole.item() == pytest.approx(
            cross_entropy_loss(spec, logits[kept], targets[kept]).item(), rel=1e-6
        )


# ------------------------------------------------------------------ extremes


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("kind", [Focal, FocalBce])
def test_focusing_stays_finite(kind: type[Focal] | type[FocalBce], gamma: float) -> None:
    _extremes(kind(gamma=gamma))


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_extreme_logits_give_finite_gradients(spec: LossSpec) -> None:
    _extremes(spec)


def _extremes(spec: LossSpec) -> None:
    scale = [1e-38, 1e-3, 17.0, 60.0, 88.0, 90.0, 104.0, 200.0, 1e4, 1e9]
    values = [sign * x for x in scale for sign in (-1.0, 1.0)]
    for target in (0.0, 1.0, 0.3):
        for mask in (None, torch.ones(len(values), 2, dtype=torch.bool)):
            logits = torch.tensor([[v, 0.5] for v in values], requires_grad=True)
            targets = torch.tensor([[target, 1.0 - target]] * len(values))
            loss = function_of(spec)(spec, logits, targets, mask)
            loss.backward()
            assert torch.isfinite(loss)
            assert logits.grad is not None
            assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_gradients_are_those_of_finite_differences(spec: LossSpec) -> None:
    logits, targets = (t.double().numpy() for t in some(7, 3, 4))
    mask = np.ones_like(targets, bool)
    mask[1, 2] = False
    x = torch.from_numpy(logits).requires_grad_()
    function_of(spec)(spec, x, torch.from_numpy(targets), torch.from_numpy(mask)).backward()
    assert x.grad is not None
    for place in np.ndindex(3, 4):
        step = np.zeros_like(logits)
        step[place] = 1e-4
        rise = plain_loss(spec, logits + step, targets, mask)
        slope = (rise - plain_loss(spec, logits - step, targets, mask)) / 2e-4
        assert x.grad[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


# ------------------------------------------------------------------ what all kinds share


def output_of(frame_logits: Tensor, logits: Tensor) -> SedOutput:
    return SedOutput(logits, logits.sigmoid(), frame_logits, frame_logits.amax(1).sigmoid())


def heard(seed: int = 8) -> tuple[SedOutput, Tensor]:
    logits, targets = some(seed)
    frames = 3 * torch.randn(8, 5, 7, generator=torch.Generator().manual_seed(seed + 1))
    return output_of(frames, logits), targets


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_by_default_the_loss_is_on_the_clip_logits(spec: LossSpec) -> None:
    """Bit for bit, gradients included."""
    output, targets = heard()
    values, gradients = [], []
    for loss_of in (
        lambda logits: compute_loss(spec, output._replace(logits=logits), targets),
        lambda logits: function_of(spec)(spec, logits, targets, None),
    ):
        logits = output.logits.clone().requires_grad_()
        loss = loss_of(logits)
        loss.backward()
        values.append(loss.detach())
        gradients.append(logits.grad)
    assert torch.equal(*values)
    assert torch.equal(*gradients)


def test_bce_is_torchs_to_the_last_bit_of_the_gradient() -> None:
    logits, targets = some(9, 16, 264)
    gradients = []
    for loss_of in (
        lambda x: bce_loss(Bce(), x, targets),
        lambda x: functional.binary_cross_entropy_with_logits(x, targets),
    ):
        x = logits.clone().requires_grad_()
        loss_of(x).backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("kind", [Focal, Bce, FocalBce, CrossEntropy])
@pytest.mark.parametrize("masked", [False, True])
def test_both_parts_are_weighted(kind: type[LossSpec], masked: bool) -> None:
    output, targets = heard()
    mask = targets != 0.3 if masked else None
    on_clips = function_of(kind())(kind(), output.logits, targets, mask).item()
    maximum = torch.from_numpy(output.frame_logits.numpy().max(axis=1))
    on_max = function_of(kind())(kind(), maximum, targets, mask).item()
    for clip, time_max in ((1.0, 0.5), (0.0, 2.0), (0.25, 0.0)):
        spec = kind(clip=clip, time_max=time_max)
        got = compute_loss(spec, output, targets, mask).item()
        assert got == pytest.approx(clip * on_clips + time_max * on_max, rel=1e-5)


def test_the_time_maximum_teaches_the_loudest_frame() -> None:
    output, targets = heard()
    frames = output.frame_logits.requires_grad_()
    compute_loss(Bce(clip=0.0, time_max=1.0), output, targets).backward()
    assert frames.grad is not None
    loudest = functional.one_hot(frames.argmax(1), 5).transpose(1, 2).bool()
    assert torch.equal(frames.grad != 0, loudest)


@pytest.mark.parametrize("kind", [Focal, Bce, FocalBce])
@pytest.mark.parametrize("e", [0.05, 0.4])
def test_smoothing_draws_binary_targets_to_a_half(kind: type[LossSpec], e: float) -> None:
    output, targets = heard()
    smooth = torch.from_numpy(targets.numpy() * (1 - e) + e / 2)
    got = compute_loss(kind(label_smoothing=e), output, targets)
    assert got.item() == pytest.approx(compute_loss(kind(), output, smooth).item(), rel=1e-6)


def test_smoothing_draws_a_distribution_to_the_even_one() -> None:
    output, targets = heard()
    shares = targets / targets.sum(1, keepdim=True)
    for time_max in (0.0, 0.5):
        spec = CrossEntropy(label_smoothing=0.1, time_max=time_max)
        theirs = functional.cross_entropy(output.logits, shares, label_smoothing=0.1)
        theirs += time_max * functional.cross_entropy(
            output.frame_logits.amax(1), shares, label_smoothing=0.1
        )
        assert compute_loss(spec, output, targets).item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("spec", ALL, ids=as_text)
def test_targets_are_left_as_they_were(spec: LossSpec) -> None:
    output, targets = heard()
    before = targets.clone()
    compute_loss(spec.model_copy(update={"label_smoothing": 0.1}), output, targets, targets > 0)
    assert torch.equal(targets, before)


class _Bare(Spec):
    kind: Literal["bare"] = "bare"


class _Hinge(LossSpec):
    kind: Literal["hinge"] = "hinge"
    margin: float = 1.0


@implements(_Bare)
@implements(_Hinge)
def _hinge(spec: _Hinge, logits: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    return (spec.margin - (2 * targets - 1) * logits).clamp(min=0).mean()


def test_a_loss_of_ones_own_gets_weights_and_smoothing() -> None:
    output, targets = heard()
    spec = _Hinge(clip=2.0, time_max=1.0, label_smoothing=0.1)
    smooth = targets * 0.9 + 0.05
    expected = 2 * _hinge(spec, output.logits, smooth, None)
    expected += _hinge(spec, output.frame_logits.amax(1), smooth, None)
    assert compute_loss(spec, output, targets).item() == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(SpecError, match="'bare' has no weights"):
        compute_loss(_Bare(), output, targets)
