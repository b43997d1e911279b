"""The rows of one member on disk, batch by batch, so that half a batch is known as such.

A row is what the member says of an input: of one window, or of the windows of a pass.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from birdlab.errors import PredictError

Floats = npt.NDArray[np.float32]
_RECORD = struct.Struct("<II")


class MemberRows:
    """The rows of one member in two files; opening them drops what is not whole."""

    def __init__(self, folder: Path, member: int, n_values: int) -> None:
        self.path, self.n_values = folder / f"member_{member}.f32", n_values
        self._rows = open_both_ways(self.path)
        self._log = open_both_ways(self.path.with_suffix(".log"))
        self.n_rows = 0
        self._ends = [(0, 0)]  # rows and records up to each batch
        row_bytes = 4 * n_values
        for n_rows, crc in _RECORD.iter_unpack(_whole_records(self._log)):
            content = self._rows.read(n_rows * row_bytes)
            if len(content) < n_rows * row_bytes or zlib.crc32(content) != crc:
                break
            self._note(n_rows)
        self.cut(self.n_rows)

    def _note(self, n_rows: int) -> None:
        self.n_rows += n_rows
        self._ends.append((self.n_rows, self._ends[-1][1] + 1))

    def append(self, rows: Floats) -> None:
        """Keep a batch [B, n_values], or the same as [B · k, C]."""
        content = np.ascontiguousarray(rows, np.float32).tobytes()
        n_rows = rows.size // self.n_values
        with keep_or_say(self.path):
            write_all(self._rows, content)
            write_all(self._log, _RECORD.pack(n_rows, zlib.crc32(content)))
        self._note(n_rows)

    def cut(self, n_rows: int) -> None:
        """Forget the batches that end after `n_rows`."""
        while self._ends[-1][0] > n_rows:
            self._ends.pop()
        self.n_rows, n_records = self._ends[-1]
        for file, size in (
            (self._log, n_records * _RECORD.size),
            (self._rows, self.n_rows * 4 * self.n_values),
        ):
            file.truncate(size)
            file.seek(size)

    def rows(self) -> Floats:
        """All rows so far, [n, n_values], mapped from the file."""
        if not self.n_rows:
            return np.empty((0, self.n_values), np.float32)
        return np.memmap(self.path, np.float32, "r", shape=(self.n_rows, self.n_values))

    def close(self) -> None:
        self._rows.close()
        self._log.close()


@contextmanager
def keep_or_say(where: Path) -> Iterator[None]:
    """PredictError with what to do, where the disk does not take what is kept."""
    try:
        yield
    except OSError as error:
        raise PredictError(
            "the probabilities cannot be kept",
            where=str(where),
            got=error.strerror or error,
            fix="make room, then give the same command again: it goes on where it stopped",
        ) from None


def open_both_ways(path: Path) -> IO[bytes]:
    """The file at its start, to be read and written without a buffer, made if it is not there."""
    path.touch()
    return path.open("r+b", buffering=0)


def write_all(file: IO[bytes], content: bytes) -> None:
    """All of `content`; OSError where the disk takes only a part."""
    if (n := file.write(content)) < len(content):
        raise OSError(f"the disk took {n} of {len(content)} bytes")


def _whole_records(log: IO[bytes]) -> bytes:
    content = log.read()
    return content[: len(content) // _RECORD.size * _RECORD.size]
