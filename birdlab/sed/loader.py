"""Training clips: random crops read from the waveform store, made some batches ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from birdlab.data.store import WaveStore
from birdlab.errors import DataError
from birdlab.evaluate.windows import Normalise
from birdlab.sed.augment import augment_wave, fetch_all
from birdlab.sed.batch import ClipBatch, Crops, StoredBatch
from birdlab.sed.draws import EpochDraws
from birdlab.sed.sampler import draw_rows, row_weights_of
from birdlab.sed.targets import Targets
from birdlab.spec.augmentations import AugmentationSpec, Partner
from birdlab.spec.base import Spec
from birdlab.spec.recipe import Plain

_LOCATED_AT_ONCE = 4096

Samples = npt.NDArray[np.int16]
Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], ClipBatch]


@dataclass(frozen=True, eq=False)
class Takes:
    """Recordings, or the parts of them that are used, as places in a waveform store.

    place: [N] the store's number of the recording; first and n_samples: [N] the part of it.
    """

    place: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    n_samples: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.place)


def locate_takes(
    waves: WaveStore, keys: npt.NDArray[np.bytes_], spans_s: npt.NDArray[np.float64]
) -> Takes:
    """Where the parts `spans_s` [N, 2] of the recordings `keys` [N] lie.

    A span is (start, end) in seconds, NaN for the start or the end of the recording. Raises
    DataError for a recording that is not in the store and for a span that holds no sample.
    """
    takes = Takes(*(np.empty(len(keys), np.int64) for _ in range(3)))
    for begin in range(0, len(keys), _LOCATED_AT_ONCE):
        part = slice(begin, begin + _LOCATED_AT_ONCE)
        places = waves.locate([key.decode() for key in keys[part].tolist()])
        length = np.array([waves.length_of(place) for place in places.tolist()], np.int64)
        spans = np.rint(spans_s[part] * waves.sample_rate_hz)
        first = np.where(np.isnan(spans[:, 0]), 0, spans[:, 0]).astype(np.int64)
        last = np.where(np.isnan(spans[:, 1]), length, np.minimum(spans[:, 1], length))
        takes.place[part], takes.first[part] = places, first
        takes.n_samples[part] = last.astype(np.int64) - first
    empty = np.flatnonzero((takes.n_samples < 1) | (takes.first < 0))
    if len(empty):
        row = int(empty[0])
        raise DataError(
            f"{len(empty)} kept ranges lie outside their recordings",
            got=f"{spans_s[row, 0]:g} to {spans_s[row, 1]:g} s of {keys[row].decode()}",
            fix="correct the list of kept ranges",
        )
    return takes


@dataclass(frozen=True, eq=False)
class ClipSource:
    """Where crops come from: the rows of a training table and the noise data sets.

    A row costs 36 bytes here whatever its labels; everything else is read when it is needed.
    `normalise` holds for crops of rows, noise always has peak 1; `sampler` weighs the partners of
    `partner: class_weight`, without one every row alike.
    """

    waves: WaveStore
    takes: Takes
    targets: Targets
    noise: Mapping[str, Takes]
    crop_samples: int
    normalise: Normalise = "crop"
    sampler: Spec | None = None

    @property
    def sample_rate_hz(self) -> int:
        """The rate of every clip."""
        return self.waves.sample_rate_hz

    @property
    def n_rows(self) -> int:
        """The number of training rows."""
        return len(self.takes)

    def draw_partners(self, partner: Partner, u: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """A row for each of the draws `u` [k] in [0, 1): alike, or as the sampler weighs rows."""
        if partner == "uniform":
            return (u * self.n_rows).astype(np.int64)
        weights = self._cumulative_weights
        rows: npt.NDArray[np.int64] = np.searchsorted(weights, u * weights[-1], side="right")
        return np.minimum(rows, self.n_rows - 1)

    @cached_property
    def _cumulative_weights(self) -> npt.NDArray[np.float64]:
        return np.cumsum(row_weights_of(self.sampler or Plain(), self.targets.primary))

    def read_crops(self, rows: npt.NDArray[np.int64], u: npt.NDArray[np.float64]) -> Crops:
        """A crop of each row; `u` in [0, 1) places it over its legal starts.

        A recording shorter than a crop is padded with zeros on the left.
        """
        return self._crops(
            ((self.takes, row, float(x)) for row, x in zip(rows.tolist(), u, strict=True)),
            _pad,
            self.normalise,
        )

    def read_noise(self, names: Sequence[str], u: npt.NDArray[np.float64]) -> Crops:
        """Noise as long as a clip: data set, recording and start by three draws [k, 3] each.

        A noise recording shorter than a crop is repeated.
        """
        sets = [self.noise[name] for name in names]
        chosen = ((sets[int(a * len(sets))], b, c) for a, b, c in u.tolist())
        return self._crops(
            ((takes, int(b * len(takes)), c) for takes, b, c in chosen), np.resize, "crop"
        )

    def _crops(
        self,
        places: Iterable[tuple[Takes, int, float]],
        lengthen: Callable[[Samples, int], Samples],
        normalise: Normalise,
    ) -> Crops:
        """Crops of rows of takes, started by a draw each; short ones made as long as the others."""
        pieces, scales = [], []
        for takes, row, u in places:
            place, n = int(takes.place[row]), int(takes.n_samples[row])
            start = int(takes.first[row]) + int(u * max(1, n - self.crop_samples + 1))
            piece = self.waves.read_row(place, start, min(n, self.crop_samples))
            pieces.append(piece if n >= self.crop_samples else lengthen(piece, self.crop_samples))
            scales.append(self.waves.scale_of(place))
        return Crops(pieces, np.array(scales), normalise)


def _pad(piece: Samples, n: int) -> Samples:
    return np.concatenate([np.zeros(n - len(piece), np.int16), piece])


def read_batch(
    source: ClipSource,
    augment: Sequence[AugmentationSpec],
    draws: EpochDraws,
    positions: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> StoredBatch:
    """The clips of `rows` drawn at `positions` of an epoch, with what augmentations need."""
    u = draws.at(positions, "crop").uniform(1)[:, 0]
    return StoredBatch(
        source.read_crops(rows, u),
        source.targets.dense(rows),
        source.sample_rate_hz,
        fetch_all(augment, draws, positions, source),
        source.targets.masks(rows),
    )


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

    `workers` threads make the next batches meanwhile; with 0 each is made when it is asked
    for. The batches do not depend on their number.
    """
    source = replace(source, sampler=sampler)
    rows = draw_rows(sampler, source.targets.primary, n_steps * batch, draws.generator("rows"))

    def load(step: int) -> Batch:
        positions = np.arange(step * batch, (step + 1) * batch)
        stored = read_batch(source, augment, draws, positions, rows[positions]).to(device)
        return positions, rows[positions], augment_wave(augment, stored, draws, positions)

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
