"""The list of augmentations as it is carried out: what is fetched, waveforms, spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from birdlab.sed.batch import ClipBatch, Fetched
from birdlab.sed.draws import EpochDraws
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.kinds import function_of

if TYPE_CHECKING:
    from birdlab.sed.clipsource import ClipSource


def fetch_all(
    specs: Sequence[AugmentationSpec],
    epoch: EpochDraws,
    positions: npt.NDArray[np.int64],
    source: ClipSource,
) -> dict[str, Fetched]:
    """What the augmentations need beyond the batch itself, by augmentation name."""
    fetched: dict[str, Fetched] = {}
    for spec in specs:
        fetch = getattr(function_of(spec), "fetch", None)
        if fetch is not None:
            fetched[spec.name] = fetch(spec, epoch.at(positions, spec.name), source)
    return fetched


def augment_wave(
    specs: Sequence[AugmentationSpec],
    batch: ClipBatch,
    epoch: EpochDraws,
    positions: npt.NDArray[np.int64],
) -> ClipBatch:
    """The batch after every waveform augmentation, in order."""
    for spec in specs:
        if spec.domain == "wave":
            apply = function_of(spec)
            if not getattr(apply, "lazy", False):
                batch.settle()
            batch = apply(spec, batch, epoch.at(positions, spec.name))
    return batch.settle()


def augment_mel(
    specs: Sequence[AugmentationSpec],
    mel: torch.Tensor,
    epoch: EpochDraws,
    positions: npt.NDArray[np.int64],
) -> torch.Tensor:
    """The spectrograms [B, C, M, T] after every spectrogram augmentation, in order."""
    for spec in specs:
        if spec.domain == "mel":
            mel = function_of(spec)(spec, mel, epoch.at(positions, spec.name))
    return mel
