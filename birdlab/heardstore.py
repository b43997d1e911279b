"""The files that a teacher's outputs lie in: parts of some recordings, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock

from birdlab.errors import DataError, LabError
from birdlab.lab import Lab, write_whole

Half = npt.NDArray[np.float16]
Part = Mapping[str, Half]
"""Recordings by name, each [W, D]."""

ABOUT = "about.json"
_LOCK = ".lock"


def heard_folders(lab: Lab) -> Path:
    """The folder of everything that teachers said; with the cells where those lie elsewhere."""
    return lab.stores / "teachers" if lab.cells_folder is None else lab.cells_folder / ".teachers"


def say_whose(folder: Path) -> str:
    """Whose outputs a folder holds, in words; its name where it does not say."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return f"{about['target']} of {about['teacher']} every {about['hop_s']:g} s"
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


class HeardStore:
    """The outputs of one teacher on one grid, below `folder`; made on first use.

    `about` says in words whose they are and is kept beside them. The time of the folder is that of
    its last use.

    A part is `<digest>.npy`, [windows, D] float16, and `<digest>.parquet`, which lists its
    recordings and is written last. Any number of processes may read while one writes.
    """

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        self.folder, self.about = folder, about

    def complete(
        self, names: Sequence[str], made: Callable[[Sequence[int]], Iterator[Part]]
    ) -> None:
        """Store what is lacking of `names`; `made(places)` gives the parts of those.

        Raises LabError when a part cannot be written.
        """
        if not self._lacking(names):
            with suppress(OSError):  # a lab that is only read
                os.utime(self.folder)
            return
        try:
            write_whole(self.folder / ABOUT, json.dumps(dict(self.about), sort_keys=True))
        except OSError as error:
            raise self._unwritten(error) from None
        with FileLock(self.folder / _LOCK):
            lacking = self._lacking(names)
            for part in made(lacking) if lacking else ():
                self._save(part)

    def load(self, names: Sequence[str], lengths: Sequence[int]) -> tuple[Half, ...]:
        """The outputs of recordings in order, mapped; `lengths` are their windows.

        Raises DataError for one that is not there or has another number of windows.
        """
        index = self._index()
        arrays: dict[str, Half] = {}
        found = []
        for name, n in zip(names, lengths, strict=True):
            digest, first, held = index.get(name, ("", 0, -1))
            if held != n:
                raise self._broken(f"{held} windows of {name}", f"{n}")
            if digest not in arrays:
                arrays[digest] = self._array(digest)
            rows = arrays[digest][first : first + n]
            if len(rows) != n:
                raise self._broken(f"{digest}.npy ends within {name}", f"{n} windows")
            found.append(rows)
        return tuple(found)

    def _array(self, digest: str) -> Half:
        path = self.folder / f"{digest}.npy"
        try:
            array: Half = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._broken(f"{path.name}: {error}", "an array") from None
        if array.ndim != 2 or array.dtype != np.float16:
            raise self._broken(f"{path.name}: {array.dtype} {array.shape}", "float16 [W, D]")
        return array

    def _lacking(self, names: Sequence[str]) -> list[int]:
        """The places of the distinct names that are not stored."""
        known, lacking = set(self._index()), []
        for place, name in enumerate(names):
            if name not in known:
                known.add(name)
                lacking.append(place)
        return lacking

    def _index(self) -> dict[str, tuple[str, int, int]]:
        """Recording → the part it is in, its first window there, how many it has."""
        index: dict[str, tuple[str, int, int]] = {}
        for path in sorted(self.folder.glob("[!.]*.parquet")):
            try:
                table = pd.read_parquet(path)
                rows = zip(table["recording"], table["first"], table["n"], strict=True)
                index |= {str(name): (path.stem, int(first), int(n)) for name, first, n in rows}
            except (OSError, ValueError, KeyError) as error:
                raise self._broken(f"{path.name}: {error}", "an index") from None
        return index

    def _save(self, part: Part) -> None:
        n = np.array([len(rows) for rows in part.values()], np.int64)
        digest = hashlib.sha256("\n".join(part).encode()).hexdigest()[:16]
        table = pd.DataFrame({"recording": list(part), "first": np.cumsum(n) - n, "n": n})
        hidden = self.folder / f".{digest}.{os.getpid()}.part"
        try:
            with hidden.open("wb") as file:
                np.save(file, np.concatenate(list(part.values())), allow_pickle=False)
                os.fsync(file.fileno())
            hidden.replace(self.folder / f"{digest}.npy")
            table.to_parquet(hidden, index=False)
            hidden.replace(self.folder / f"{digest}.parquet")
        except OSError as error:
            raise self._unwritten(error) from None
        finally:
            hidden.unlink(missing_ok=True)

    def _unwritten(self, error: OSError) -> LabError:
        return LabError(
            "the outputs of a teacher cannot be written",
            where=str(self.folder),
            got=error,
            fix="make room and run the command again: what was heard is kept",
        )

    def _broken(self, got: str, expected: str) -> DataError:
        return DataError(
            "the stored outputs of a teacher do not hold what they must",
            where=str(self.folder),
            got=got,
            expected=expected,
            fix=f"remove {self.folder} and run the command again: it hears anew",
        )
