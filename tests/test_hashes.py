"""File hashes and the cache that remembers them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from birdlab.data.hashes import hash_files
from birdlab.errors import LabError

LONG_AGO_NS = 1_600_000_000_000_000_000


def write(path: Path, content: bytes, mtime_ns: int | None = LONG_AGO_NS) -> Path:
    path.write_bytes(content)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def cached(cache: Path) -> dict[str, str]:
    with sqlite3.connect(cache) as database:
        rows = dict(database.execute("SELECT path, digest FROM hashes"))
    database.close()
    return rows


def test_hashes_come_in_the_order_asked_and_none_where_there_is_no_file(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", b"one"), write(tmp_path / "ü 2", b"")
    paths = [two, tmp_path / "absent", one, tmp_path, one]
    for _ in range(2):
        assert hash_files(paths, tmp_path / "new" / "hashes.db") == [
            digest(b""),
            None,
            digest(b"one"),
            None,
            digest(b"one"),
        ]
    assert hash_files([], tmp_path / "hashes.db") == []


def test_a_file_is_read_again_only_when_its_size_or_time_changed(tmp_path: Path) -> None:
    cache = tmp_path / "hashes.db"
    path = write(tmp_path / "a", b"first")
    assert hash_files([path], cache) == [digest(b"first")]
    write(path, b"other")
    assert hash_files([path], cache) == [digest(b"first")]
    write(path, b"other", LONG_AGO_NS + 1)
    assert hash_files([path], cache) == [digest(b"other")]
    write(path, b"longer content", LONG_AGO_NS + 1)
    assert hash_files([path], cache) == [digest(b"longer content")]
    assert cached(cache) == {str(path): digest(b"longer content")}


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"first", None)
    assert hash_files([path], tmp_path / "hashes.db") == [digest(b"first")]
    assert cached(tmp_path / "hashes.db") == {}


def test_many_files_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / f"{n}", str(n).encode()) for n in range(1200)]
    wanted = [digest(str(n).encode()) for n in range(1200)]
    assert hash_files(paths, tmp_path / "hashes.db") == wanted
    monkeypatch.chdir(tmp_path)
    for path in paths:
        write(path, b"x" * path.stat().st_size)
    assert hash_files([Path(path.name) for path in paths], tmp_path / "hashes.db") == wanted


def test_a_cache_that_is_no_database_is_refused(tmp_path: Path) -> None:
    cache = write(tmp_path / "hashes.db", b"not a database" * 100)
    with pytest.raises(LabError, match="cannot be used") as caught:
        hash_files([cache], cache)
    assert "delete this file" in str(caught.value)


def test_processes_share_a_cache(tmp_path: Path) -> None:
    for n in range(300):
        write(tmp_path / f"{n}.ogg", str(n).encode())
    program = (
        "import sys; from pathlib import Path; from birdlab.data.hashes import hash_files;"
        "root = Path(sys.argv[1]); paths = [root / f'{n}.ogg' for n in range(300)];"
        "print(*hash_files(paths, root / 'hashes.db'))"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(3)
    ]
    for run in runs:
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        assert out.split() == [digest(str(n).encode()) for n in range(300)]
    assert len(cached(tmp_path / "hashes.db")) == 300
