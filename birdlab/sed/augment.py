"""Augmentations of the SED recipe, batched.

Each kind has one function `(spec, batch, draws) -> batch` for waveforms, or
`(spec, mel, draws) -> mel` for spectrograms. One that needs more audio (a mixup partner,
noise) has a `fetch` function `(spec, draws, source) -> dict`, which runs in the loader;
what it read is `batch.fetched[spec.name]`. A batch belongs to the function that gets it: it
may be changed in place. `lazy=True` says that the function leaves `batch.wave` alone and hands
what it does to clips to `batch.change`: a CPU then does it while the clip is in its cache.
Source of the recipe: BirdCLEF 2023, first place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from birdlab.evaluate.windows import PEAK_EPS
from birdlab.sed.batch import ClipBatch, Clips, Crops, Fetched, Part
from birdlab.sed.draws import Draws, EpochDraws
from birdlab.spec.augmentations import (
    AugmentationSpec,
    Background,
    OrMixup,
    RandomFiltering,
    SpecMask,
)
from birdlab.spec.kinds import function_of, implements

if TYPE_CHECKING:
    from birdlab.sed.loader import ClipSource

_FILTER_N_FFT = 1024
_FILTER_HOP = 512


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


def _on(values: npt.NDArray[np.float64], like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device)


def fetch_partner(spec: OrMixup, draws: Draws, source: ClipSource) -> Fetched:
    """For the clips that are mixed: their places, partners' crops and partners' targets."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    u = draws.uniform(2, tag="partner")[chosen]
    rows = (u[:, 0] * source.n_rows).astype(np.int64)
    return {
        "index": chosen,
        "crops": source.read_crops(rows, u[:, 1]),
        "targets": source.targets.dense(rows),
    }


@implements(OrMixup, fetch=fetch_partner, lazy=True)
def mix_or(spec: OrMixup, batch: ClipBatch, _draws: Draws) -> ClipBatch:
    """wave = (a + b) / 2, peak-normalised again; targets = clamp(ya + yb, 0, 1)."""
    got = batch.fetched[spec.name]
    crops: Crops = got["crops"]

    def mix(clips: Clips, part: Part) -> None:
        crops.add_to(clips, part)
        clips.peak_normalise(0.5)

    batch.change(got["index"], mix)
    index = torch.from_numpy(got["index"]).to(batch.targets.device)
    labels = torch.from_numpy(got["targets"]).to(batch.targets.device)
    batch.targets[index] = (batch.targets[index] + labels).clamp_(0, 1)
    return batch


def fetch_noise(spec: Background, draws: Draws, source: ClipSource) -> Fetched:
    """For the clips that get noise: their places, and crops of noise as long as a clip.

    Each named data set is equally likely, then each of its recordings.
    """
    chosen = np.flatnonzero(draws.happens(spec.p))
    u = draws.uniform(3, tag="noise")[chosen]
    return {"index": chosen, "noise": source.read_noise(spec.noise, u)}


@implements(Background, fetch=fetch_noise, lazy=True)
def add_background(spec: Background, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """(1 - g) * clip + g * noise, both peak-normalised, then peak-normalised again."""
    got = batch.fetched[spec.name]
    crops: Crops = got["noise"]
    low, high = spec.level
    level = draws.uniform(1, tag="level")[got["index"], 0]
    g = (low + (high - low) * level).astype(np.float32)

    def cover(clips: Clips, part: Part) -> None:
        clips.scale(1 - g, part)
        crops.add_to(clips, part, g)
        clips.peak_normalise()

    batch.change(got["index"], cover)
    return batch


@implements(RandomFiltering, lazy=True)
def filter_randomly(spec: RandomFiltering, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each clip through its own smooth filter, at its own length, divided by peak + 1e-6."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    if len(chosen) == 0:
        return batch
    low, high = spec.gain_db
    u = draws.uniform(spec.points, tag="gains")[chosen]
    gains_db = _on(low + (high - low) * u, batch.wave)[:, None]
    window = torch.hann_window(_FILTER_N_FFT, device=batch.wave.device)

    def filter_(clips: Clips, part: Part) -> None:
        wave = clips.wave().view(-1, clips.samples.shape[-1])
        curve = torch.nn.functional.interpolate(
            gains_db[part].view(len(wave), 1, -1),
            size=_FILTER_N_FFT // 2 + 1,
            mode="linear",
            align_corners=True,
        )
        # One extra hop on the right, cut again after the inverse, keeps the last samples.
        padded = torch.nn.functional.pad(wave, (0, _FILTER_HOP))
        spectrum = torch.stft(
            padded, _FILTER_N_FFT, _FILTER_HOP, window=window, center=True, return_complex=True
        )
        filtered = torch.istft(
            spectrum.mul_((10 ** (curve / 20)).mT),
            _FILTER_N_FFT,
            _FILTER_HOP,
            window=window,
            center=True,
            length=wave.shape[-1],
        )
        torch.div(filtered, filtered.abs().amax(dim=-1, keepdim=True) + PEAK_EPS, out=wave)

    batch.change(chosen, filter_)
    return batch


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
