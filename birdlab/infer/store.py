"""What is kept while a prediction runs, so that a broken one goes on: a folder beside the CSV.

`manifest.json`: the model, the files and everything else that the numbers depend on.
`files.jsonl`: how many windows each file turned out to have, or why it has none.
`member_<i>.f32`: what a member says of each input, one after the other; `member_<i>.log`: after
each batch its number of rows and their CRC-32, so that half a batch, or one that a power cut took,
is not mistaken for a whole one.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PredictError
from birdlab.evaluate.passes import count_passes
from birdlab.evaluate.windows import Windowing
from birdlab.infer.jsontext import parse_json
from birdlab.infer.memberrows import MemberRows, keep_or_say, open_both_ways, write_all

Floats = npt.NDArray[np.float32]
FORMAT = 2
"""Of the folder; another one is begun anew."""
_MOST = 2**31
"""No prediction has more files, and no file more windows."""
_OWN = re.compile(r"lock|manifest\.json(\.tmp)?|files\.jsonl|member_\d+\.(f32|log)")


@dataclass(frozen=True)
class KnownFile:
    """What the file at a place turned out to be: its windows, and why it cannot be heard."""

    place: int
    n_windows: int
    reason: str | None


class WorkStore:
    """The open work folder of a prediction; one process at a time.

    `resumed` says in words why an earlier one was thrown away, or how far it had come; "" for a
    fresh start. `known`: place → what is known of the file. `manifest` is the one that counts, with
    the settings of the run that began.
    Raises PredictError when another process is at work in the folder, when it holds what is not of
    a prediction, and, as every change does, when the disk does not take it.
    """

    def __init__(self, folder: Path, wanted: Mapping[str, Any], n_members: int) -> None:
        self.folder, self.resumed = folder, ""
        with keep_or_say(folder):
            self._open(wanted, n_members)

    def _open(self, wanted: Mapping[str, Any], n_members: int) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [path.name for path in sorted(folder.iterdir()) if not _is_own(path)]
        if strangers:
            raise PredictError(
                "the folder for work beside the output holds other files",
                where=str(folder),
                got=", ".join(strangers[:3]),
                fix="move them away, or name another --output",
            )
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
        windowing = Windowing(**self.manifest["windowing"])
        self.per_pass = windowing.windows_per_pass
        self.hops = windowing.window_samples // int(self.manifest["hop_samples"])
        n_values = self.per_pass * len(self.manifest["classes"])
        self.members = [MemberRows(folder, i, n_values) for i in range(n_members)]
        self._files = open_both_ways(folder / "files.jsonl")
        self.known: dict[int, KnownFile] = {}
        n_bytes = 0
        for line in self._files.read().splitlines(keepends=True):
            if (entry := _read_entry(line)) is None:
                break
            self.known[entry.place] = entry
            n_bytes += len(line)
        self._files.truncate(n_bytes)
        self._files.seek(n_bytes)
        n_known = self._count_known()
        for rows in self.members:
            rows.cut(n_known)  # what is known of no file any more
        kept = max(rows.n_rows for rows in self.members)
        if kept:
            what = "windows" if self.per_pass == 1 else "passes"
            self.resumed = f"going on: {kept} {what} were heard before the last run broke off"

    def _continue_or_begin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        try:
            earlier = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            earlier = None
        except (OSError, ValueError):
            earlier = {}
        if earlier is not None:
            earlier = earlier if isinstance(earlier, dict) else {}
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
        with keep_or_say(self.folder):
            self._save(self.manifest)

    def note_file(self, place: int, n_windows: int, reason: str | None = None) -> None:
        """Keep what a file turned out to be; `n_windows` is 0 for one that gave none.

        One that was noted before only changes when it can no longer be read.
        """
        entry, before = KnownFile(place, n_windows, reason), self.known.get(place)
        if before is None or (reason is not None and before != entry):
            with keep_or_say(self.folder):
                write_all(self._files, json.dumps(asdict(entry)).encode() + b"\n")
            self.known[place] = entry

    def is_whole(self, member: int, n_files: int) -> bool:
        """Has the member heard every window of all files?"""
        return len(self.known) == n_files and self.members[member].n_rows == self._count_known()

    def count_inputs(self, n_windows: int) -> int:
        """How many passes it takes to hear a file of `n_windows`."""
        return count_passes(n_windows, self.per_pass, self.hops)

    def _count_known(self) -> int:
        """How many passes all known files take."""
        return sum(self.count_inputs(entry.n_windows) for entry in self.known.values())

    def begin(self, members: Sequence[int]) -> int:
        """How many passes all of these members have heard; what one of them has more is cut."""
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
    if not line.endswith(b"\n"):
        return None
    try:
        entry = KnownFile(**parse_json(line))
    except (ValueError, TypeError):
        return None
    whole = all(type(n) is int and 0 <= n <= _MOST for n in (entry.place, entry.n_windows))
    return entry if whole and isinstance(entry.reason, str | None) else None


def _is_own(path: Path) -> bool:
    """Is this a file of a work folder, which may be taken away?"""
    return _OWN.fullmatch(path.name) is not None and not path.is_dir()
