"""Augmentations that hide parts of a spectrogram."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from birdlab.sed.draws import Draws
from birdlab.spec.augmentations import SpecMask
from birdlab.spec.kinds import implements


@implements(SpecMask)
def mask_spectrogram(spec: SpecMask, mel: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Masks of zeros: 1..max_masks per axis, widths uniform in 0..max, each axis with its own p."""
    mel = mel.clone()
    for axis, limit, tag in ((2, spec.max_bins, "bins"), (3, spec.max_frames, "frames")):
        u = draws.uniform(2 + 2 * spec.max_masks, tag=tag)
        count = np.where(u[:, 0] < spec.p, 1 + (u[:, 1] * spec.max_masks).astype(int), 0)
        size = mel.shape[axis]
        width = u[:, 2 : 2 + spec.max_masks] * min(limit, size)
        start = u[:, 2 + spec.max_masks :] * (size - width)
        active = np.arange(spec.max_masks)[None] < count[:, None]
        place = np.arange(size)[None, None]
        first, last = start.astype(int)[..., None], (start + width).astype(int)[..., None]
        covered = (place >= first) & (place < last) & active[..., None]
        masked: npt.NDArray[np.bool_] = np.any(covered, axis=1)
        shape = [len(draws), 1, 1, 1]
        shape[axis] = size
        mel.masked_fill_(torch.from_numpy(masked.reshape(shape)).to(mel.device), 0.0)
    return mel
