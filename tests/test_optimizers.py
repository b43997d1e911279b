"""Optimisers: each against its published update in NumPy, and which rate which parameter has."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from birdlab.errors import SpecError
from birdlab.sed.model import SEDModel
from birdlab.sed.optimizers import build_optimizer
from birdlab.spec.base import Spec
from birdlab.spec.kinds import implements
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention
from birdlab.spec.optimizers import Adam, AdamW, OptimizerSpec, RAdam, Sgd

Array = Any
KINDS: list[OptimizerSpec] = [Adam(), AdamW(), RAdam(), Sgd()]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Net(nn.Module):
    """A front-end that learns, a backbone, a head: what the optimiser sees of a detector."""

    def __init__(self) -> None:
        super().__init__()
        self.frontend = nn.Linear(2, 2)
        self.backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2)


# ------------------------------------------------------------------ updates, step by step


def _moments(gradients: list[Array]) -> tuple[Array, Array]:
    """First and second moment of Adam, corrected for their start at 0."""
    t = len(gradients)
    m = sum((1 - BETA1) * BETA1 ** (t - 1 - i) * g for i, g in enumerate(gradients))
    v = sum((1 - BETA2) * BETA2 ** (t - 1 - i) * g**2 for i, g in enumerate(gradients))
    return m / (1 - BETA1**t), v / (1 - BETA2**t)


def _adam(_spec: Any, _w: Array, gradients: list[Array]) -> Array:
    m, v = _moments(gradients)
    return m / (np.sqrt(v) + EPS)


def _adamw(spec: AdamW, w: Array, gradients: list[Array]) -> Array:
    return _adam(spec, w, gradients) + spec.weight_decay * w


def _radam(_spec: RAdam, _w: Array, gradients: list[Array]) -> Array:
    """Liu et al. 2020, algorithm 2: no division by the variance while its length is short."""
    t = len(gradients)
    m, v = _moments(gradients)
    longest = 2 / (1 - BETA2) - 1
    length = longest - 2 * t * BETA2**t / (1 - BETA2**t)
    if length <= 5:
        return m
    r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return m * math.sqrt(r) / np.sqrt(v)


def _sgd(spec: Sgd, _w: Array, gradients: list[Array]) -> Array:
    """Momentum is a decaying sum of gradients; Nesterov's looks one step ahead."""
    t = len(gradients)
    velocity = sum(spec.momentum ** (t - 1 - i) * g for i, g in enumerate(gradients))
    return gradients[-1] + spec.momentum * velocity if spec.nesterov else velocity


@pytest.mark.parametrize(
    ("spec", "direction"),
    [
        (Adam(lr=0.03), _adam),
        (Adam(lr=0.03, weight_decay=0.2), _adam),
        (AdamW(lr=0.03), _adamw),
        (AdamW(lr=0.03, weight_decay=0.5), _adamw),
        (RAdam(lr=0.03), _radam),
        (Sgd(lr=0.03), _sgd),
        (Sgd(lr=0.03, momentum=0.8, nesterov=False, weight_decay=0.1), _sgd),
        (Sgd(lr=0.03, momentum=0.0, nesterov=False), _sgd),
    ],
)
def test_steps_follow_the_published_update(
    spec: Any, direction: Callable[[Any, Array, list[Array]], Array]
) -> None:
    """Twelve steps on sum(c * sin(w)); the decay of all but AdamW lies inside the gradient."""
    net = nn.Module()
    net.weights = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    slope = np.array([1.0, 0.3, -2.0])
    optimizer = build_optimizer(spec, net)
    w, gradients = net.weights.detach().numpy().copy(), []
    inside = 0.0 if isinstance(spec, AdamW) else spec.weight_decay
    for _ in range(12):
        optimizer.zero_grad()
        (torch.from_numpy(slope) * net.weights.sin()).sum().backward()
        optimizer.step()
        gradients.append(slope * np.cos(w) + inside * w)
        w = w - spec.lr * direction(spec, w, gradients)
        assert net.weights.detach().numpy() == pytest.approx(w, rel=1e-6)


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("spec", KINDS)
def test_one_rate_is_one_group_in_the_order_of_the_network(spec: OptimizerSpec) -> None:
    net = Net()
    (group,) = build_optimizer(spec, net).param_groups
    assert (group["name"], group["lr"], group["base_lr"]) == ("all", spec.lr, spec.lr)
    assert [id(p) for p in group["params"]] == [id(p) for p in net.parameters()]
    assert group["weight_decay"] == spec.weight_decay


