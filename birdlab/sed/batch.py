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

Part = int | slice
"""Which of several clips: one on a CPU, a slice of them elsewhere."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Stored clips: samples [k, S] int16 and the gain [k] float32 that makes each peak 1."""

    samples: npt.NDArray[np.int16]
    gain: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.gain)

    def to_wave(self, device: torch.device, out: torch.Tensor | None = None) -> torch.Tensor:
        """The clips as peak-normalised waves, [k, S] float32 on `device`; in `out`, if given."""
        wave = torch.empty(self.samples.shape, device=device) if out is None else out

        def fill(clips: torch.Tensor, part: Part) -> None:
            clips.copy_(torch.from_numpy(self.samples[part]), non_blocking=True)
            clips.mul_(weights(self.gain, part, clips))

        change_clips(wave, np.arange(len(self)), fill)
        return wave

    def add_to(
        self, clips: torch.Tensor, part: Part, factor: npt.NDArray[np.float32] | None = None
    ) -> torch.Tensor:
        """`clips` with these clips added in place, each times its `factor` [k] (default 1)."""
        samples = torch.from_numpy(self.samples[part]).to(clips.device, non_blocking=True)
        gain = weights(self.gain if factor is None else self.gain * factor, part, clips)
        if isinstance(gain, float):
            return clips.add_(samples.to(torch.float32), alpha=gain)
        return clips.addcmul_(samples.to(torch.float32), gain)


def crop_gains(
    samples: npt.NDArray[np.int16], scales: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """What brings stored clips [k, S] of recordings with the peaks `scales` [k] to peak 1.

    A clip whose peak is under 1e-6 is divided by 1e-6, so silence stays silence.
    """
    loudest = np.maximum(
        samples.max(axis=1, initial=0).astype(np.int32), -samples.min(axis=1, initial=0).astype(int)
    )
    units = scales / FULL_SCALE
    gains: npt.NDArray[np.float32] = units / np.maximum(loudest * units, PEAK_EPS)
    return gains.astype(np.float32)


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
    """A batch as the loader reads it, on the CPU."""

    crops: Crops
    targets: npt.NDArray[np.float32]
    fetched: dict[str, Fetched]

    def to(self, device: torch.device, out: torch.Tensor | None = None) -> ClipBatch:
        """The batch as waves on `device`, in `out` [B, S], if given."""
        targets = torch.from_numpy(self.targets).to(device)
        return ClipBatch(self.crops.to_wave(device, out), targets, self.fetched)


def change_clips(
    wave: torch.Tensor,
    index: npt.NDArray[np.int64],
    change: Callable[[torch.Tensor, Part], None],
) -> None:
    """Let `change(clips, part)` change wave[index[part]] in place.

    On a CPU clip by clip, [S] and a number, so that a clip stays in the cache from one
    operation to the next (three times as fast); elsewhere all at once, [k, S] and a slice.
    """
    if wave.device.type == "cpu":
        for place, i in enumerate(index.tolist()):
            change(wave[i], place)
    elif len(index):
        rows = torch.from_numpy(index).to(wave.device)
        clips = wave[rows]
        change(clips, slice(None))
        wave[rows] = clips  # a selection by index is a copy


def weights(
    values: npt.NDArray[np.float32], part: Part, clips: torch.Tensor
) -> float | torch.Tensor:
    """One factor per clip in the form that multiplies `clips`: a number, or [k, 1]."""
    if isinstance(part, int):
        return float(values[part])
    return torch.from_numpy(values[part, None]).to(clips.device)


def peak_normalise_(clips: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """`clips * factor`, [S] or [k, S], each over its largest absolute sample, in place.

    Silence stays silent.
    """
    if clips.device.type == "cpu" and clips.ndim == 1:  # without a copy for the absolute values
        wave = clips.numpy()
        peak = factor * max(float(wave.max()), -float(wave.min()))
        return clips.mul_(factor / max(peak, PEAK_EPS))
    peaks = clips.abs().amax(dim=-1, keepdim=True).mul_(factor).clamp_(min=PEAK_EPS)
    return clips.mul_(factor / peaks)
