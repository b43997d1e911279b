"""Decoding many files in order: in parallel, within bounded memory, bad files set aside."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from birdlab.data.hashes import stamp_file
from birdlab.data.headers import Header, read_header
from birdlab.data.quarantine import Listed, find_fault, find_oddity, list_files, load_listed
from birdlab.errors import AudioError, LabError

_IN_FLIGHT_BYTES = 160 << 20  # decoded samples that wait for their turn to be written
_LEAST_COST_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20
_HEADERS_AHEAD = 64
_FEWEST_BYTES_A_SECOND = 125
"""A second of anything but digital silence takes more in every coder; a header that states a
longer file is damaged, and would fill the disk on paper."""
_LONG_AUDIO_S = 3600.0  # what takes less needs no estimate
_LONGEST_TRIED_S, _TRIED_AUDIO_S, _MOST_TRIED = 300.0, 240.0, 100

A = TypeVar("A")
B = TypeVar("B")
Item = tuple[str, Path]
Progress = Callable[[int, int], None]
"""Called with the recordings done and all of them."""


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Need:
    """What a build is about to do: recordings to decode, bytes they take, bytes that are free.

    audio_s: how long the recordings play; seconds: how long decoding will take, as some of them
    took just now, 0 for little audio, None where none could be tried.
    """

    n_files: int
    n_bytes: int
    free_bytes: int
    audio_s: float
    seconds: float | None


class Decoded(Protocol):
    """What a file decodes to."""

    @property
    def duration_s(self) -> float: ...
    @property
    def scale(self) -> float: ...


D = TypeVar("D", bound=Decoded)
D_contra = TypeVar("D_contra", bound=Decoded, contravariant=True)


class Writer(Protocol[D_contra]):
    """Where decoded recordings go, in order."""

    def add(self, key: str, decoded: D_contra, /) -> None:
        """Take in one recording."""
        ...


@dataclass(frozen=True)
class Build(Generic[D]):
    """How a store takes in what it lacks.

    missing: the keys it lacks; decode: one file, or AudioError; writer: opens where the decoded
    go, in order; bytes_per_sample: what a sample takes there.
    """

    root: Path
    sample_rate_hz: int
    missing: Callable[[Iterable[str]], list[str]]
    decode: Callable[[Path], D]
    writer: Callable[[], AbstractContextManager[Writer[D]]]
    bytes_per_sample: int

    def run(
        self,
        items: Sequence[Item],
        jobs: int,
        progress: Progress | None,
        announce: Callable[[Need], None] | None,
    ) -> list[BadFile]:
        """The files of (key, path) pairs that cannot be used; all others are taken in.

        Files that the quarantine list knows are not decoded again. One process builds at a
        time. Raises LabError when the disk has no room.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        first = dict(reversed(items))  # of two files with one content the first is read
        with FileLock(self.root / "lock"), ThreadPoolExecutor(max(1, jobs)) as pool:
            listed = load_listed(self.root)
            wanted = self.missing(key for key, _ in items)
            known = {key for key in wanted if key in listed and not listed[key].used}
            todo = [(key, first[key]) for key in wanted if key not in known]
            headers = self._read_headers(pool, [path for _, path in todo])
            lengths_s = _expect_lengths([path for _, path in todo], headers)
            n_bytes = (lengths_s * self.sample_rate_hz).astype(np.int64) * self.bytes_per_sample
            free_bytes = shutil.disk_usage(self.root).free
            self._check_space(int(n_bytes.sum()), free_bytes)
            if announce is not None:
                seconds = self._expect_time(pool, [path for _, path in todo], lengths_s)
                announce(
                    Need(len(todo), int(n_bytes.sum()), free_bytes, float(lengths_s.sum()), seconds)
                )
            found: dict[str, Listed] = {}
            try:
                self._fill(pool, todo, headers, n_bytes, found, progress)
            finally:  # what an interrupted build has met is not decoded again either
                list_files(self.root, found)
        listed |= found
        return [
            BadFile(first[key], listed[key].reason)
            for key in wanted
            if key in listed and not listed[key].used
        ]

    def _fill(
        self,
        pool: ThreadPoolExecutor,
        todo: list[Item],
        headers: list[Header],
        n_bytes: npt.NDArray[np.int64],
        found: dict[str, Listed],
        progress: Progress | None,
    ) -> None:
        """Decode and write in order; what is to be listed goes to `found`."""
        costs = np.maximum(n_bytes, _LEAST_COST_BYTES)
        results = in_order(pool, self._attempt, [p for _, p in todo], costs, _IN_FLIGHT_BYTES)
        with self.writer() as writer:
            rows = zip(todo, headers, results, strict=True)
            for done, ((key, path), header, result) in enumerate(rows, start=1):
                if isinstance(result, BadFile):
                    found[key] = Listed(str(path), result.reason, used=False)
                else:
                    writer.add(key, result)
                    oddity = find_oddity(path, header, self.sample_rate_hz)
                    if oddity:
                        found[key] = Listed(str(path), oddity, used=True)
                if progress is not None:
                    progress(done, len(todo))

    def _attempt(self, path: Path) -> D | BadFile:
        try:
            decoded = self.decode(path)
        except AudioError as error:
            reason = error.what if error.got is None else f"{error.what}: {error.got}"
            return BadFile(path, reason)
        fault = find_fault(decoded.duration_s, decoded.scale)
        return BadFile(path, fault) if fault else decoded

    def _read_headers(self, pool: ThreadPoolExecutor, paths: list[Path]) -> list[Header]:
        costs = np.ones(len(paths), np.int64)
        return list(in_order(pool, read_header, paths, costs, _HEADERS_AHEAD))

    def _expect_time(
        self, pool: ThreadPoolExecutor, paths: list[Path], lengths_s: npt.NDArray[np.float64]
    ) -> float | None:
        """Seconds that decoding will take, as some files of usual length take; None if none can be.

        What is decoded for that is not kept: it takes a second or two. Little audio gives 0.
        """
        total_s = float(lengths_s.sum())
        if total_s < _LONG_AUDIO_S:
            return 0.0
        usual = np.flatnonzero((lengths_s > 0) & (lengths_s <= _LONGEST_TRIED_S))
        spread = usual[:: max(1, len(usual) // _MOST_TRIED)]
        tried = spread[: int(np.searchsorted(lengths_s[spread].cumsum(), _TRIED_AUDIO_S)) + 1]
        began = time.perf_counter()
        results = list(pool.map(self._attempt, [paths[place] for place in tried]))
        took = time.perf_counter() - began
        usable = [not isinstance(result, BadFile) for result in results]
        heard_s = float(lengths_s[tried][usable].sum())
        return took * total_s / heard_s if heard_s else None

    def _check_space(self, n_bytes: int, free_bytes: int) -> None:
        wanted = n_bytes + _SPARE_BYTES
        if n_bytes and free_bytes < wanted:
            raise LabError(
                "the disk has no room for the waveforms",
                where=str(self.root),
                got=f"{free_bytes / 1e9:.2f} GB free",
                expected=f"{wanted / 1e9:.2f} GB",
                fix="free some space, move the store (`stores` in birdlab.toml), or write "
                '`waveforms = "decode"` there to keep none',
            )


def _expect_lengths(paths: list[Path], headers: list[Header]) -> npt.NDArray[np.float64]:
    """The length of each file in seconds, from its header; 0 for a file without one."""
    stated_s = np.nan_to_num(np.array([header.duration_s for header in headers], np.float64))
    most_s = [(stamp_file(path) or ("", 0, 0))[1] / _FEWEST_BYTES_A_SECOND for path in paths]
    return np.minimum(stated_s, np.array(most_s, np.float64))


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[A], B],
    items: Sequence[A],
    costs: npt.NDArray[np.int64],
    budget: int,
) -> Iterator[B]:
    """`function` of each item, computed in the pool and given back in order.

    Items wait to start while the costs of those started and not yet given back exceed `budget`;
    one item is always let through, however large.
    """
    started: deque[tuple[Future[B], int]] = deque()
    spent = 0
    try:
        for item, cost in zip(items, costs.tolist(), strict=True):
            while started and spent + cost > budget:
                future, freed = started.popleft()
                yield future.result()
                del future
                spent -= freed
            started.append((pool.submit(function, item), cost))
            spent += cost
        while started:
            yield started.popleft()[0].result()
    finally:
        for future, _ in started:
            future.cancel()
