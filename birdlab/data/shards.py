"""Files of the waveform store: int16 shards and their indexes.

A shard is `NNNNN.i16`, little-endian samples end to end, with `NNNNN.npy`, one ROW a recording.
Both are written to `.part` files and renamed, the samples first: an index that exists is whole
and so is its shard. Leftovers without an index are ignored and overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform, decode
from birdlab.data.index import Rows
from birdlab.errors import LabError

SHARD_BYTES = 512 << 20

ROW = np.dtype(
    [("key", "S32"), ("shard", "<u4"), ("start", "<u8"), ("n_samples", "<u8"), ("scale", "<f8")]
)
"""A recording: its key, where its samples start in which shard, how many, and their peak."""


def samples_path(root: Path, shard: int) -> Path:
    """Where the samples of a shard lie."""
    return root / f"{shard:05d}.i16"


def list_shards(root: Path) -> list[int]:
    """The numbers of the whole shards, ascending."""
    return sorted(int(path.stem) for path in root.glob("[0-9]*.npy") if path.stem.isdigit())


def load_rows(root: Path, shard: int) -> Rows:
    """The rows of a shard, mapped into memory; LabError for an index that is damaged."""
    path = root / f"{shard:05d}.npy"
    try:
        rows = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        size = samples_path(root, shard).stat().st_size
    except (OSError, ValueError, EOFError) as error:
        raise damaged_part(path, str(error)) from None
    if rows.dtype != ROW or rows.ndim != 1 or (rows["shard"] != shard).any():
        raise damaged_part(path, f"{rows.dtype} {rows.shape}")
    if int(rows["n_samples"].sum()) * 2 != size:
        raise damaged_part(samples_path(root, shard), f"{size} bytes")
    return rows


class Shards:
    """The medium of a store that keeps decoded samples: mapped shards in `root`."""

    bytes_per_sample = 2
    may_move = False

    def __init__(self, root: Path, sample_rate_hz: int, shard_bytes: int = SHARD_BYTES) -> None:
        self.root, self.sample_rate_hz, self.shard_bytes = root, sample_rate_hz, shard_bytes
        self._maps: dict[int, npt.NDArray[np.int16]] = {}

    def list_parts(self) -> list[int]:
        """The numbers of the whole shards."""
        return list_shards(self.root)

    def load_part(self, number: int) -> Rows:
        """The mapped index of a shard."""
        return load_rows(self.root, number)

    def read(self, row: tuple[Any, ...], start: int, n: int) -> npt.NDArray[np.int16]:
        """Samples of the recording of a ROW, as a view of the mapped shard."""
        _, shard, first, _, _ = row
        samples = self._maps.get(shard)
        if samples is None:
            samples = self._maps[shard] = _map_samples(self.root, shard)
        return samples[first + start : first + start + n]

    def holds(self, row: tuple[Any, ...]) -> bool:
        """Whether the samples of a row are there: always, once its shard was taken in."""
        return True

    def decode(self, path: Path) -> Waveform:
        """The waveform of a file; AudioError as audio.decode."""
        return decode(path, self.sample_rate_hz)

    def writer(self) -> ShardWriter:
        """Where new recordings go."""
        return ShardWriter(self.root, self.shard_bytes)


def _map_samples(root: Path, shard: int) -> npt.NDArray[np.int16]:
    path = samples_path(root, shard)
    if path.stat().st_size == 0:
        return np.zeros(0, np.int16)
    return np.asarray(np.memmap(path, dtype="<i2", mode="r"))  # a plain array is sliced faster


class ShardWriter:
    """Appends waveforms to shards, opening the next one when the cap would be passed.

    What was added is safe once its shard is closed; use as a context manager. When the block
    ends with an exception the open shard is left behind unfinished.
    """

    def __init__(self, root: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.root, self.shard_bytes = root, shard_bytes
        self._shard = max(list_shards(root), default=-1) + 1
        self._file: Any = None
        self._rows: list[tuple[bytes, int, int, int, float]] = []
        self._n_samples = 0

    def __enter__(self) -> ShardWriter:
        for leftover in self.root.glob("*.part"):
            leftover.unlink()
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.close_shard()
        elif self._file is not None:
            with suppress(OSError):  # the disk is full: that was said already
                self._file.close()

    def add(self, key: str, wave: Waveform) -> None:
        """Append one waveform; a waveform larger than the cap gets a shard of its own."""
        if self._rows and (self._n_samples + wave.n_samples) * 2 > self.shard_bytes:
            self.close_shard()
        if self._file is None:
            self._file = self._part_file().open("wb")
        with _written(self._part_file()):
            self._file.write(wave.samples.astype("<i2", copy=False).data)
        row = (key.encode(), self._shard, self._n_samples, wave.n_samples, wave.scale)
        self._rows.append(row)
        self._n_samples += wave.n_samples

    def close_shard(self) -> None:
        """Make the open shard permanent; nothing when none is open."""
        if self._file is None:
            return
        with _written(self._part_file()):
            _settle(self._file)
            self._part_file().replace(samples_path(self.root, self._shard))
        write_part(self.root / f"{self._shard:05d}.npy", np.array(self._rows, ROW))
        self._file, self._rows, self._n_samples = None, [], 0
        self._shard += 1

    def _part_file(self) -> Path:
        return self.root / f"{self._shard:05d}.i16.part"


def write_part(path: Path, rows: Rows) -> None:
    """Write an index so that it exists whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with _written(path):
        with part.open("wb") as index:
            np.save(index, rows, allow_pickle=False)
            _settle(index)
        part.replace(path)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turns what the system says while a file of the store is written into a LabError."""
    try:
        yield
    except OSError as error:
        raise LabError(
            "the waveform store cannot be written",
            where=str(path),
            got=error.strerror or type(error).__name__,
            fix="make room; what is stored is kept, and the same command goes on from there",
        ) from None


def _settle(file: Any) -> None:
    """Flush to the disk and close."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def damaged_part(path: Path, got: str) -> LabError:
    """The error of a file of the store that is not what it should be."""
    return LabError(
        "the waveform store is damaged",
        where=str(path),
        got=got,
        fix="delete this shard (.i16 and .npy); it is built again",
    )
