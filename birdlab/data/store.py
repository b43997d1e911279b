"""The waveform store: every recording decoded once, read back crop by crop.

Content-addressed: a key names the content of a file, the decoding and the sample rate, so one
store serves any number of tables, and adding a table decodes only its new files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import to_float
from birdlab.data.building import BadFile, Build, Item, Need, Progress
from birdlab.data.index import KeyIndex, content_key
from birdlab.data.ondemand import OnDemand
from birdlab.data.shards import SHARD_BYTES, Shards
from birdlab.errors import DataError

INDEX_FOLDER = "decode"
"""Where the index lies when no samples are kept; keys are the same, so both may exist."""


class WaveStore:
    """Recordings at one sample rate below `root`; made on first use.

    With `waveforms="store"` decoded samples are kept and mapped. With "decode" only length and
    peak of each recording are, and every crop is decoded from its file: slower, no disk space,
    and the same samples to 1 in 32,767. Any number of processes may read while one builds. A
    store travels to worker processes as its path only. In memory it is a sorted list of key
    beginnings, 12 bytes a recording; the rest of the index and the samples are mapped files. A
    row number, once given out, stays valid for the life of the object.
    """

    def __init__(
        self,
        root: Path,
        sample_rate_hz: int = 32_000,
        *,
        shard_bytes: int = SHARD_BYTES,
        waveforms: Literal["store", "decode"] = "store",
    ) -> None:
        self.root, self.sample_rate_hz = root, sample_rate_hz
        self.shard_bytes, self.waveforms = shard_bytes, waveforms
        self._medium: Shards | OnDemand = (
            Shards(root, sample_rate_hz, shard_bytes)
            if waveforms == "store"
            else OnDemand(root / INDEX_FOLDER, sample_rate_hz)
        )
        self._index = KeyIndex(self._medium.load_part)

    def __reduce__(self) -> tuple[object, ...]:
        make = partial(type(self), shard_bytes=self.shard_bytes, waveforms=self.waveforms)
        return make, (self.root, self.sample_rate_hz)

    def key(self, file_hash: str) -> str:
        """The key of a file's content at this store's rate, 32 hex digits."""
        return content_key(file_hash, self.sample_rate_hz)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The distinct keys the store does not hold, in the order given."""
        distinct = list(dict.fromkeys(keys))
        self._refresh()
        rows = self._index.find_all(distinct).tolist()
        pairs = zip(distinct, rows, strict=True)
        if not self._medium.may_move:
            return [key for key, row in pairs if row < 0]
        holds, fields = self._medium.holds, self._index.row
        return [key for key, row in pairs if row < 0 or not holds(fields(row))]

    def locate(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each key, [len(keys)]; DataError that lists what the store does not hold."""
        rows = self._index.find_all(keys)
        if (rows < 0).any():
            self._refresh()
            rows = self._index.find_all(keys)
        _refuse_absent(self.root, [keys[place] for place in np.flatnonzero(rows < 0).tolist()])
        return rows

    def length_of(self, row: int) -> int:
        """The length in samples of the recording in a row."""
        return int(self._index.row(row)[3])

    def scale_of(self, row: int) -> float:
        """The true peak of the recording in a row."""
        return float(self._index.row(row)[4])

    def read_row(self, row: int, start: int, n: int) -> npt.NDArray[np.int16]:
        """Samples start..start+n of the recording in a row, [n] int16, its peak at ±32767.

        A view of the mapped file: only the crop is read, nothing is copied, and it may not be
        written to; or an array decoded from the recording's file. Raises DataError for a crop
        that leaves the recording and for a file that has moved or changed.
        """
        fields = self._index.row(row)
        length = fields[3]
        if start < 0 or n < 0 or start + n > length:
            raise DataError(
                "a crop leaves its recording",
                where=fields[0].decode(),
                got=f"samples {start}..{start + n}",
                expected=f"within 0..{length}",
            )
        return self._medium.read(fields, start, n)

    def n_samples(self, key: str) -> int:
        """The length of a recording in samples; DataError when the store does not hold it."""
        return self.length_of(self._row(key))

    def scale(self, key: str) -> float:
        """The true peak of a recording, 1.0 at full scale; DataError as n_samples."""
        return self.scale_of(self._row(key))

    def read_int16(self, key: str, start: int, n: int) -> npt.NDArray[np.int16]:
        """Samples start..start+n of a recording as stored, [n] int16; a view, see read_row.

        Raises DataError for a key the store does not hold and for a crop that leaves the
        recording.
        """
        return self.read_row(self._row(key), start, n)

    def read(self, key: str, start: int, n: int) -> npt.NDArray[np.float32]:
        """Samples start..start+n of a recording at its own level, [n] float32.

        Only the crop is read. Raises DataError for a key the store does not hold and for a crop
        that leaves the recording.
        """
        row = self._row(key)
        return to_float(self.read_row(row, start, n), self.scale_of(row))

    def read_all(self, key: str) -> npt.NDArray[np.float32]:
        """The whole recording at its own level, [n_samples] float32; equals decode().to_float()."""
        return self.read(key, 0, self.n_samples(key))

    def build(
        self,
        items: Sequence[Item],
        *,
        jobs: int = 1,
        progress: Progress | None = None,
        announce: Callable[[Need], None] | None = None,
    ) -> list[BadFile]:
        """The files of (key, path) pairs that cannot be used; all others are stored.

        Decodes what is missing in `jobs` threads and writes in the order given, so an
        interrupted build that is run again ends with the same bytes; it loses at most the
        shard it was writing. Bad files go into the quarantine list and are not decoded again
        while their content stays as it is. A second process waits for the first. `announce` is
        told the need once, before anything is decoded. Raises LabError when the disk has no
        room for what is missing.
        """
        medium: Any = self._medium
        bad = Build[Any](
            self.root,
            self.sample_rate_hz,
            self.missing,
            medium.decode,
            medium.writer,
            medium.bytes_per_sample,
        ).run(items, jobs, progress, announce)
        self._refresh()
        return bad

    def _refresh(self) -> None:
        """Take in the parts that have appeared since."""
        self._index.extend(self._medium.list_parts())

    def _row(self, key: str) -> int:
        row = self._index.find(key)
        return row if row >= 0 else int(self.locate([key])[0])


def _refuse_absent(root: Path, keys: Sequence[str]) -> None:
    """DataError that lists keys without a recording; nothing when there are none."""
    if keys:
        raise DataError(
            "the waveform store does not hold "
            + ("a recording" if len(keys) == 1 else f"{len(keys):,} recordings"),
            where=str(root),
            got=", ".join(keys[:8]) + (" ..." if len(keys) > 8 else ""),
            fix="build the store for this table first: birdlab data build SPEC",
        )
