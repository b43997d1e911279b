"""What is told of an epoch, and the curves that stay of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from birdlab.sed.checkpoint import Standing
from birdlab.sed.choice import best_epochs
from birdlab.sed.steps import Steps


@dataclass(frozen=True)
class EpochReport:
    """One epoch of training, as it is told while training goes on.

    loss: the mean over steps; lr: the rate of the last step, of the head where rates differ;
    wait_share: of the training time, spent on waiting for clips; seconds: with validation;
    scores: of the fold where this epoch was validated; best and best_epoch (counted from 0): the
    highest padded cmAP so far; seconds_left: for the epochs to come, if they are like those before.
    """

    epoch: int
    n_epochs: int
    loss: float
    lr: float
    clips_per_s: float
    wait_share: float
    seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int | None = None
    seconds_left: float | None = None

    @property
    def row(self) -> dict[str, Any]:
        """The epoch as a row of the cell's curves."""
        told = ("scores", "best", "best_epoch", "seconds_left")
        return {k: v for k, v in asdict(self).items() if k not in told} | dict(self.scores)


def build_report(
    at: Standing, steps: Steps, lr: float, scores: Mapping[str, float], seconds: float
) -> EpochReport:
    """What to tell of the epoch that just ended, with rate `lr`, after so many seconds."""
    n_steps, n_done = steps.in_epoch(at.epoch), at.epoch + 1
    best = best_epochs(at.scores)
    return EpochReport(
        at.epoch,
        steps.epochs,
        at.loss_sum / n_steps,
        lr,
        n_steps * steps.batch / at.epoch_s,
        at.waited_s / at.epoch_s,
        seconds,
        scores,
        best=dict(at.scores)[best[0]] if best else None,
        best_epoch=best[0] if best else None,
        seconds_left=(at.spent_s + seconds) / n_done * (steps.epochs - n_done),
    )
