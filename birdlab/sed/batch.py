"""A training batch on its way: clips, targets, and what augmentations fetched for it.

Clips leave the loader as they lie in the store, int16 with one gain each, half the bytes of a
float wave; they become waves on the device that trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birdlab.data.audio import FULL_SCALE
from birdlab.evaluate.windows import PEAK_EPS

Fetched = dict[str, Any]
"""What an augmentation read for a batch: arrays and Crops by name."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Stored clips: samples [k, S] int16 and the gain [k] float32 that makes each peak 1."""

    samples: npt.NDArray[np.int16]
    gain: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.gain)

    def to_wave(self, device: torch.device) -> torch.Tensor:
        """The clips as peak-normalised waves, [k, S] float32 on `device`."""
        wave = torch.empty(self.samples.shape, dtype=torch.float32, device=device)

        def fill(clips: torch.Tensor, part: slice) -> None:
            raw, gain = self.raw(part, device)
            torch.mul(raw, gain, out=clips)

        change_clips(wave, np.arange(len(self)), fill)
        return wave

    def raw(self, part: slice, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Some of the clips as float32 [k, S] and their gains [k, 1], not yet multiplied."""
        samples = torch.from_numpy(self.samples[part]).to(device, non_blocking=True)
        return samples.to(torch.float32), torch.from_numpy(self.gain[part, None]).to(device)


def crop_gain(samples: npt.NDArray[np.int16], scale: float) -> float:
    """What brings stored samples of a recording with peak `scale` to peak 1.

    A clip whose peak is under 1e-6 is divided by 1e-6, so silence stays silence.
    """
    loudest = max(int(samples.max(initial=0)), -int(samples.min(initial=0)))
    unit = scale / FULL_SCALE
    return unit / max(loudest * unit, PEAK_EPS)


@dataclass
class ClipBatch:
    """Clips of one training batch, which belong to whoever holds the batch.

    wave: [B, S] float32, peak-normalised crops; targets: [B, C] float32, 0..1;
    fetched: by augmentation name, what its `fetch` function read for this batch.
    """

    wave: torch.Tensor
    targets: torch.Tensor
    fetched: dict[str, Fetched] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """A batch as the loader hands it over, on the CPU."""

    crops: Crops
    targets: npt.NDArray[np.float32]
    fetched: dict[str, Fetched]

    def to(self, device: torch.device) -> ClipBatch:
        """The batch as waves on `device`."""
        targets = torch.from_numpy(self.targets).to(device)
        return ClipBatch(self.crops.to_wave(device), targets, self.fetched)


def change_clips(
    wave: torch.Tensor,
    index: npt.NDArray[np.int64],
    change: Callable[[torch.Tensor, slice], None],
) -> None:
    """Let `change(clips, part)` change wave[index[part]] in place.

    On a CPU clip by clip, which stay in its cache from one operation to the next; elsewhere
    all at once. The numbers are the same.
    """
    if wave.device.type == "cpu":
        for place, i in enumerate(index.tolist()):
            change(wave[i : i + 1], slice(place, place + 1))
    elif len(index):
        rows = torch.from_numpy(index).to(wave.device)
        clips = wave[rows]
        change(clips, slice(None))
        wave[rows] = clips  # a selection by index is a copy


def peak_normalise_(clips: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """`clips * factor`, [k, S], each over its largest absolute sample, in place.

    Silence stays silent.
    """
    peak = _peaks(clips).mul_(factor).clamp_(min=PEAK_EPS)
    return clips.mul_(factor / peak)


def _peaks(clips: torch.Tensor) -> torch.Tensor:
    """The largest absolute sample of each clip, [k, 1]; on a CPU without a copy of the clips."""
    if clips.device.type != "cpu":
        return clips.abs().amax(dim=-1, keepdim=True)
    wave = clips.numpy()
    return torch.from_numpy(np.maximum(wave.max(-1, keepdims=True), -wave.min(-1, keepdims=True)))
