"""Averages of weights: along training, and over checkpoints, with batch norms made to fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from birdlab.errors import CellError


class Ema:
    """The exponential moving average of a network's weights.

    Step t (from 0) moves every floating tensor of the state dict, running statistics of batch
    norms included, a share 1 - d towards the network, d = min(decay, (1 + t) / (10 + t)): early
    steps forget the first weights quickly. Other tensors are copied. The average lies on the
    device of the network and must be made after that has moved there.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = model.state_dict()
        moving = [name for name, t in self.average.items() if t.is_floating_point()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([self.average[name] for name in moving], [state[name] for name in moving], 0)
        for name in self.average.keys() - set(moving):
            self.average[name].copy_(state[name])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on: `updates` and `average`. The tensors are not copied."""
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a stored state; CellError when it is that of another network."""
        _same_form(self.average, state["average"])
        for name, tensor in state["average"].items():
            self.average[name].copy_(tensor)
        self.updates = int(state["updates"])

    def copy_to(self, model: nn.Module) -> None:
        """Give the network the averaged weights in place of its own."""
        model.load_state_dict(self.average, strict=True)


@torch.no_grad()
def mean_of(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of state dicts, tensor by tensor, summed in float64 and given in their own type.

    Tensors of integers come from the last one. No more than two states are held beside the sum,
    so `states` may load files as it goes. Raises CellError when there are none or they differ
    in names or shapes.
    """
    sums: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for count, state in enumerate(states, 1):
        if count == 1:
            floats = {n: t for n, t in state.items() if t.is_floating_point()}
            sums = {name: t.to(torch.float64, copy=True) for name, t in floats.items()}
        else:
            _same_form(last, state)
            for name, total in sums.items():
                total += state[name]
        last = state
    if count == 0:
        raise CellError(
            "there are no checkpoints to average", fix="train for more epochs, or average fewer"
        )
    return {
        name: (sums[name] / count).to(t.dtype) if name in sums else t.clone()
        for name, t in last.items()
    }


@torch.no_grad()
def recompute_norms(model: nn.Module, mels: Iterable[Tensor]) -> None:
    """Make the batch-norm statistics of a network anew: their mean over the batches of `mels`.

    `mels` are inputs of `model.classify`, [B, C, M, T] on its device; each batch weighs the same,
    so give batches of one size. Everything but the batch norms is in evaluation mode meanwhile:
    no dropout, no dropped path, no random number used. Frozen norms and those of `model.frontend`
    stay as they are; without others no batch is read. Source: Izmailov et al. 2018, section 3.1.
    Raises CellError when norms need batches and there are none.
    """
    norms = _renewed_norms(model)
    if not norms:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over batches that all weigh the same
        norm.train()
    seen = 0
    try:
        for mel in mels:
            model.classify(mel)  # type: ignore[operator]
            seen += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    if seen == 0:
        raise CellError(
            "there are no clips to make the batch-norm statistics of averaged weights",
            fix="give the fold at least one recording to train on",
        )


def _renewed_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms that follow the weights of a network: neither a front-end's nor frozen.

    A frozen backbone keeps the statistics that the layers above it were trained on.
    """
    frontend = {id(module) for module in getattr(model, "frontend", nn.Identity()).modules()}
    return [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm)
        and m.track_running_stats
        and id(m) not in frontend
        and all(parameter.requires_grad for parameter in m.parameters())
    ]


def _same_form(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    shapes, others = ({n: tuple(t.shape) for n, t in state.items()} for state in (one, other))
    differ = sorted(n for n in {*shapes, *others} if shapes.get(n) != others.get(n))
    if differ:
        raise CellError(
            "the weights to average are those of two different networks",
            got=f"{len(differ)} tensors differ: {', '.join(differ[:5])}",
        )
