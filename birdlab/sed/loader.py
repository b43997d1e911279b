"""Batches of training clips: read at random places, made some ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from birdlab.sed.augment import augment_wave, fetch_all
from birdlab.sed.batch import ClipBatch, Mixed, StoredBatch
from birdlab.sed.clipsource import ClipSource, Masks
from birdlab.sed.draws import EpochDraws
from birdlab.sed.sampler import draw_rows
from birdlab.sed.takes import Takes, locate_takes
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import Spec

__all__ = ["ClipSource", "Takes", "epoch_batches", "locate_takes", "read_batch"]

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], ClipBatch]

_MIXING = "pseudo mixing"  # a name of draws; no augmentation has one with a space

SURE = 0.5
"""With soft labels a class counts in a mixture, whatever one of its clips masks, above this."""


def read_batch(
    source: ClipSource,
    augment: Sequence[AugmentationSpec],
    draws: EpochDraws,
    positions: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> StoredBatch:
    """The clips of `rows` drawn at `positions` of an epoch, with what augmentations need."""
    u = draws.at(positions, "crop").uniform(1)[:, 0]
    crops, targets, mask = source.read_clips(rows, u)
    taught = source.taught(rows, u)
    mixed = _mix_windows(source, draws, positions, rows, targets, mask)
    if mixed is not None and taught is not None:
        taught[mixed.index] = np.nan  # its teacher did not hear the mixture
    return StoredBatch(
        crops,
        targets,
        source.sample_rate_hz,
        fetch_all(augment, draws, positions, source),
        mask,
        mixed,
        0.0 if source.pseudo is None else SURE,
        taught,
    )


def _mix_windows(
    source: ClipSource,
    draws: EpochDraws,
    positions: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    targets: npt.NDArray[np.float32],
    mask: Masks | None,
) -> Mixed | None:
    """Windows for a share of the labelled clips, whose targets and masks change in place.

    A mixture has the larger label of both. A class counts where it counts for both, or where its
    label is above `SURE`.
    """
    if source.pseudo is None or source.pseudo.spec.mix_rate == 0:
        return None
    spec, given = source.pseudo.spec, draws.at(positions, _MIXING)
    index = np.flatnonzero(given.happens(spec.mix_rate) & (rows < source.n_rows))
    u = given.uniform(2, tag="window")[index]
    windows = source.n_rows + source.pseudo.pick(u[:, 0])
    crops, labels, known = source.read_clips(windows, u[:, 1])
    targets[index] = np.maximum(targets[index], labels)
    if mask is not None and known is not None:
        mask[index] = (mask[index] & known) | (targets[index] > SURE)
    return Mixed(index, crops, spec.mix_ratio)


def epoch_batches(
    source: ClipSource,
    sampler: Spec,
    augment: Sequence[AugmentationSpec],
    draws: EpochDraws,
    n_steps: int,
    batch: int,
    device: torch.device,
    workers: int = 1,
    first_step: int = 0,
) -> Iterator[Batch]:
    """(positions, rows, clips) of the batches of an epoch from `first_step` on, waves augmented.

    Rows from `source.n_rows` on are windows with soft labels.
    `workers` threads make the next batches meanwhile; with 0 each is made when it is asked
    for. The batches do not depend on their number.
    """
    source = replace(source, sampler=sampler)
    rows = draw_rows(sampler, source.targets.primary, n_steps * batch, draws.generator("rows"))

    def load(step: int) -> Batch:
        positions = np.arange(step * batch, (step + 1) * batch)
        heard = source.with_windows(rows[positions], draws, positions)
        stored = read_batch(source, augment, draws, positions, heard).to(device)
        return positions, heard, augment_wave(augment, stored, draws, positions)

    if workers == 0:
        yield from map(load, range(first_step, n_steps))
        return
    threads = torch.get_num_threads()  # also settles that of this thread, before others set theirs
    with ThreadPoolExecutor(workers, initializer=_use_one_thread) as ahead:
        pending: deque[Future[Batch]] = deque()
        try:
            for step in range(first_step, min(first_step + workers, n_steps)):
                pending.append(ahead.submit(load, step))
            for step in range(first_step, n_steps):
                ready = pending.popleft().result()
                if step + workers < n_steps:
                    pending.append(ahead.submit(load, step + workers))
                yield ready
                del ready
        finally:
            torch.set_num_threads(threads)
            for future in pending:
                future.cancel()


def _use_one_thread() -> None:
    """Let a reading thread do its operations itself.

    Else each gets a team of threads of its own, which wait at full speed for the next operation
    and take a fifth of the processor from the network.
    """
    torch.set_num_threads(1)
