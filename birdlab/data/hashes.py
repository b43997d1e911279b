"""Content hashes of files, remembered by path, size and time so that planning reads no audio."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from birdlab.errors import LabError

HASH_DIGITS = 32
_SETTLED_NS = 2_000_000_000  # a file may change again within one tick of a coarse clock
_THREADS = 4
_ASKED_AT_ONCE = 500
_LOCK_WAIT_S = 60.0

Stamp = tuple[str, int, int]
"""Absolute path, size in bytes, time of the last change in ns."""


def hash_files(paths: Sequence[Path], cache: Path) -> list[str | None]:
    """The first 32 hex digits of the SHA-256 of each file; None where there is no such file.

    A folder, or a file that may not be read, counts as none. Hashes are kept in the SQLite file
    `cache` and taken from it while path, size and time of change agree; a file changed in the
    last two seconds is hashed again next time. Several processes may use one cache. Raises
    LabError when the cache is no database.
    """
    stamps = [stamp_file(path) for path in paths]
    wanted = {stamp for stamp in stamps if stamp is not None}
    with _database(cache) as database:
        known = _recall(database, wanted)
        missing = sorted(wanted - known.keys())
        if missing:
            with ThreadPoolExecutor(_THREADS) as pool:
                fresh = dict(zip(missing, pool.map(_hash, missing), strict=True))
            _remember(database, fresh)
            known.update({stamp: digest for stamp, digest in fresh.items() if digest is not None})
    return [known.get(stamp) if stamp is not None else None for stamp in stamps]


def stamp_file(path: Path) -> Stamp | None:
    """What tells a file's content without reading it; None where there is no regular file."""
    try:
        info = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(info.st_mode):
        return None
    return str(path.absolute()), info.st_size, info.st_mtime_ns


def has_settled(stamp: Stamp) -> bool:
    """Whether the file is as its stamp says and was not changed in the last two seconds."""
    path, _, mtime_ns = stamp
    return mtime_ns < time.time_ns() - _SETTLED_NS and stamp_file(Path(path)) == stamp


def hash_file(path: Path) -> str | None:
    """The first 32 hex digits of the SHA-256 of a file; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_DIGITS]
    except OSError:
        return None


def _hash(stamp: Stamp) -> str | None:
    return hash_file(Path(stamp[0]))


@contextmanager
def _database(cache: Path) -> Iterator[sqlite3.Connection]:
    cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(cache, timeout=_LOCK_WAIT_S)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INTEGER NOT NULL,"
                " mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID"
            )
            yield database
    except sqlite3.Error as error:
        raise LabError(
            "the cache of file hashes cannot be used",
            where=str(cache),
            got=str(error),
            fix="delete this file; it is made again",
        ) from None


def _recall(database: sqlite3.Connection, wanted: set[Stamp]) -> dict[Stamp, str]:
    """The digests of those stamps that the cache holds unchanged."""
    paths = sorted(path for path, _, _ in wanted)
    known: dict[Stamp, str] = {}
    for start in range(0, len(paths), _ASKED_AT_ONCE):
        part = paths[start : start + _ASKED_AT_ONCE]
        marks = ",".join("?" * len(part))
        rows = database.execute(
            f"SELECT path, size, mtime_ns, digest FROM hashes WHERE path IN ({marks})", part
        )
        for path, size, mtime_ns, digest in rows:
            if (path, size, mtime_ns) in wanted:
                known[path, size, mtime_ns] = digest
    return known


def _remember(database: sqlite3.Connection, fresh: dict[Stamp, str | None]) -> None:
    """Keep the digests of files that did not change meanwhile and are not brand new."""
    rows = [
        (*stamp, digest)
        for stamp, digest in fresh.items()
        if digest is not None and has_settled(stamp)
    ]
    with database:
        database.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", rows)
