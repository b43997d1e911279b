"""Index of the files of a waveform store: keys to rows, memory-mapped, growing at its end only.

A part is `NNNNN.npy`, a structured array with a `key` field, one row a recording. The rows of all
parts are numbered through in the order in which the parts were taken in, so a row number stays
what it is for the life of the object. In memory is a sorted list of key beginnings, 12 bytes a
recording; all else stays in the mapped files.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import DECODE_SEMANTICS

Rows = npt.NDArray[np.void]
Int64 = npt.NDArray[np.int64]

_HEAD_BYTES = 8


class KeyIndex:
    """Rows of mapped parts, found by key; `load` maps the part of a number.

    When a key is in several rows the last one counts.
    """

    def __init__(self, load: Callable[[int], Rows]) -> None:
        self._load = load
        self._numbers: list[int] = []
        self._parts: list[Rows] = []
        self._firsts: list[int] = []
        self._heads = np.zeros(0, np.uint64)
        self._order = np.zeros(0, np.int32)
        self.n_rows = 0

    def extend(self, numbers: Sequence[int]) -> None:
        """Take in the parts that are not in yet; rows that are keep their numbers."""
        known = set(self._numbers)
        fresh = [number for number in numbers if number not in known]
        if not fresh:
            return
        parts = [self._load(number) for number in fresh]
        heads, order = [self._heads], [self._order]
        for number, part in zip(fresh, parts, strict=True):
            heads.append(_heads(part["key"]))
            order.append(np.arange(self.n_rows, self.n_rows + len(part), dtype=np.int32))
            self._numbers.append(number)
            self._parts.append(part)
            self._firsts.append(self.n_rows)
            self.n_rows += len(part)
        joined, rows = np.concatenate(heads), np.concatenate(order)
        ranks = np.argsort(joined, kind="stable")
        self._heads, self._order = joined[ranks], rows[ranks]

    def find(self, key: str) -> int:
        """The row of a key; -1 when there is none."""
        head = np.uint64(
            int.from_bytes(key.encode()[:_HEAD_BYTES].ljust(_HEAD_BYTES, b"\0"), "big")
        )
        return self._search(key.encode(), head, int(self._heads.searchsorted(head, "right")) - 1)

    def find_all(self, keys: Sequence[str]) -> Int64:
        """The row of each key, [len(keys)] int64; -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        if not len(keys) or not self.n_rows:
            return found
        wanted = np.array([key.encode() for key in keys], np.bytes_)
        heads = _heads(wanted)
        last = np.maximum(self._heads.searchsorted(heads, "right") - 1, 0)
        rows = self._order[last].astype(np.int64)
        same = self._keys_of(rows) == wanted
        found[same] = rows[same]
        for place in np.flatnonzero(~same & (self._heads[last] == heads)):
            found[place] = self._search(bytes(wanted[place]), heads[place], int(last[place]))
        return found

    def row(self, number: int) -> tuple[Any, ...]:
        """The fields of a row; IndexError when there is none of that number."""
        if not 0 <= number < self.n_rows:
            raise IndexError(f"row {number} of {self.n_rows}")
        part = bisect_right(self._firsts, number) - 1
        return cast("tuple[Any, ...]", self._parts[part].item(number - self._firsts[part]))

    def _search(self, key: bytes, head: np.uint64, place: int) -> int:
        """The row of `key`, looked for from `place` backwards among those that begin as it does."""
        while place >= 0 and self._heads[place] == head:
            row = int(self._order[place])
            if self.row(row)[0] == key:
                return row
            place -= 1
        return -1

    def _keys_of(self, rows: Int64) -> npt.NDArray[np.bytes_]:
        """The keys in those rows."""
        keys = np.zeros(len(rows), self._parts[0].dtype["key"])
        part_of = np.searchsorted(self._firsts, rows, side="right") - 1
        for part in np.unique(part_of):
            at = np.flatnonzero(part_of == part)
            keys[at] = self._parts[part]["key"][rows[at] - self._firsts[part]]
        return keys


def content_key(file_hash: str, sample_rate_hz: int) -> str:
    """The key of decoded content: file hash, numbers of the decoder and rate, 32 hex digits."""
    text = f"{file_hash}|{DECODE_SEMANTICS}|{sample_rate_hz}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _heads(keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each key as numbers in the order of the keys."""
    return keys.astype(f"S{_HEAD_BYTES}").view(">u8").astype(np.uint64)
