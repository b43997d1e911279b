"""The medium of a store that keeps no samples: an index of files, and crops decoded from them.

`NNNNN.npy` in the folder holds one row a recording: key, path, length, peak, and size and time of
the file when it was decoded once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import measure
from birdlab.data.crops import decode_crop
from birdlab.data.hashes import Stamp, hash_file, stamp_file
from birdlab.data.index import Rows, content_key
from birdlab.data.shards import damaged_part, list_shards, write_part
from birdlab.errors import DataError

_ROWS_A_PART = 256
_FIELDS = ("key", "file", "mtime_ns", "n_samples", "scale", "size")


@dataclass(frozen=True)
class Measured:
    """A file that was decoded once and not kept: length, peak, and what its stamp was."""

    path: Path
    sample_rate_hz: int
    n_samples: int
    scale: float
    size: int
    mtime_ns: int

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.n_samples / self.sample_rate_hz


class OnDemand:
    """The medium of a store that decodes each crop from its file; only the index is kept."""

    bytes_per_sample = 0
    may_move = True

    def __init__(self, root: Path, sample_rate_hz: int) -> None:
        self.root, self.sample_rate_hz = root, sample_rate_hz
        self._checked: set[tuple[bytes, Stamp | None]] = set()  # touched, but the same

    def list_parts(self) -> list[int]:
        """The numbers of the whole parts of the index."""
        return list_shards(self.root)

    def load_part(self, number: int) -> Rows:
        """A mapped part of the index; LabError when it is damaged."""
        path = self.root / f"{number:05d}.npy"
        try:
            rows = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise damaged_part(path, str(error)) from None
        if rows.dtype.names != _FIELDS or rows.ndim != 1:
            raise damaged_part(path, f"{rows.dtype} {rows.shape}")
        return rows

    def read(self, row: tuple[Any, ...], start: int, n: int) -> npt.NDArray[np.int16]:
        """Samples of the recording of a row, decoded from its file.

        Raises DataError when the file has moved or holds something else, AudioError when it
        cannot be decoded.
        """
        key, file, mtime_ns, n_samples, scale, size = row
        path = Path(os.fsdecode(file))
        stamp = stamp_file(path)
        if stamp != (str(path), size, mtime_ns) and (key, stamp) not in self._checked:
            self._check(key.decode(), path)
            self._checked.add((key, stamp))
        return decode_crop(path, self.sample_rate_hz, start, n, n_samples=n_samples, scale=scale)

    def holds(self, row: tuple[Any, ...]) -> bool:
        """Whether the file of a row is still where it was."""
        return Path(os.fsdecode(row[1])).is_file()

    def decode(self, path: Path) -> Measured:
        """Length and peak of a file; AudioError as audio.decode."""
        path = path.absolute()
        stamp = stamp_file(path)
        n_samples, scale = measure(path, self.sample_rate_hz)
        _, size, mtime_ns = stamp or ("", 0, 0)
        return Measured(path, self.sample_rate_hz, n_samples, scale, size, mtime_ns)

    def writer(self) -> IndexWriter:
        """Where new recordings go."""
        return IndexWriter(self.root)

    def _check(self, key: str, path: Path) -> None:
        """DataError when the file is not there or its content is another one."""
        digest = hash_file(path)
        if digest is None or content_key(digest, self.sample_rate_hz) != key:
            raise DataError(
                "a recording has moved since its length was taken"
                if digest is None
                else "a recording was changed since its length was taken",
                where=str(path),
                fix="put the file back, or correct the path of the data set in birdlab.toml, and "
                'run the command again: `waveforms = "decode"` reads the files themselves',
            )


class IndexWriter:
    """Appends rows to the index, a part at a time; use as a context manager.

    What was measured is kept also when the block ends with an exception.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._part = max(list_shards(root), default=-1) + 1
        self._rows: list[tuple[bytes, bytes, int, int, float, int]] = []

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_part()

    def add(self, key: str, decoded: Measured) -> None:
        """Append one recording."""
        d = decoded
        file = os.fsencode(d.path)
        self._rows.append((key.encode(), file, d.mtime_ns, d.n_samples, d.scale, d.size))
        if len(self._rows) == _ROWS_A_PART:
            self._close_part()

    def _close_part(self) -> None:
        if not self._rows:
            return
        longest = max(len(row[1]) for row in self._rows)
        kinds = ("S32", f"S{longest}", "<i8", "<u8", "<f8", "<u8")
        rows = np.array(self._rows, np.dtype(list(zip(_FIELDS, kinds, strict=True))))
        write_part(self.root / f"{self._part:05d}.npy", rows)
        self._part, self._rows = self._part + 1, []
