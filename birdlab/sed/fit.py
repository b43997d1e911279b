"""The training loop: one stage of one cell, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from birdlab.errors import CellError
from birdlab.sed import losses as _losses  # noqa: F401 (registers the losses)
from birdlab.sed.augment import augment_mel
from birdlab.sed.draws import EpochDraws, torch_seed
from birdlab.sed.loader import ClipSource, epoch_batches
from birdlab.sed.model import SEDModel
from birdlab.sed.optimizers import build_optimizer
from birdlab.sed.schedule import learning_rate
from birdlab.sed.steps import Steps
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.kinds import function_of
from birdlab.spec.recipe import TrainSpec


@dataclass(frozen=True)
class EpochReport:
    """One epoch of training: mean loss, learning rate, clips a second, share spent on waiting."""

    epoch: int
    n_epochs: int
    loss: float
    lr: float
    clips_per_s: float
    wait_share: float


def fit(
    model: SEDModel,
    source: ClipSource,
    train: TrainSpec,
    augment: Sequence[AugmentationSpec],
    steps: Steps,
    *,
    seed: int,
    fold: int | None,
    device: torch.device,
    names: Callable[[Sequence[int]], Sequence[str]],
    report: Callable[[EpochReport], None],
    workers: int = 1,
) -> None:
    """Train `model` in place for `steps`, reporting each epoch.

    Every random number is keyed by (seed, fold, epoch, position, transform). Raises CellError
    when a loss is not finite, naming epoch, step and the recordings of the batch, which
    `names(rows)` gives. `workers` threads read clips ahead; they change no number.
    """
    optimizer = build_optimizer(train.optimizer, model)
    base_lr = float(optimizer.param_groups[0]["lr"])
    loss_of = function_of(train.loss)
    layout = torch.channels_last if train.channels_last else torch.contiguous_format
    model.to(device).to(memory_format=layout).train()
    done = 0
    for epoch in range(steps.epochs):
        n_steps = min(steps.per_epoch, steps.total - done)
        draws = EpochDraws(seed, fold, epoch)
        torch.manual_seed(torch_seed(seed, fold, epoch, "network"))
        began, waited, total = time.perf_counter(), 0.0, 0.0
        batches = epoch_batches(
            source, train.sampler, augment, draws, n_steps, steps.batch, device, workers
        )
        ready = time.perf_counter()
        for step, (positions, rows, clips) in enumerate(batches):
            waited += time.perf_counter() - ready
            lr = learning_rate(train.schedule, base_lr, done, steps.total, steps.per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16"):
                mel = augment_mel(augment, model.frontend(clips.wave), draws, positions)
                output = model.classify(mel.to(memory_format=layout))
            loss = loss_of(train.loss, output.logits.float(), clips.targets)
            value = loss.item()
            if not math.isfinite(value):
                raise _lost(value, epoch, step, names(rows.tolist()))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += value
            done += 1
            ready = time.perf_counter()
        seconds = time.perf_counter() - began
        report(
            EpochReport(
                epoch,
                steps.epochs,
                total / n_steps,
                lr,
                n_steps * steps.batch / seconds,
                waited / seconds,
            )
        )


def _lost(value: float, epoch: int, step: int, recordings: Sequence[str]) -> CellError:
    shown = ", ".join(recordings[:8]) + (" ..." if len(recordings) > 8 else "")
    return CellError(
        f"the loss became {value}",
        where=f"epoch {epoch}, step {step}",
        got=f"a batch of {len(recordings)}: {shown}",
        fix="lower train.optimizer.lr, use train.precision: fp32, or listen to these recordings",
    )


class TorchPredictor:
    """A trained model as a Predictor; `columns` picks the scored classes from its own."""

    def __init__(self, model: nn.Module, columns: Iterable[int], device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.columns = torch.as_tensor(list(columns), device=device)
        self.device = device

    @torch.inference_mode()
    def __call__(self, waves):  # type: ignore[no-untyped-def]
        """(P, M) for peak-normalised windows [B, samples] float32."""
        output = self.model(torch.from_numpy(waves).to(self.device))
        p, m = (t.index_select(1, self.columns) for t in (output.probs, output.time_max))
        return p.float().cpu().numpy(), m.float().cpu().numpy()
