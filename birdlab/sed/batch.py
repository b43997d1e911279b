"""A training batch on its way: waveforms, targets, and what augmentations fetched for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch

from birdlab.evaluate.windows import PEAK_EPS

Fetched = dict[str, npt.NDArray[Any]]


@dataclass
class ClipBatch:
    """Clips of one training batch.

    wave: [B, S] float32, peak-normalised crops; targets: [B, C] float32, 0..1;
    fetched: by augmentation name, the arrays its `fetch` function read for this batch.
    """

    wave: torch.Tensor
    targets: torch.Tensor
    fetched: dict[str, Fetched] = field(default_factory=dict)

    def to(self, device: torch.device) -> ClipBatch:
        """The same batch with its tensors on `device`."""
        return ClipBatch(
            self.wave.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.fetched,
        )


def peak_normalise(wave: torch.Tensor) -> torch.Tensor:
    """Each clip of [B, S] divided by its largest absolute sample; silence stays silent."""
    return wave / wave.abs().amax(dim=-1, keepdim=True).clamp(min=PEAK_EPS)
