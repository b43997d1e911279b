"""How training fails in words, and the batch that it failed on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdlab.errors import CellError
from birdlab.sed.batch import ClipBatch
from birdlab.sed.checkpoint import Standing
from birdlab.spec.recipe import TrainSpec

FAILED_BATCH = "batch.npz"


def lost_error(
    value: float,
    norm: float,
    at: Standing,
    clips: ClipBatch,
    recordings: Sequence[str],
    failed: Path | None,
) -> CellError:
    """The error of a step without a finite loss and gradient; its batch is saved.

    Epochs and steps are counted from 1 in words, as progress lines do, and from 0 in the file.
    """
    saved = "" if failed is None else f"; {_save_batch(failed, at, clips, recordings)}"
    became = f"the loss became {value}"
    if math.isfinite(value):
        became += (
            f" with a gradient of {norm}"
            if not math.isfinite(norm)
            else " and its fp16 gradient overflows however it is scaled"
        )
    shown = ", ".join(recordings[:8]) + (" ..." if len(recordings) > 8 else "")
    return CellError(
        became,
        where=f"epoch {at.epoch + 1}, step {at.step + 1}",
        got=f"a batch of {len(recordings)}: {shown}{saved}",
        fix="lower train.optimizer.lr, use train.precision: fp32, or listen to these recordings",
    )


def _save_batch(folder: Path, at: Standing, clips: ClipBatch, recordings: Sequence[str]) -> str:
    path = folder / FAILED_BATCH
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            waves=clips.wave.float().cpu().numpy(),
            targets=clips.targets.float().cpu().numpy(),
            recordings=np.array(recordings, str),
            epoch=at.epoch,
            step=at.step,
        )
    except OSError as error:  # what was lost matters more than where it could be looked at
        return f"it could not be saved: {error.strerror}"
    return f"saved in {path}"


def no_validation_error(train: TrainSpec) -> CellError:
    """The error of a recipe that validation steers where there is nothing to validate on."""
    chooses = {
        "checkpoint: best": train.checkpoint == "best",
        "early_stop": train.early_stop is not None,
        "average of the best": train.average is not None and train.average.of == "best",
    }
    return CellError(
        "validation rows are to decide which weights are kept, and this stage has none",
        where="train",
        got=", ".join(name for name, asked in chooses.items() if asked),
        expected="a stage that is validated: the last one, with folds",
        fix="write `train: {checkpoint: last, early_stop: null, average: null}` for this stage, "
        "and the number of epochs it needs",
    )