@pytest.mark.parametrize("spec", KINDS)
def test_two_rates_are_two_groups_that_share_nothing(spec: OptimizerSpec) -> None:
    net = Net()
    slow = spec.model_copy(update={"backbone_lr": 1e-5})
    backbone, head = build_optimizer(slow, net).param_groups
    assert [g["name"] for g in (backbone, head)] == ["backbone", "head"]
    assert (backbone["lr"], backbone["base_lr"]) == (1e-5, 1e-5)
    assert (head["lr"], head["base_lr"]) == (spec.lr, spec.lr)
    assert [id(p) for p in backbone["params"]] == [id(p) for p in net.backbone.parameters()]
    rest = [*net.frontend.parameters(), *net.head.parameters()]
    assert [id(p) for p in head["params"]] == [id(p) for p in rest]
    for group in (backbone, head):
        assert group["weight_decay"] == spec.weight_decay


def test_each_group_moves_at_its_own_rate() -> None:
    net = Net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = build_optimizer(Sgd(lr=0.5, backbone_lr=0.01, momentum=0.0, nesterov=False), net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        rate = 0.01 if name.startswith("backbone.") else 0.5
        assert torch.allclose(parameter, before[name] - rate, atol=1e-6)


def test_a_detector_is_split_whole() -> None:
    spec = ModelSpec(
        backbone="mobilenetv3_small_050",
        frontend=LogMelSpec(n_mels=32, hop=2048),
        head=SedAttention(hidden=8),
    )
    model = SEDModel(spec, 3)
    groups = build_optimizer(Adam(backbone_lr=1e-4), model).param_groups
    sizes = {g["name"]: sum(p.numel() for p in g["params"]) for g in groups}
    assert sizes["backbone"] == sum(p.numel() for p in model.backbone.parameters())
    assert sizes["head"] == sum(p.numel() for p in model.head.parameters())
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("spec", KINDS)
def test_a_stored_optimiser_goes_on_as_if_never_stopped(spec: OptimizerSpec) -> None:
    spec = spec.model_copy(update={"backbone_lr": 1e-3})

    def trained(n: int, state: bytes | None = None, weights: Any = None) -> tuple[Net, bytes]:
        torch.manual_seed(0)
        net = Net()
        optimizer = build_optimizer(spec, net)
        if state is not None:
            net.load_state_dict(weights)
            optimizer.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        for _ in range(n):
            optimizer.zero_grad()
            sum((p**2).sum() + p.sum() for p in net.parameters()).backward()
            optimizer.step()
        buffer = io.BytesIO()
        torch.save(optimizer.state_dict(), buffer)
        return net, buffer.getvalue()

    whole, _ = trained(8)
    half, stored = trained(4)
    resumed, _ = trained(4, stored, half.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


class _Sign(OptimizerSpec):
    kind: Literal["sign"] = "sign"


class _Rateless(Spec):
    kind: Literal["rateless"] = "rateless"


@implements(_Sign)
def _build_sign(spec: _Sign, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.Rprop(groups, lr=spec.lr)


def test_an_optimiser_of_ones_own_gets_groups() -> None:
    optimizer = build_optimizer(_Sign(backbone_lr=1e-4), Net())
    assert type(optimizer) is torch.optim.Rprop
    assert [g["base_lr"] for g in optimizer.param_groups] == [1e-4, 1e-3]
    with pytest.raises(SpecError, match="'rateless' has no learning rates"):
        build_optimizer(_Rateless(), Net())
