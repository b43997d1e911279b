"""The SQLite file that remembers facts of files: headers by path and time, the rest by content.

Several processes may use one file. A value is text or bytes; what it means is the caller's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from birdlab.data.hashes import Stamp, has_settled
from birdlab.errors import LabError

Value = str | bytes

_LOCK_WAIT_S = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS headers (path TEXT PRIMARY KEY, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (kind TEXT NOT NULL, key TEXT NOT NULL, value NOT NULL,
  PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""


def recall_headers(cache: Path, stamps: Iterable[Stamp]) -> dict[Stamp, str]:
    """What is remembered of those files that are as they were then; LabError for no database."""
    wanted = set(stamps)
    with _database(cache) as database:
        rows = database.execute(
            "SELECT path, size, mtime_ns, value FROM headers"
            " WHERE path IN (SELECT value FROM json_each(?))",
            [json.dumps(sorted(path for path, _, _ in wanted))],
        )
        return {row[:3]: row[3] for row in rows if row[:3] in wanted}


def remember_headers(cache: Path, values: Mapping[Stamp, str]) -> None:
    """Keep what was read of files that did not change meanwhile and are not brand new."""
    rows = [(*stamp, value) for stamp, value in values.items() if has_settled(stamp)]
    with _database(cache) as database, database:
        database.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", rows)


def recall_facts(cache: Path, kind: str, keys: Iterable[str]) -> dict[str, Value]:
    """The values of one kind that are remembered for these keys; LabError for no database."""
    with _database(cache) as database:
        rows = database.execute(
            "SELECT key, value FROM facts"
            " WHERE kind = ? AND key IN (SELECT value FROM json_each(?))",
            [kind, json.dumps(sorted(set(keys)))],
        )
        return dict(rows)


def remember_facts(cache: Path, kind: str, values: Mapping[str, Value]) -> None:
    """Keep values of one kind by key; one that is there already is replaced."""
    rows = [(kind, key, value) for key, value in values.items()]
    with _database(cache) as database, database:
        database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)


@contextmanager
def _database(cache: Path) -> Iterator[sqlite3.Connection]:
    cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(cache, timeout=_LOCK_WAIT_S)) as database:
            database.executescript(_TABLES)
            yield database
    except sqlite3.Error as error:
        raise LabError(
            "the cache of facts about files cannot be used",
            where=str(cache),
            got=str(error),
            fix="delete this file; it is made again",
        ) from None
