"""Facts of audio files that cleaning and the audit ask for, remembered by content.

Headers are read from the files. Signals, fingerprints and trims need decoded samples, which come
from the waveform store: what it does not hold is decoded into it first, or `NeedsBuild` says how
much is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.factcache import (
    Value,
    recall_facts,
    recall_headers,
    remember_facts,
    remember_headers,
)
from birdlab.data.fingerprint import PRINT_SEMANTICS, Fingerprint, fingerprint
from birdlab.data.hashes import hash_files, stamp_file
from birdlab.data.headers import Header, find_reason, read_header
from birdlab.data.quarantine import load_listed
from birdlab.data.signals import (
    SIGNAL_SEMANTICS,
    clipped_share,
    digest_samples,
    silent_share,
    trim_range,
)
from birdlab.errors import DataError

_KEPT_AT_ONCE = 64  # an interrupted run loses at most so many facts

Int16 = npt.NDArray[np.int16]
Progress = Callable[[int, int], None]


class NeedsBuild(DataError):  # noqa: N818
    """Audio that a question needs is not in the store and may not be decoded now.

    `n_files` is the number of recordings, counted by content.
    """

    def __init__(self, n_files: int) -> None:
        self.n_files = n_files
        super().__init__(
            "the waveform store does not hold all recordings yet",
            got=f"{n_files} recordings that are not decoded",
            fix="run `birdlab data build SPEC` first",
        )


class BadFile(Protocol):
    """A file that could not be decoded, and why."""

    @property
    def path(self) -> Path: ...
    @property
    def reason(self) -> str: ...


class Waves(Protocol):
    """What Facts asks of a waveform store, or of a reader that decodes each time."""

    @property
    def root(self) -> Path: ...
    @property
    def sample_rate_hz(self) -> int: ...
    def key(self, file_hash: str) -> str: ...
    def missing(self, keys: Iterable[str]) -> list[str]: ...
    def n_samples(self, key: str) -> int: ...
    def scale(self, key: str) -> float: ...
    def read_int16(self, key: str, start: int, n: int) -> Int16: ...
    def build(
        self, items: Sequence[tuple[str, Path]], *, jobs: int, progress: Progress | None
    ) -> Sequence[BadFile]: ...


@dataclass(frozen=True)
class _Answers:
    """Per path asked for: its key ("" for no file) and why it has no facts ("" if it has)."""

    keys: list[str]
    reasons: list[str]
    values: dict[str, Value]

    def each(self) -> list[Value | None]:
        return [self.values.get(key) for key in self.keys]


class Facts:
    """Facts of files, each found once per content and kept in `facts.sqlite` in the store.

    `hashes` is the cache of file hashes. With `build` the store decodes what it misses, in
    `jobs` threads, else NeedsBuild is raised; facts that are remembered need no store. A file
    that is missing, or in the store's quarantine list, is a row with a reason. `progress` is
    called with the recordings done and all of them. Memory is bounded: `jobs` recordings are
    looked at at once.
    """

    def __init__(
        self,
        store: Waves,
        hashes: Path,
        *,
        build: bool,
        jobs: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self.store, self.hashes, self.build = store, hashes, build
        self.jobs, self.progress = max(1, jobs), progress
        self.cache = store.root / "facts.sqlite"

    def headers(self, paths: Sequence[Path]) -> pd.DataFrame:
        """What the header of each path states, a row per path; nothing is decoded.

        Columns: sample_rate_hz and channels (int64, 0 if unknown), codec (as `ogg/vorbis`,
        `wav/pcm_16`, `mp3`), duration_s (NaN if unknown), reason ("" for a readable file).
        """
        stamps = [stamp_file(path) for path in paths]
        known = recall_headers(self.cache, (stamp for stamp in stamps if stamp is not None))
        missing = sorted({stamp for stamp in stamps if stamp is not None} - known.keys())
        with ThreadPoolExecutor(self.jobs) as pool:
            found = pool.map(read_header, [Path(path) for path, _, _ in missing])
            fresh = {s: json.dumps(header) for s, header in zip(missing, found, strict=True)}
        remember_headers(self.cache, fresh)
        known.update(fresh)
        rows = [
            read_header(path) if stamp is None else Header(*json.loads(known[stamp]))
            for path, stamp in zip(paths, stamps, strict=True)
        ]
        return pd.DataFrame(rows, columns=list(Header._fields)).astype(
            {"sample_rate_hz": "int64", "channels": "int64", "duration_s": "float64"}
        )

    def signals(self, paths: Sequence[Path]) -> pd.DataFrame:
        """What the samples of each path say, a row per path.

        Columns: content (32 hex digits of the decoded samples, "" where there are none),
        duration_s, peak (1.0 is full scale), clipped_share and silent_share (0..1), NaN where
        there are no samples, and reason ("" for a file that could be decoded).
        """

        def listen(key: str) -> str:
            samples, scale, rate_hz = self._samples(key), self.store.scale(key), self._rate_hz
            facts = {
                "content": digest_samples(samples, scale),
                "duration_s": samples.shape[0] / rate_hz,
                "peak": scale,
                "clipped_share": clipped_share(samples, scale),
                "silent_share": silent_share(samples, rate_hz),
            }
            return json.dumps(facts)

        answers = self._ask(paths, f"signals {SIGNAL_SEMANTICS}", listen)
        nan = float("nan")
        nothing = ("", nan, nan, nan, nan)
        columns = ["content", "duration_s", "peak", "clipped_share", "silent_share"]
        rows: list[Any] = []
        for value in answers.each():
            facts = None if value is None else json.loads(value)
            rows.append(nothing if facts is None else [facts[column] for column in columns])
        table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "float64"))
        table["reason"] = answers.reasons
        return table

    def fingerprints(self, paths: Sequence[Path]) -> list[Fingerprint]:
        """The acoustic fingerprint of each path, for `near_pairs`; empty for an unreadable file."""

        def take(key: str) -> bytes:
            return fingerprint(self._samples(key), self._rate_hz).tobytes()

        answers = self._ask(paths, f"fingerprint {PRINT_SEMANTICS}", take)
        return [np.frombuffer(value or b"", "<u4") for value in answers.each()]  # type: ignore[arg-type]

    def trims(self, paths: Sequence[Path], top_db: float, margin_s: float) -> pd.DataFrame:
        """Start and end in seconds of what is left of each path without silent ends.

        See `signals.trim_range`. Columns: start_s, end_s; NaN for an unreadable file.
        """

        def trim(key: str) -> str:
            return json.dumps(trim_range(self._samples(key), self._rate_hz, top_db, margin_s))

        kind = f"trim {SIGNAL_SEMANTICS} {float(top_db)} {float(margin_s)}"
        values = self._ask(paths, kind, trim).each()
        rows = [(np.nan, np.nan) if value is None else json.loads(value) for value in values]
        return pd.DataFrame(rows, columns=["start_s", "end_s"], dtype="float64")

    @property
    def _rate_hz(self) -> int:
        return self.store.sample_rate_hz

    def _samples(self, key: str) -> Int16:
        return self.store.read_int16(key, 0, self.store.n_samples(key))

    def _ask(self, paths: Sequence[Path], kind: str, find: Callable[[str], Value]) -> _Answers:
        """The facts of one kind, from memory or by `find(key)`."""
        hashes = hash_files(paths, self.hashes)
        keys = ["" if digest is None else self.store.key(digest) for digest in hashes]
        path_of = {key: path for key, path in zip(keys, paths, strict=True) if key}
        listed = load_listed(self.store.root)
        reasons = {k: listed[k].reason for k in path_of if k in listed and not listed[k].used}
        values = recall_facts(self.cache, kind, path_of.keys() - reasons.keys())
        wanted = [key for key in path_of if key not in values and key not in reasons]
        reasons.update(self._build({key: path_of[key] for key in wanted}))
        values.update(self._find(kind, [key for key in wanted if key not in reasons], find))
        said = [
            reasons.get(key, "") if key else find_reason(path)
            for key, path in zip(keys, paths, strict=True)
        ]
        return _Answers(keys, said, values)

    def _build(self, path_of: dict[str, Path]) -> dict[str, str]:
        """Why recordings that the store was to take in cannot be used, by key."""
        missing = self.store.missing(path_of)
        if missing and not self.build:
            raise NeedsBuild(len(missing))
        if not missing:
            return {}
        items = [(key, path_of[key]) for key in missing]
        key_of = {path: key for key, path in items}
        bad = self.store.build(items, jobs=self.jobs, progress=self.progress)
        return {key_of[file.path]: file.reason for file in bad}

    def _find(
        self, kind: str, keys: Sequence[str], find: Callable[[str], Value]
    ) -> dict[str, Value]:
        """`find` of each key, kept batch by batch."""
        found: dict[str, Value] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            for start in range(0, len(keys), _KEPT_AT_ONCE):
                part = keys[start : start + _KEPT_AT_ONCE]
                fresh = dict(zip(part, pool.map(find, part), strict=True))
                remember_facts(self.cache, kind, fresh)
                found.update(fresh)
                if self.progress is not None:
                    self.progress(len(found), len(keys))
        return found
