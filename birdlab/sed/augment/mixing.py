"""Augmentations that bring in another clip of the training rows: the sounds, labels and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaincinv

from birdlab.sed.batch import ClipBatch, Clips, Crops, Fetched, Part, weights
from birdlab.sed.draws import Draws
from birdlab.spec.augmentations import Cutmix, Mixup, OrMixup
from birdlab.spec.kinds import implements

if TYPE_CHECKING:
    from birdlab.sed.clipsource import ClipSource

Numbers = npt.NDArray[np.float64]


def fetch_partner(spec: OrMixup | Mixup | Cutmix, draws: Draws, source: ClipSource) -> Fetched:
    """For the clips that are mixed: their places, and partners' rows, crops, labels."""
    chosen = np.flatnonzero(draws.happens(spec.p))
    u = draws.uniform(2, tag="partner")[chosen]
    rows = source.draw_partners(spec.partner, u[:, 0])
    return {
        "index": chosen,
        "rows": rows,
        "crops": source.read_crops(rows, u[:, 1]),
        "targets": source.targets.dense(rows),
        "mask": source.masks(rows),
        "taught": source.taught(rows, u[:, 1]),
        "united": source.lessons is None or source.lessons.target == "logits",
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
    return join_labels(batch, got)


def draw_blend(spec: Mixup, _batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The share l of each clip in its mixture, from Beta(alpha, alpha): [B], 0..1."""
    return {"own_share": betaincinv(spec.alpha, spec.alpha, draws.uniform(tag="l")[:, 0])}


@implements(Mixup, fetch=fetch_partner, lazy=True, drawn=draw_blend)
def mix_beta(spec: Mixup, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """l * a + (1 - l) * b, peak-normalised again; the union of the labels, or their blend."""
    got = batch.fetched[spec.name]
    crops: Crops = got["crops"]
    theirs = (1 - draw_blend(spec, batch, draws)["own_share"][got["index"]]).astype(np.float32)

    def mix(clips: Clips, part: Part) -> None:
        clips.scale(1 - theirs, part)
        crops.add_to(clips, part, theirs)
        clips.peak_normalise()

    batch.change(got["index"], mix)
    return join_labels(batch, got, theirs if spec.labels == "soft" else None)


def _stretches(spec: Cutmix, n_samples: int, draws: Draws) -> tuple[Numbers, Numbers]:
    """First sample and length of the stretch of each clip, [B] whole numbers."""
    u = draws.uniform(2, tag="stretch")
    low, high = spec.share
    length = np.rint((low + (high - low) * u[:, 0]) * n_samples)
    return np.floor(u[:, 1] * (n_samples - length + 1)), length


def draw_stretch(spec: Cutmix, batch: ClipBatch, draws: Draws) -> dict[str, Numbers]:
    """The stretch of each clip that another replaces, [B] each: from, and how long."""
    first, length = _stretches(spec, batch.wave.shape[-1], draws)
    return {"from_s": first / batch.sample_rate_hz, "length_s": length / batch.sample_rate_hz}


@implements(Cutmix, fetch=fetch_partner, lazy=True, drawn=draw_stretch)
def cut_and_mix(spec: Cutmix, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """A stretch of each clip from the other, at its level; the union of labels, or their shares."""
    got = batch.fetched[spec.name]
    crops: Crops = got["crops"]
    n_samples = batch.wave.shape[-1]
    first, length = (values[got["index"]] for values in _stretches(spec, n_samples, draws))
    ends = first.astype(np.float32), (first + length).astype(np.float32)
    time = torch.arange(n_samples, device=batch.wave.device)

    def cut(clips: Clips, part: Part) -> None:
        wave = clips.wave()
        other = Clips(torch.empty_like(wave))
        crops.put(other, part)
        begin, end = (weights(values, part, wave) for values in ends)
        wave.copy_(torch.where((time >= begin) & (time < end), other.wave(), wave))

    batch.change(got["index"], cut)
    theirs = (length / n_samples).astype(np.float32)
    return join_labels(batch, got, theirs if spec.labels == "soft" else None)


def join_labels(
    batch: ClipBatch, got: dict[str, Any], theirs: npt.NDArray[np.float32] | None = None
) -> ClipBatch:
    """The batch with the labels of its mixed clips: the union, or partners weighed `theirs` [k].

    A class counts in the loss where it counts for both clips, or is positive in the mixture:
    above `batch.sure`, since a soft label is above 0 for all classes. What a teacher says of them
    is joined as labels are.
    """
    device = batch.targets.device
    index, labels = (torch.from_numpy(got[name]).to(device) for name in ("index", "targets"))
    own = batch.targets[index]
    if theirs is None:
        mixed = (own + labels).clamp_(0, 1)
    else:
        mixed = torch.lerp(own, labels, torch.from_numpy(theirs[:, None]).to(device))
    batch.targets[index] = mixed
    if batch.mask is not None:
        counts = torch.from_numpy(got["mask"]).to(device)
        batch.mask[index] = (batch.mask[index] & counts) | (mixed > batch.sure)
    if batch.taught is not None:
        batch.taught[index] = _join_lessons(batch.taught[index], got, theirs)
    return batch


def _join_lessons(
    own: torch.Tensor, got: dict[str, Any], theirs: npt.NDArray[np.float32] | None
) -> torch.Tensor:
    """What a teacher says of mixtures [k, D]: probabilities as labels, embeddings averaged.

    By halves where labels are united. NaN where one of the clips has none.
    """
    other = torch.from_numpy(got["taught"]).to(own.device)
    if theirs is not None:
        return torch.lerp(own, other, torch.from_numpy(theirs[:, None]).to(own.device))
    return (own + other).clamp_(0, 1) if got["united"] else (own + other) / 2
