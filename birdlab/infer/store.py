"""What is kept while a prediction runs, so that a broken one goes on: a folder beside the CSV.

`manifest.json`: the model, the files and everything else that the numbers depend on.
`files.jsonl`: how many windows each file turned out to have, or why it has none.
`member_<i>.f32`: the rows of a member, one after the other; `member_<i>.log`: after each batch
its number of rows and their CRC-32, so that half a batch, or one that a power cut took, is not
mistaken for a whole one.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PredictError

Floats = npt.NDArray[np.float32]
FORMAT = 1
_RECORD = struct.Struct("<II")


@dataclass(frozen=True)
class KnownFile:
    """What the file at a place turned out to be: its windows, and why it cannot be heard."""

    place: int
    n_windows: int
    reason: str | None


class MemberRows:
    """The rows of one member in two files; opening them drops what is not whole."""

    def __init__(self, folder: Path, member: int, n_classes: int) -> None:
        self.path, self.n_classes = folder / f"member_{member}.f32", n_classes
        self._rows = _open_both_ways(self.path)
        self._log = _open_both_ways(self.path.with_suffix(".log"))
        self.n_rows = 0
        self._ends = [(0, 0)]  # rows and records up to each batch
        row_bytes = 4 * n_classes
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
        """Keep a batch [B, C]."""
        content = np.ascontiguousarray(rows, np.float32).tobytes()
        try:
            _write(self._rows, content)
            _write(self._log, _RECORD.pack(len(rows), zlib.crc32(content)))
        except OSError as error:
            raise PredictError(
                "the probabilities cannot be kept",
                where=str(self.path),
                got=error,
                fix="make room, then give the same command again: it goes on where it stopped",
            ) from None
        self._note(len(rows))

    def cut(self, n_rows: int) -> None:
        """Forget the batches that end after `n_rows`."""
        while self._ends[-1][0] > n_rows:
            self._ends.pop()
        self.n_rows, n_records = self._ends[-1]
        for file, size in (
            (self._log, n_records * _RECORD.size),
            (self._rows, self.n_rows * 4 * self.n_classes),
        ):
            file.truncate(size)
            file.seek(size)

    def rows(self) -> Floats:
        """All rows so far, [n, C], mapped from the file."""
        if not self.n_rows:
            return np.empty((0, self.n_classes), np.float32)
        return np.memmap(self.path, np.float32, "r", shape=(self.n_rows, self.n_classes))

    def close(self) -> None:
        self._rows.close()
        self._log.close()


class WorkStore:
    """The open work folder of a prediction; one process at a time.

    `resumed` says in words why an earlier one was thrown away, or how far it had come; "" for a
    fresh start. `known`: place → what is known of the file. `manifest` is the one that counts, with
    the settings of the run that began.
    Raises PredictError when another process is at work in the folder.
    """

    def __init__(self, folder: Path, wanted: Mapping[str, Any], n_members: int) -> None:
        self.folder, self.resumed = folder, ""
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise PredictError(
                "another prediction is writing the same file",
                where=str(folder),
                fix="wait for it, or give another --output",
            ) from None
        self.manifest = self._continue_or_begin(json.loads(json.dumps(wanted)))
        n_classes = len(self.manifest["classes"])
        self.members = [MemberRows(folder, i, n_classes) for i in range(n_members)]
        self._files = _open_both_ways(folder / "files.jsonl")
        self.known: dict[int, KnownFile] = {}
        n_bytes = 0
        for line in self._files.read().splitlines(keepends=True):
            if (entry := _read_entry(line)) is None:
                break
            self.known[entry.place] = entry
            n_bytes += len(line)
        self._files.truncate(n_bytes)
        self._files.seek(n_bytes)
        n_known = sum(entry.n_windows for entry in self.known.values())
        for rows in self.members:
            rows.cut(n_known)  # what is known of no file any more
        kept = max(rows.n_rows for rows in self.members)
        if kept:
            self.resumed = f"going on: {kept} windows were heard before the last run broke off"

    def _continue_or_begin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            earlier = None
        except (OSError, ValueError):
            earlier = {}
        if earlier is not None:
            loose = {key for key in ("sessions", "threads") if wanted.get(key) is None}
            wanted = {**wanted, **{key: earlier.get(key) for key in loose}}
            if earlier == wanted:
                return wanted
            changed = [key for key in wanted if earlier.get(key) != wanted[key]]
            self.resumed = f"starting anew: {', '.join(changed)} changed since the last run"
            wanted = {**wanted, **dict.fromkeys(loose)}
            for old in self.folder.iterdir():
                if old.name != "lock":
                    old.unlink()
        self._save(wanted)
        return wanted

    def _save(self, manifest: Mapping[str, Any]) -> None:
        temporary = self.folder / "manifest.json.tmp"
        temporary.write_text(json.dumps(manifest), encoding="utf-8")
        temporary.replace(self.folder / "manifest.json")

    def settle(self, sessions: int, threads: int) -> None:
        """Keep with what the windows are computed, so that a run that goes on does the same."""
        self.manifest = {**self.manifest, "sessions": sessions, "threads": threads}
        self._save(self.manifest)

    def note_file(self, place: int, n_windows: int, reason: str | None = None) -> None:
        """Keep what a file turned out to be; `n_windows` is 0 for one that gave none.

        One that was noted before only changes when it can no longer be read.
        """
        entry, before = KnownFile(place, n_windows, reason), self.known.get(place)
        if before is None or (reason is not None and before != entry):
            _write(self._files, json.dumps(asdict(entry)).encode() + b"\n")
            self.known[place] = entry

    def is_whole(self, member: int, n_files: int) -> bool:
        """Has the member heard every window of all files?"""
        n_windows = sum(entry.n_windows for entry in self.known.values())
        return len(self.known) == n_files and self.members[member].n_rows == n_windows

    def begin(self, members: Sequence[int]) -> int:
        """How many windows all of these members have heard; what one of them has more is cut."""
        n_rows = min(self.members[i].n_rows for i in members)
        for i in members:
            self.members[i].cut(n_rows)
        return n_rows

    def append(self, members: Sequence[int], answers: Sequence[Floats]) -> None:
        """Keep a batch of these members."""
        for i, rows in zip(members, answers, strict=True):
            self.members[i].append(rows)

    def remove(self) -> None:
        """Take the folder away, which has done its work."""
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Let go of the folder, so that another run may go on."""
        for rows in self.members:
            rows.close()
        self._files.close()
        self._lock.close()


def _read_entry(line: bytes) -> KnownFile | None:
    """What a line of `files.jsonl` says; None for one that is not whole."""
    try:
        return KnownFile(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None


def _open_both_ways(path: Path) -> IO[bytes]:
    """The file at its start, to be read and written without a buffer, made if it is not there."""
    path.touch()
    return path.open("r+b", buffering=0)


def _write(file: IO[bytes], content: bytes) -> None:
    """All of `content`; OSError where the disk takes only a part."""
    if (n := file.write(content)) < len(content):
        raise OSError(f"the disk took {n} of {len(content)} bytes")


def _whole_records(log: IO[bytes]) -> bytes:
    content = log.read()
    return content[: len(content) // _RECORD.size * _RECORD.size]
