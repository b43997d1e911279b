"""The network and all that changes with its weights: one optimiser step, whatever the recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from birdlab.errors import CellError, first_line
from birdlab.sed.augment import augment_mel
from birdlab.sed.averaging import Ema, recompute_norms
from birdlab.sed.batch import ClipBatch
from birdlab.sed.distill import Pupil, answer_of
from birdlab.sed.draws import EpochDraws
from birdlab.sed.heads import SedOutput
from birdlab.sed.losses import compute_loss
from birdlab.sed.model import SEDModel
from birdlab.sed.optimizers import build_optimizer
from birdlab.sed.schedule import learning_rate
from birdlab.sed.steps import Steps
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.recipe import TrainSpec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_SCALE = 2.0**-16
"""fp16 training is lost when gradients overflow even so much smaller than they are."""

Positions = npt.NDArray[np.int64]


class Learner:
    """A network on its device with its optimiser, gradient scaler and running mean of weights.

    `pupil` is what it learns of a teacher; a map of its own learns at the rate of the head.

    Raises CellError where the recipe asks for a compiled network and it cannot be compiled.
    """

    def __init__(
        self,
        model: SEDModel,
        train: TrainSpec,
        augment: Sequence[AugmentationSpec],
        steps: Steps,
        device: torch.device,
        pupil: Pupil | None = None,
    ) -> None:
        self.train, self.augment, self.steps, self.device = train, augment, steps, device
        self.layout = torch.channels_last if train.channels_last else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self.layout)
        self.pupil = None if pupil is None else pupil.to(device)
        self.classify: Callable[[Tensor], SedOutput] = model.classify
        self.answer = answer_of(model)
        if train.compile:
            self.classify = torch.compile(model.classify)
            self.answer = torch.compile(self.answer)
        self.optimizer = build_optimizer(train.optimizer, model)
        if self.pupil is not None and self.pupil.map is not None:
            lr = self.optimizer.param_groups[-1]["base_lr"]
            own = {"params": list(self.pupil.parameters()), "lr": lr, "base_lr": lr}
            self.optimizer.add_param_group({**own, "name": "lesson"})
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.precision == "fp16")
        self.ema = None if train.ema_decay is None else Ema(model, train.ema_decay)

    # ------------------------------------------------------------ one step

    def begin_epoch(self, epoch: int) -> None:
        """Put the network in training mode; a backbone that is still frozen stays as it is.

        A frozen backbone gets no gradients, and is in evaluation mode, its norms with it.
        """
        freeze = self.train.freeze_epochs
        frozen = freeze == "all" or epoch < freeze
        self.model.train()
        if freeze != 0:
            self.model.backbone.requires_grad_(not frozen)
        if frozen:
            self.model.backbone.eval()

    def step(
        self, done: int, clips: ClipBatch, draws: EpochDraws, positions: Positions
    ) -> tuple[float, float]:
        """The loss before, and the length of the gradient of, optimiser step `done`.

        The clips pass in `accumulate` parts, each weighing as many clips as it has. With fp16 a
        step whose gradient overflows is left out, and the length given is 0.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.train.schedule, group["base_lr"], done, self.steps.total, self.steps.per_epoch
            )
        self.optimizer.zero_grad(set_to_none=True)
        n, losses = len(positions), []
        for part in parts_of(n, self.train.accumulate):
            with self._compiling():
                loss = self._loss(clips, part, draws, positions) * ((part.stop - part.start) / n)
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
        norm = self._clipped_norm()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        return float(sum(losses)), float(norm)

    @property
    def lr(self) -> float:
        """The rate of the last step; of the head where groups differ."""
        return float(self.optimizer.param_groups[-1]["lr"])

    @property
    def is_lost(self) -> bool:
        """Whether fp16 gradients overflow however small they are made."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < _LEAST_SCALE

    def _loss(
        self, clips: ClipBatch, part: slice, draws: EpochDraws, positions: Positions
    ) -> Tensor:
        mask = None if clips.mask is None else clips.mask[part]
        if self.pupil is None or clips.taught is None:
            with self._autocast():
                output = self.classify(self._mel(clips.wave[part], draws, positions[part]))
            return compute_loss(self.train.loss, output, clips.targets[part], mask)
        with self._autocast():
            output, features = self.answer(self._mel(clips.wave[part], draws, positions[part]))
        on_labels = compute_loss(self.train.loss, output, clips.targets[part], mask)
        return self.pupil.mix(on_labels, output, features, clips.taught[part])

    def _mel(self, wave: Tensor, draws: EpochDraws, positions: Positions) -> Tensor:
        mel = augment_mel(self.augment, self.model.frontend(wave), draws, positions)
        return mel.to(memory_format=self.layout)

    def _autocast(self) -> torch.autocast:
        precision = self.train.precision
        return torch.autocast(self.device.type, PRECISIONS[precision], enabled=precision != "fp32")

    def _clipped_norm(self) -> Tensor | float:
        clip_norm = self.train.clip_norm
        if self.scaler.is_enabled():
            if clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                self._clip(clip_norm)
            return 0.0
        return self._clip(clip_norm)

    def _clip(self, clip_norm: float | None) -> Tensor:
        every = [*self.model.parameters(), *(self.pupil.parameters() if self.pupil else ())]
        learning = [p for p in every if p.grad is not None]
        norm = get_total_norm([p.grad for p in learning if p.grad is not None])
        if clip_norm is not None:
            clip_grads_with_norm_(learning, clip_norm, norm)
        return norm

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            home = type(error).__module__
            if not self.train.compile or not home.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise CellError(
                "the network cannot be compiled",
                where="train.compile",
                got=f"{type(error).__name__}: {first_line(error)}",
                expected="a C++ compiler on a CPU or Triton on a GPU, and a network that it takes",
                fix="install one, or set train.compile: false",
            ) from None

    # ------------------------------------------------------------ weights

    @contextmanager
    def deployed(self) -> Iterator[nn.Module]:
        """The network in evaluation mode with the weights it would end with now."""
        own = {n: t.clone() for n, t in self.model.state_dict().items()} if self.ema else None
        if self.ema is not None:
            self.ema.copy_to(self.model)
        training = self.model.training
        try:
            yield self.model.eval()
        finally:
            self.model.train(training)
            if own is not None:
                self.model.load_state_dict(own)

    def weights(self) -> dict[str, Tensor]:
        """The weights that the network would end with now."""
        return dict(self.model.state_dict() if self.ema is None else self.ema.average)

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Give the network other weights."""
        self.model.load_state_dict(weights)

    @torch.no_grad()
    def renew_norms(
        self, batches: Iterator[tuple[Positions, Any, ClipBatch]], draws: EpochDraws
    ) -> None:
        """Make the batch-norm statistics anew on training batches; frozen ones stay."""
        with self._autocast():
            mels = (self._mel(clips.wave, draws, positions) for positions, _, clips in batches)
            recompute_norms(self.model, mels)

    def states(self) -> dict[str, Any]:
        """All that changes from step to step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            **({} if self.pupil is None else {"pupil": self.pupil.state_dict()}),
        }

    def restore(self, states: Mapping[str, Any]) -> None:
        """Go on from what `states` gave."""
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        self.scaler.load_state_dict(states["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(states["ema"])
        if self.pupil is not None:
            self.pupil.load_state_dict(states["pupil"])


def parts_of(n: int, k: int) -> list[slice]:
    """The numbers 0 to n - 1 in at most `k` runs of equal length, the last one maybe shorter."""
    size = -(-n // k)
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]
