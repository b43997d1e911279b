"""A training batch on its way: clips, targets, and what augmentations fetched for it.

Clips leave the store as views of its mapped files, int16; they become waves on the device that
trains. What is done to them there waits, on a CPU, until all of it is done to one clip after
the other, since reading and writing a clip from memory costs more than most of what is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birdlab.data.audio import FULL_SCALE
from birdlab.evaluate.windows import PEAK_EPS, Normalise

Fetched = dict[str, Any]
"""What an augmentation read for a batch: arrays and Crops by name."""

Part = int | slice
"""Which of several clips: one on a CPU, a slice of them elsewhere."""

_LEAST_GAIN = 1e-12  # a gain that divides may not be 0


@dataclass(frozen=True, eq=False)
class Crops:
    """Stored clips: k pieces [S] int16, and the peaks [k] of the recordings they are of.

    `normalise` says what becomes 1: the peak of each clip, or that of its recording.
    """

    pieces: Sequence[npt.NDArray[np.int16]]
    scales: npt.NDArray[np.float64]
    normalise: Normalise = "crop"

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def gain(self) -> npt.NDArray[np.float32]:
        """What brings each peak to 1, [k]; a clip whose peak is under 1e-6 is divided by 1e-6."""
        return np.array([self._gain(i) for i in range(len(self))], np.float32)

    def put(self, clips: Clips, part: Part) -> None:
        """These clips, peak-normalised, in place of `clips`."""
        if isinstance(part, int):
            clips.gain = self._gain(part)
            np.copyto(clips.samples.numpy(), self.pieces[part])
        else:
            clips.samples, clips.gain = self._stack(part, clips.samples.device)

    def add_to(
        self, clips: Clips, part: Part, factor: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Add these clips, peak-normalised and each times its `factor` [k] (default 1)."""
        if isinstance(part, int):
            gain: float | torch.Tensor = self._gain(part)
            samples = torch.from_numpy(self.pieces[part].astype(np.float32))
        else:
            samples, gain = self._stack(part, clips.samples.device)
        clips.add(samples, gain if factor is None else gain * weights(factor, part, clips.samples))

    def _gain(self, i: int) -> float:
        piece, unit = self.pieces[i], float(self.scales[i]) / FULL_SCALE
        if self.normalise == "recording":
            return unit / max(float(self.scales[i]), PEAK_EPS)
        loudest = max(int(piece.max(initial=0)), -int(piece.min(initial=0)))
        return unit / max(loudest * unit, PEAK_EPS)

    def _stack(
        self, part: slice, device: torch.device
    ) -> tuple[torch.Tensor, float | torch.Tensor]:
        samples = torch.from_numpy(np.stack(self.pieces[part])).to(device, non_blocking=True)
        return samples.to(torch.float32), weights(self.gain, part, samples)


class Clips:
    """Waves while they are changed: `samples` times `gain`, so that a gain costs no pass.

    samples: one clip [S] on a CPU, or several [k, S] elsewhere, float32; gain: a number, or
    [k, 1].
    """

    def __init__(self, samples: torch.Tensor) -> None:
        self.samples = samples
        self.gain: float | torch.Tensor = 1.0

    def scale(self, factor: npt.NDArray[np.float32], part: Part) -> None:
        """Multiply each clip by its factor [k], 0 or more."""
        self.gain = self.gain * weights(factor, part, self.samples)

    def add(self, samples: torch.Tensor, gain: float | torch.Tensor) -> None:
        """Add `samples`, shaped as these, times `gain`."""
        self.gain = _at_least(self.gain, _LEAST_GAIN)
        factor = gain / self.gain
        if isinstance(factor, float):
            self.samples.add_(samples, alpha=factor)
        else:
            self.samples.addcmul_(samples, factor)

    def peak_normalise(self, factor: float = 1.0) -> None:
        """Multiply by `factor`, then divide each clip by its peak, or by 1e-6 if that is less."""
        gain = self.gain * factor
        self.gain = gain / _at_least(_largest(self.samples) * gain, PEAK_EPS)

    def wave(self) -> torch.Tensor:
        """The waves themselves, which may be changed in place: gains are multiplied in."""
        if not isinstance(self.gain, float) or self.gain != 1:
            self.samples.mul_(self.gain)
            self.gain = 1.0
        return self.samples


Change = Callable[[Clips, Part], None]


