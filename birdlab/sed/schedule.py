"""Learning rates over training, as a factor on the optimiser's rate."""

from __future__ import annotations

import math

import torch

from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.recipe import Adam, AdamW, Constant, Cosine


@implements(Adam)
def build_adam(spec: Adam, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Adam over the parameters."""
    return torch.optim.Adam(parameters, lr=spec.lr, weight_decay=spec.weight_decay)


@implements(AdamW)
def build_adamw(spec: AdamW, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW over the parameters."""
    return torch.optim.AdamW(parameters, lr=spec.lr, weight_decay=spec.weight_decay)


def build_optimizer(spec: Spec, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters."""
    optimizer: torch.optim.Optimizer = function_of(spec)(spec, parameters)
    return optimizer


def learning_rate(
    spec: Spec, base_lr: float, step: int, n_steps: int, steps_per_epoch: int
) -> float:
    """The learning rate at optimiser step `step` of `n_steps`, both counted from 0."""
    rate: float = function_of(spec)(spec, base_lr, step, n_steps, steps_per_epoch)
    return rate


@implements(Cosine)
def cosine_rate(
    spec: Cosine, base_lr: float, step: int, n_steps: int, steps_per_epoch: int
) -> float:
    """min + (base - min) * (1 + cos(pi * t / T)) / 2, t in epochs or steps.

    Source: Loshchilov and Hutter 2017, equation 5, without restarts.
    """
    done, total = step, n_steps
    if spec.per == "epoch":
        done, total = step // steps_per_epoch, math.ceil(n_steps / steps_per_epoch)
    return spec.min_lr + (base_lr - spec.min_lr) * (1 + math.cos(math.pi * done / total)) / 2


@implements(Constant)
def constant_rate(
    _spec: Constant, base_lr: float, _step: int, _n_steps: int, _steps_per_epoch: int
) -> float:
    """The optimiser's own rate."""
    return base_lr
