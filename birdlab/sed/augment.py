"""Augmentations of the SED recipe, batched.

Each kind has one function `(spec, batch, draws) -> batch` for waveforms, or
`(spec, mel, draws) -> mel` for spectrograms. One that needs more audio (a mixup partner,
noise) has a `fetch` function `(spec, draws, source) -> dict`, which runs in the loader;
what it read is `batch.fetched[spec.name]`. A batch belongs to the function that gets it: it
may be changed in place. `by_clip=True` says that no clip depends on others of its batch.
Source of the recipe: BirdCLEF 2023, first place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from birdlab.evaluate.windows import PEAK_EPS
from birdlab.sed.batch import (
    ClipBatch,
    Crops,
    Fetched,
    Part,
    StoredBatch,
    change_clips,
    peak_normalise_,
    weights,
)
from birdlab.sed.draws import Draws, EpochDraws
from birdlab.spec.kinds import function_of, implements
from birdlab.spec.parts import AugmentationSpec, Background, OrMixup, RandomFiltering, SpecMask

if TYPE_CHECKING:
    from birdlab.sed.loader import ClipSource

_FILTER_N_FFT = 1024
_FILTER_HOP = 512
_CLIPS_AT_ONCE = 32


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


def make_clips(
    specs: Sequence[AugmentationSpec],
    read: Callable[[npt.NDArray[np.int64]], StoredBatch],
    epoch: EpochDraws,
    positions: npt.NDArray[np.int64],
    device: torch.device,
) -> ClipBatch:
    """The clips at `positions` as waves on `device` after every waveform augmentation, in order.

    `read` gives the stored clips of some positions. On a CPU a few clips go all the way before
    the next do, which bounds memory and keeps them nearer the processor, unless an augmentation
    needs the whole batch. That changes no number but the last digits of the random filter.
    """
    chain = [spec for spec in specs if spec.domain == "wave"]
    by_clip = all(getattr(function_of(spec), "by_clip", False) for spec in chain)
    if device.type != "cpu" or not by_clip or len(positions) <= _CLIPS_AT_ONCE:
        return augment_wave(chain, read(positions).to(device), epoch, positions)
    wave: torch.Tensor | None = None
    targets = []
    for first in range(0, len(positions), _CLIPS_AT_ONCE):
        part = positions[first : first + _CLIPS_AT_ONCE]
        stored = read(part)
        if wave is None:
            wave = torch.empty(len(positions), stored.crops.samples.shape[1])
        place = wave[first : first + len(part)]
        clips = augment_wave(chain, stored.to(device, place), epoch, part)
        if clips.wave.data_ptr() != place.data_ptr():
            place.copy_(clips.wave)
        targets.append(clips.targets)
    assert wave is not None
    return ClipBatch(wave, torch.cat(targets))


def augment_wave(
    specs: Sequence[AugmentationSpec],
    batch: ClipBatch,
    epoch: EpochDraws,
    positions: npt.NDArray[np.int64],
) -> ClipBatch:
    """The batch after every waveform augmentation, in order."""
    for spec in specs:
        if spec.domain == "wave":
            batch = function_of(spec)(spec, batch, epoch.at(positions, spec.name))
    return batch


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


@implements(OrMixup, fetch=fetch_partner, by_clip=True)
def mix_or(spec: OrMixup, batch: ClipBatch, _draws: Draws) -> ClipBatch:
    """wave = (a + b) / 2, peak-normalised again; targets = clamp(ya + yb, 0, 1)."""
    got = batch.fetched[spec.name]
    crops: Crops = got["crops"]

    def mix(clips: torch.Tensor, part: Part) -> None:
        peak_normalise_(crops.add_to(clips, part), 0.5)

    change_clips(batch.wave, got["index"], mix)
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


@implements(Background, fetch=fetch_noise, by_clip=True)
def add_background(spec: Background, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """(1 - g) * clip + g * noise, both peak-normalised, then peak-normalised again."""
    got = batch.fetched[spec.name]
    crops: Crops = got["noise"]
    low, high = spec.level
    level = draws.uniform(1, tag="level")[got["index"], 0]
    g = (low + (high - low) * level).astype(np.float32)

    def cover(clips: torch.Tensor, part: Part) -> None:
        clips.mul_(weights(1 - g, part, clips))
        peak_normalise_(crops.add_to(clips, part, g))

    change_clips(batch.wave, got["index"], cover)
    return batch


@implements(RandomFiltering, by_clip=True)
def filter_randomly(spec: RandomFiltering, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """Each clip through its own smooth filter, at its own length, divided by peak + 1e-6."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    if len(chosen) == 0:
        return batch
    low, high = spec.gain_db
    gains_db = low + (high - low) * draws.uniform(spec.points, tag="gains")[chosen]
    curve = torch.nn.functional.interpolate(
        _on(gains_db, batch.wave)[:, None],
        size=_FILTER_N_FFT // 2 + 1,
        mode="linear",
        align_corners=True,
    )[:, 0]
    index = torch.from_numpy(chosen).to(batch.wave.device)
    window = torch.hann_window(_FILTER_N_FFT, device=batch.wave.device)
    clips = batch.wave[index]
    # One extra hop on the right, cut again after the inverse, keeps the last samples.
    padded = torch.nn.functional.pad(clips, (0, _FILTER_HOP))
    spectrum = torch.stft(
        padded, _FILTER_N_FFT, _FILTER_HOP, window=window, center=True, return_complex=True
    )
    filtered = torch.istft(
        spectrum * (10 ** (curve / 20))[:, :, None],
        _FILTER_N_FFT,
        _FILTER_HOP,
        window=window,
        center=True,
        length=clips.shape[-1],
    )
    batch.wave[index] = filtered / (filtered.abs().amax(dim=-1, keepdim=True) + PEAK_EPS)
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