@dataclass
class ClipBatch:
    """Clips of one training batch, which belong to whoever holds the batch.

    wave: [B, S] float32, crops of peak 1, or of recordings of peak 1; targets: [B, C] float32,
    0..1; fetched: by augmentation name, what its `fetch` function read for this batch; mask:
    [B, C] bool, which targets count in the loss, None where all do; sure: a class whose label in
    a mixture is above it counts there, whatever one of the clips masks; taught: [B, D], what a
    teacher says of each clip, NaN where nothing, None without a teacher; waiting: by clip, what is
    still to be done to it (see `change`); `replace` carries it on.
    """

    wave: torch.Tensor
    targets: torch.Tensor
    sample_rate_hz: int
    fetched: dict[str, Fetched] = field(default_factory=dict)
    mask: torch.Tensor | None = None
    sure: float = 0.0
    taught: torch.Tensor | None = None
    waiting: dict[int, list[tuple[Change, int]]] = field(
        default_factory=lambda: defaultdict(list), repr=False
    )

    def change(self, index: npt.NDArray[np.int64], change: Change) -> None:
        """Let `change(clips, part)` change the clips wave[index[part]].

        On a CPU clip by clip, when the batch is settled; elsewhere now and all at once.
        """
        if self.wave.device.type == "cpu":
            for part, i in enumerate(index.tolist()):
                self.waiting[i].append((change, part))
        elif len(index):
            rows = torch.from_numpy(index).to(self.wave.device)
            clips = Clips(self.wave[rows])
            change(clips, slice(None))
            self.wave[rows] = clips.wave()  # a selection by index is a copy

    def settle(self) -> ClipBatch:
        """This batch after every change that waits: each clip gets all of its own in a row."""
        for i, changes in self.waiting.items():
            clips = Clips(self.wave[i])
            for change, part in changes:
                change(clips, part)
            clips.wave()
        self.waiting.clear()
        return self


@dataclass(frozen=True, eq=False)
class Mixed:
    """Other clips that are mixed into those at `index` [k], each with the weight `ratio`."""

    index: npt.NDArray[np.int64]
    crops: Crops
    ratio: float

    def put(self, clips: Clips, part: Part) -> None:
        """(1 - ratio) * clip + ratio * other, both of peak 1, peak-normalised again."""
        clips.scale(np.full(len(self.index), 1 - self.ratio, np.float32), part)
        self.crops.add_to(clips, part, np.full(len(self.index), self.ratio, np.float32))
        clips.peak_normalise()


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """A batch as the loader reads it, on the CPU; its targets are those of its mixtures."""

    crops: Crops
    targets: npt.NDArray[np.float32]
    sample_rate_hz: int
    fetched: dict[str, Fetched]
    mask: npt.NDArray[np.bool_] | None = None
    mixed: Mixed | None = None
    sure: float = 0.0
    taught: npt.NDArray[np.float32] | None = None

    def to(self, device: torch.device) -> ClipBatch:
        """The batch on `device`; on a CPU its clips wait to be put into the wave."""
        shape = len(self.crops), len(self.crops.pieces[0])
        # NumPy asks for huge pages, and for no more than fits where an equal array was freed.
        wave = (
            torch.from_numpy(np.empty(shape, np.float32))
            if device.type == "cpu"
            else torch.empty(shape, device=device)
        )
        mask = None if self.mask is None else torch.from_numpy(self.mask).to(device)
        targets = torch.from_numpy(self.targets).to(device)
        taught = None if self.taught is None else torch.from_numpy(self.taught).to(device)
        batch = ClipBatch(wave, targets, self.sample_rate_hz, self.fetched, mask, self.sure, taught)
        batch.change(np.arange(len(self.crops)), self.crops.put)
        if self.mixed is not None:
            batch.change(self.mixed.index, self.mixed.put)
        return batch


def weights(
    values: npt.NDArray[np.float32], part: Part, clips: torch.Tensor
) -> float | torch.Tensor:
    """One factor per clip in the form that multiplies `clips`: a number, or [k, 1]."""
    if isinstance(part, int):
        return float(values[part])
    return torch.from_numpy(values[part, None]).to(clips.device)


def _largest(wave: torch.Tensor) -> float | torch.Tensor:
    """The largest absolute sample of one clip on a CPU, a number; of others [k, 1]."""
    if wave.device.type == "cpu" and wave.ndim == 1:  # without a copy for the absolute values
        samples = wave.numpy()
        return max(float(samples.max()), -float(samples.min()))
    return wave.abs().amax(dim=-1, keepdim=True)


def _at_least(values: float | torch.Tensor, least: float) -> float | torch.Tensor:
    return max(values, least) if isinstance(values, float) else values.clamp(min=least)
