"""Files of the waveform store: int16 shards and their indexes.

A shard is `NNNNN.i16`, little-endian samples end to end, with `NNNNN.npy`, one ROW a recording.
Both are written to `.part` files and renamed, the samples first: an index that exists is whole
and so is its shard. Leftovers without an index are ignored and overwritten.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform
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
        raise _damaged(path, str(error)) from None
    if rows.dtype != ROW or rows.ndim != 1 or (rows["shard"] != shard).any():
        raise _damaged(path, f"{rows.dtype} {rows.shape}")
    if int(rows["n_samples"].sum()) * 2 != size:
        raise _damaged(samples_path(root, shard), f"{size} bytes")
    return rows


def map_samples(root: Path, shard: int) -> npt.NDArray[np.int16]:
    """The samples of a shard, mapped into memory; nothing is read yet."""
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
            self._file.close()

    def add(self, key: str, wave: Waveform) -> None:
        """Append one waveform; a waveform larger than the cap gets a shard of its own."""
        if self._rows and (self._n_samples + wave.n_samples) * 2 > self.shard_bytes:
            self.close_shard()
        if self._file is None:
            self._file = self._part(".i16").open("wb")
        self._file.write(wave.samples.astype("<i2", copy=False).data)
        row = (key.encode(), self._shard, self._n_samples, wave.n_samples, wave.scale)
        self._rows.append(row)
        self._n_samples += wave.n_samples

    def close_shard(self) -> None:
        """Make the open shard permanent; nothing when none is open."""
        if self._file is None:
            return
        _settle(self._file)
        self._part(".i16").replace(samples_path(self.root, self._shard))
        with self._part(".npy").open("wb") as index:
            np.save(index, np.array(self._rows, ROW), allow_pickle=False)
            _settle(index)
        self._part(".npy").replace(self.root / f"{self._shard:05d}.npy")
        self._file, self._rows, self._n_samples = None, [], 0
        self._shard += 1

    def _part(self, suffix: str) -> Path:
        return self.root / f"{self._shard:05d}{suffix}.part"


def _settle(file: Any) -> None:
    """Flush to the disk and close."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _damaged(path: Path, got: str) -> LabError:
    return LabError(
        "the waveform store is damaged",
        where=str(path),
        got=got,
        fix="delete this shard (.i16 and .npy); it is built again",
    )
