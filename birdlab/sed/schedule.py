"""Learning rates over training. No torch, so that plans need none.

The function of a kind is `rate(spec, base_lr, step, n_steps, steps_per_epoch) -> float`, with
steps counted from the end of the warm-up.
"""

from __future__ import annotations

import math

from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.optimizers import Constant, Cosine, OneCycle


def learning_rate(
    spec: Spec, base_lr: float, step: int, n_steps: int, steps_per_epoch: int
) -> float:
    """The learning rate at optimiser step `step` of `n_steps`, both counted from 0.

    Warm-up comes first: over its W steps the rate rises along a straight line from 0, which it
    leaves at the first step, to `base_lr`, where the schedule begins with the steps that are left.
    """
    warmup = warmup_steps(spec, steps_per_epoch)
    if step < warmup:
        return base_lr * (step + 1) / (warmup + 1)
    rate: float = function_of(spec)(spec, base_lr, step - warmup, n_steps - warmup, steps_per_epoch)
    return rate


def warmup_steps(spec: Spec, steps_per_epoch: int) -> int:
    """The optimiser steps of the warm-up, at least one when there is any."""
    epochs = float(getattr(spec, "warmup_epochs", 0.0))
    return max(1, round(epochs * steps_per_epoch)) if epochs > 0 else 0


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
    return _half_cosine(base_lr, spec.min_lr, math.pi * done / total)


@implements(Constant)
def constant_rate(
    _spec: Constant, base_lr: float, _step: int, _n_steps: int, _steps_per_epoch: int
) -> float:
    """The optimiser's own rate."""
    return base_lr


@implements(OneCycle)
def one_cycle_rate(
    spec: OneCycle, base_lr: float, step: int, n_steps: int, _steps_per_epoch: int
) -> float:
    """base / start_div up to base within `rise` of the steps, then down to base / end_div.

    Both ways are half cosines; the last step has the last rate. Source: Smith and Topin 2018,
    with cosines in place of lines.
    """
    top = spec.rise * n_steps - 1
    if step < top:
        return _half_cosine(base_lr / spec.start_div, base_lr, math.pi * step / top)
    angle = math.pi * (step - top) / (n_steps - 1 - top)
    return _half_cosine(base_lr, base_lr / spec.end_div, angle)


def _half_cosine(first: float, last: float, angle: float) -> float:
    """`first` at angle 0, `last` at pi, half a cosine between."""
    return last + (first - last) * (1 + math.cos(angle)) / 2
