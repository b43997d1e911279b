"""Training clips: random crops read from the waveform store, made one batch ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from birdlab.data.store import WaveStore
from birdlab.evaluate.windows import peak_normalise
from birdlab.sed.augment import fetch_all
from birdlab.sed.batch import ClipBatch
from birdlab.sed.draws import EpochDraws
from birdlab.sed.sampler import draw_rows
from birdlab.spec.base import Spec
from birdlab.spec.parts import AugmentationSpec


@dataclass(frozen=True)
class ClipSource:
    """Where crops come from: the rows of a training table and the noise data sets.

    keys: the store key of each row; targets: [N, C] float32; labels: primary label of each
    row; noise: store keys by data set name; crop_samples: length of a training clip.
    """

    store: WaveStore
    keys: Sequence[str]
    targets: npt.NDArray[np.float32]
    labels: Sequence[str]
    noise: Mapping[str, Sequence[str]]
    crop_samples: int

    @property
    def n_rows(self) -> int:
        """The number of training rows."""
        return len(self.keys)

    def read_crops(
        self, rows: npt.NDArray[np.int64], u: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Peak-normalised crops [len(rows), S]; `u` in [0, 1) places each over its legal starts.

        A recording shorter than a crop is padded with zeros on the left.
        """
        out = np.zeros((len(rows), self.crop_samples), np.float32)
        for i, row in enumerate(rows):
            key = self.keys[row]
            n = self.store.n_samples(key)
            start = int(u[i] * max(1, n - self.crop_samples + 1))
            take = min(n, self.crop_samples)
            out[i, self.crop_samples - take :] = self.store.read(key, start, take)
        return peak_normalise(out)

    def read_noise(
        self, names: Sequence[str], u: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Peak-normalised noise [len(u), S]: data set, recording and start by three draws each.

        A noise recording shorter than a crop is repeated.
        """
        out = np.zeros((len(u), self.crop_samples), np.float32)
        for i, (a, b, c) in enumerate(u):
            keys = self.noise[names[int(a * len(names))]]
            key = keys[int(b * len(keys))]
            n = self.store.n_samples(key)
            start = int(c * max(1, n - self.crop_samples + 1))
            piece = self.store.read(key, start, min(n, self.crop_samples))
            out[i] = np.resize(piece, self.crop_samples)
        return peak_normalise(out)


def epoch_batches(
    source: ClipSource,
    sampler: Spec,
    augment: Sequence[AugmentationSpec],
    draws: EpochDraws,
    n_steps: int,
    batch: int,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], ClipBatch]]:
    """(positions, rows, clips) of each batch of an epoch; the next one is read meanwhile."""
    rows = draw_rows(sampler, source.labels, n_steps * batch, draws.generator("rows"))

    def load(step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], ClipBatch]:
        positions = np.arange(step * batch, (step + 1) * batch)
        chosen = rows[positions]
        u = draws.at(positions, "crop").uniform(1)[:, 0]
        clips = ClipBatch(
            torch.from_numpy(source.read_crops(chosen, u)),
            torch.from_numpy(source.targets[chosen]),
            fetch_all(augment, draws, positions, source),
        )
        return positions, chosen, clips

    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(load, 0)
        for step in range(n_steps):
            ready = pending.result()
            if step + 1 < n_steps:
                pending = ahead.submit(load, step + 1)
            yield ready
