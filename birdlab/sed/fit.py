"""The training loop: one stage of one cell, top to bottom."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from birdlab.errors import CellError
from birdlab.sed.batch import ClipBatch
from birdlab.sed.checkpoint import Checkpoints, Standing
from birdlab.sed.choice import Snapshots, describe_choice, is_exhausted, wanted_epochs
from birdlab.sed.distill import build_pupil
from birdlab.sed.draws import EpochDraws, torch_seed
from birdlab.sed.epochs import EpochReport, build_report
from birdlab.sed.failures import lost_error, no_validation_error
from birdlab.sed.interrupts import Hold
from birdlab.sed.learner import Learner
from birdlab.sed.loader import Batch, ClipSource, epoch_batches
from birdlab.sed.model import SEDModel
from birdlab.sed.steps import NORM_BATCHES, Steps
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.teaching import DistillSpec

__all__ = ["EpochReport", "Fitted", "fit"]

DECIDES = "padded_cmap"
"""The score that picks epochs and stops early."""

Names = Callable[[Sequence[int]], Sequence[str]]
Validate = Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Fitted:
    """What training leaves besides the weights: a row per epoch, and which weights they are.

    seconds: of all epochs with their validation, whoever trained them.
    """

    curves: list[dict[str, Any]]
    chosen: str
    seconds: float


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
    names: Names,
    report: Callable[[EpochReport], None],
    workers: int = 1,
    validate: Validate | None = None,
    checkpoint: Path | None = None,
    failed: Path | None = None,
    resumed: Callable[[int], None] = lambda _: None,
    distill: DistillSpec | None = None,
) -> Fitted:
    """Train `model` in place for `steps`, reporting each epoch; the weights are then those chosen.

    Every random number is keyed by (seed, fold, epoch, position, transform). `workers` threads
    read clips ahead; they change no number. `validate(model)` gives the scores of the fold.
    `distill` says how the lessons of `source` count beside labels.
    In the folder `checkpoint` training is saved after an epoch and every few minutes, as far as
    that takes little of the time, where an epoch is chosen, at the end, and on Ctrl-C or SIGTERM,
    which then raise KeyboardInterrupt; training that finds a checkpoint there goes on
    from it, says so by `resumed(epoch)` and ends with the same bits. Raises CellError when a
    loss or a gradient is not finite, naming epoch, step and the recordings of the batch, which
    `names(rows)` gives; the batch is saved in the folder `failed`. Raises OSError when a
    checkpoint cannot be written: the one before is kept.
    """
    if train.is_steered and validate is None:
        raise no_validation_error(train)
    pupil = build_pupil(distill, model, source.lessons, torch_seed(seed, fold, "pupil"))
    learner = Learner(model, train, augment, steps, device, pupil)
    checkpoints, at = Checkpoints(checkpoint, device), Standing()
    saved = checkpoints.load()
    if saved is not None:
        at = saved[0]
        learner.restore(saved[1])
        resumed(at.epoch)

    def batches(draws: EpochDraws, n_steps: int, first_step: int = 0) -> Iterator[Batch]:
        given = (source, train.sampler, augment, draws, n_steps, steps.batch, device, workers)
        return epoch_batches(*given, first_step=first_step)

    def lost(value: float, norm: float, rows: Sequence[int], clips: ClipBatch) -> CellError:
        return lost_error(value, norm, at, clips, source.name_clips(rows, names), failed)

    def is_over(at: Standing) -> bool:
        return at.epoch >= steps.epochs or is_exhausted(at.scores, train.early_stop)

    with _folder(checkpoint) as folder:
        snapshots = Snapshots(folder)
        with Hold() as hold:
            while not is_over(at):
                if at.step == 0:
                    torch.manual_seed(torch_seed(seed, fold, at.epoch, "network"))
                draws, n_steps = EpochDraws(seed, fold, at.epoch), steps.in_epoch(at.epoch)
                clips = batches(draws, n_steps, at.step)
                _train_epoch(learner, clips, at, draws, checkpoints, hold, lost)
                ended, scores = time.perf_counter(), {}
                if validate is not None and _is_scored(train, at.epoch, steps.epochs):
                    if checkpoints.is_worth_it:
                        checkpoints.save(at, learner.states())
                    with (
                        checkpoints.saved_when_stopped(at, learner.states),
                        hold.released(),
                        learner.deployed() as deployed,
                    ):
                        scores = dict(validate(deployed))
                    at.scores.append((at.epoch, _deciding(scores, at.epoch)))
                seconds = at.epoch_s + time.perf_counter() - ended
                told = build_report(at, steps, learner.lr, scores, seconds)
                at = at.next_epoch(told.row, seconds)
                wanted = wanted_epochs(train, at.scores, at.epoch, steps.epochs)
                is_wanted = at.epoch - 1 in wanted
                if is_wanted:
                    snapshots.save(at.epoch - 1, learner.weights())
                if is_wanted or is_over(at) or checkpoints.is_worth_it:
                    checkpoints.save(at, learner.states())
                    snapshots.drop_all_but(wanted)  # what an older checkpoint wants stays
                with checkpoints.saved_when_stopped(at, learner.states):
                    report(told)
                    hold.check()
        wanted = wanted_epochs(train, at.scores, at.epoch, steps.epochs)
        learner.take(snapshots.mean(wanted) if wanted else learner.weights())
        if train.average is not None:
            draws, n_steps = EpochDraws(seed, fold, at.epoch - 1), steps.in_epoch(at.epoch - 1)
            learner.begin_epoch(at.epoch - 1)
            learner.renew_norms(batches(draws, min(n_steps, NORM_BATCHES)), draws)
    chosen = describe_choice(train, wanted, at.epoch, steps.epochs)
    return Fitted(at.curves, chosen, at.spent_s)


def _train_epoch(
    learner: Learner,
    batches: Iterator[Batch],
    at: Standing,
    draws: EpochDraws,
    checkpoints: Checkpoints,
    hold: Hold,
    lost: Callable[[float, float, Sequence[int], ClipBatch], CellError],
) -> None:
    """Take the steps of an epoch that are left; where someone stops it, KeyboardInterrupt."""
    learner.begin_epoch(at.epoch)
    before = time.perf_counter()
    for positions, rows, clips in batches:
        at.waited_s += time.perf_counter() - before
        done = at.epoch * learner.steps.per_epoch + at.step
        value, norm = learner.step(done, clips, draws, positions)
        if learner.is_lost or not (math.isfinite(value) and math.isfinite(norm)):
            raise lost(value, norm, rows.tolist(), clips)
        now = time.perf_counter()
        at.step, at.loss_sum, at.epoch_s = (
            at.step + 1,
            at.loss_sum + value,
            at.epoch_s + now - before,
        )
        if checkpoints.is_due:
            checkpoints.save(at, learner.states())
        with checkpoints.saved_when_stopped(at, learner.states):
            hold.check()
        before = now


def _is_scored(train: TrainSpec, epoch: int, n_epochs: int) -> bool:
    """Every so many epochs, and the last one; none where the stored outputs are score enough."""
    every = train.validate_every
    return every != "last" and ((epoch + 1) % every == 0 or epoch + 1 == n_epochs)


def _deciding(scores: Mapping[str, float], epoch: int) -> float:
    value = float(scores[DECIDES])
    if not math.isfinite(value):
        raise CellError(
            f"the {DECIDES} of the fold became {value}",
            where=f"epoch {epoch + 1}",
            fix="lower train.optimizer.lr or use train.precision: fp32",
        )
    return value


@contextmanager
def _folder(checkpoint: Path | None) -> Iterator[Path]:
    """Where weights of epochs lie meanwhile."""
    if checkpoint is not None:
        yield checkpoint
        return
    with tempfile.TemporaryDirectory(prefix="birdlab-fit-") as folder:
        yield Path(folder)
