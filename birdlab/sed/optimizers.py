"""Optimisers: how a network's parameters follow their gradients, at which base rates.

The function of a kind is `build(spec, groups) -> torch.optim.Optimizer`, where `groups` are
parameter groups as torch's optimisers take them, each with its own `lr`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from birdlab.errors import SpecError
from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.optimizers import Adam, AdamW, OptimizerSpec, RAdam, Sgd

Group = dict[str, Any]


def build_optimizer(spec: Spec, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a recipe over a network, in parameter groups with a name and a base rate.

    Each group of `optimizer.param_groups` has `name` and `base_lr`, what a schedule starts from.
    With `backbone_lr` they are "backbone" (`model.backbone`) and "head": all other parameters,
    those of a front-end that learns among them. Without it there is one, "all", in the order of
    `model.parameters()`. Raises SpecError when the kind is no OptimizerSpec.
    """
    if not isinstance(spec, OptimizerSpec):
        raise SpecError(
            f"the optimiser {getattr(spec, 'kind', type(spec).__name__)!r} has no learning rates",
            where="train.optimizer",
            fix=f"make {type(spec).__name__} a subclass of birdlab.spec.optimizers.OptimizerSpec",
        )
    if spec.backbone_lr is None:
        groups = [_group("all", list(model.parameters()), spec.lr)]
    else:
        backbone = list(model.get_submodule("backbone").parameters())
        known = {id(parameter) for parameter in backbone}
        head = [p for p in model.parameters() if id(p) not in known]
        groups = [_group("backbone", backbone, spec.backbone_lr), _group("head", head, spec.lr)]
    optimizer: torch.optim.Optimizer = function_of(spec)(spec, groups)
    return optimizer


def _group(name: str, parameters: list[nn.Parameter], lr: float) -> Group:
    return {"params": parameters, "lr": lr, "name": name, "base_lr": lr}


@implements(Adam)
def build_adam(spec: Adam, groups: list[Group]) -> torch.optim.Optimizer:
    """Adam. Source: Kingma and Ba 2015."""
    return torch.optim.Adam(groups, lr=spec.lr, weight_decay=spec.weight_decay)


@implements(AdamW)
def build_adamw(spec: AdamW, groups: list[Group]) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter 2019."""
    return torch.optim.AdamW(groups, lr=spec.lr, weight_decay=spec.weight_decay)


@implements(RAdam)
def build_radam(spec: RAdam, groups: list[Group]) -> torch.optim.Optimizer:
    """Rectified Adam. Source: Liu et al. 2020."""
    return torch.optim.RAdam(groups, lr=spec.lr, weight_decay=spec.weight_decay)


@implements(Sgd)
def build_sgd(spec: Sgd, groups: list[Group]) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, Nesterov's by default."""
    return torch.optim.SGD(
        groups,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
    )
