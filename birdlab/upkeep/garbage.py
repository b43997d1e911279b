"""What a lab could do without: cells of no run, leftovers of what was killed, old failures."""

from __future__ import annotations

import math
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from birdlab.cellfiles import CARD, WEIGHTS
from birdlab.heardstore import heard_folders, say_whose
from birdlab.jobwriter import is_left_behind
from birdlab.keeping import cells_in_work
from birdlab.lab import Lab
from birdlab.recorded import cells_of, iter_line, load_records
from birdlab.tracking.drivernotes import load_drivers
from birdlab.upkeep.waveshards import find_unused_shards, remove_shard

KEEP_DAYS = 14.0
"""What nothing refers to stays so long: a sweep under way has no records yet."""
_WRITING_DAYS = 1.0
"""A file that is being written is done by then."""
_GONE = ".gone"
PAGES = {"why": "birdlab why", "augment": "birdlab augment"}
"""Folders of pages, with the command that writes them."""
_DRIVEN = ("cell", "waves", "driver", "heard")
"""What stays while a driver runs."""


@dataclass(frozen=True)
class Garbage:
    """What can be freed, why, its size; kinds as in docs/lab.md."""

    kind: str
    path: Path
    reason: str
    n_bytes: int


def find_garbage(
    lab: Lab, keep_days: float = KEEP_DAYS, *, waveforms: bool = False
) -> list[Garbage]:
    """What could be freed, the largest first; nothing is changed.

    Never a cell that a record needs, for itself or as a start, or whose lock is held; while a
    driver runs no cell at all, since it may count on any; nothing younger than `keep_days` days
    unless it is certainly of no use; no waveform, unless `waveforms` asks for shards that no data
    set of the lab uses; no model, nothing outside the lab's stores, nothing behind a symbolic
    link.
    """
    found = [
        item
        for item in (
            *_cells(lab, keep_days),
            *_parts(lab, keep_days),
            *_jobs(lab),
            *_failed(lab, keep_days),
            *_drivers(lab, keep_days),
            *_unfinished(lab),
            *_heard(lab, keep_days),
            *_pages(lab, keep_days),
            *(_shards(lab, keep_days) if waveforms else ()),
        )
        if _is_inside(lab, item.path)
    ]
    return sorted(found, key=lambda item: (-item.n_bytes, str(item.path)))


def free_garbage(lab: Lab, found: Sequence[Garbage]) -> list[Garbage]:
    """Remove what was found; what really went. What is needed or held by now stays."""
    needed, driven = needed_cells(lab), is_driven(lab)
    gone = []
    for item in found:
        if not _is_inside(lab, item.path) or (driven and item.kind in _DRIVEN):
            continue
        if item.kind in ("cell", "part") and _cell_id(item.path) in needed:
            continue
        try:
            if item.kind == "waves":
                remove_shard(lab, item.path)
            elif item.kind in ("cell", "part"):
                with FileLock(_lock_path(lab, item.path), timeout=0):
                    _remove(item.path)
            else:
                _remove(item.path)
        except (Timeout, OSError):
            continue
        gone.append(item)
    return gone


def needed_cells(lab: Lab) -> set[str]:
    """The cells that records refer to, those that drivers work for now, and all they start from."""
    ids = {str(cell["cell_id"]) for record in load_records(lab) for cell in cells_of(record)}
    ids |= cells_in_work(lab)
    return {needed for cell_id in ids for needed in iter_line(lab, cell_id)}


def is_driven(lab: Lab, keep_days: float = KEEP_DAYS) -> bool:
    """Whether a driver runs in the lab, as far as can be told.

    Jobs of another machine count as long as they are younger than `keep_days` days.
    """
    jobs = [folder for folder in lab.cells.glob(".jobs-*") if not is_left_behind(folder)]
    if any(_is_young(folder, keep_days) for folder in jobs):
        return True
    return any(note.state == "running" for note in load_drivers(lab))


def is_locked(lab: Lab, cell_id: str) -> bool:
    """Whether a process is working on a cell."""
    path = _lock_path(lab, lab.cells / cell_id)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; links count nothing."""
    return sum(found.st_size for found in _iter_stats(path) if stat.S_ISREG(found.st_mode))


def _iter_stats(path: Path) -> Iterator[os.stat_result]:
    """What the disk says of a path and of all below it; what goes away meanwhile is left out.

    Links are not followed. Whoever trains or tidies beside this removes files at any moment.
    """
    folders = () if path.is_symlink() else os.walk(path)
    below = (Path(at, name) for at, dirs, files in folders for name in dirs + files)
    for one in chain((path,), below):
        with suppress(FileNotFoundError):
            yield one.lstat()


def _cells(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    needed = needed_cells(lab)
    for card in [] if is_driven(lab, keep_days) else sorted(lab.cells.glob(f"*/{CARD}")):
        cell = card.parent
        if cell.name in needed or cell.name.startswith(".") or _is_young(cell, keep_days):
            continue
        if not is_locked(lab, cell.name):
            yield Garbage("cell", cell, "no run refers to it", size_of(cell))
    for left in sorted(lab.cells.glob(f".*{_GONE}")):
        yield Garbage("unfinished", left, "half removed", size_of(left))


def _parts(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    needed = needed_cells(lab)
    for part in sorted(lab.cells.glob(".*.part")):
        cell_id = _cell_id(part)
        whole = (lab.cells / cell_id / WEIGHTS).is_file()
        if is_locked(lab, cell_id) or (not whole and cell_id in needed):
            continue
        if whole or not _is_young(part, keep_days):
            reason = "its cell is finished" if whole else "nobody went on with it"
            yield Garbage("part", part, reason, size_of(part))


def _jobs(lab: Lab) -> Iterator[Garbage]:
    for folder in sorted(lab.cells.glob(".jobs-*")):
        if is_left_behind(folder):
            yield Garbage("jobs", folder, "its driver is dead", size_of(folder))


def _failed(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    folder = lab.stores / "failed"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not _is_young(path, keep_days):
            yield Garbage("failed", path, "an old failure", size_of(path))


def _drivers(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    folder = lab.stores / "drivers"
    running = {note.name for note in load_drivers(lab) if note.state == "running"}
    for path in sorted([*folder.glob("[!.]*.json"), *folder.glob("[!.]*.log")]):
        if path.stem not in running and not _is_young(path, keep_days):
            yield Garbage("driver", path, "it ended long ago", size_of(path))


def _unfinished(lab: Lab) -> Iterator[Garbage]:
    stores = ("runs", "runs/*", "sweeps", "sweeps/*", "models", "drivers", "noise", *PAGES)
    patterns = [".*.part", *(f"{store}/.*.part" for store in stores)]
    models = ("models/.*.onnx", "models/.promotion-*", "models/*/.*.part")
    for pattern in (*patterns, *models, ".import-*"):
        yield from _old_writes(sorted(lab.stores.glob(pattern)))
    yield from _old_writes(sorted(lab.cells.glob("[!.]*/.*.part")))


def _heard(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    """What teachers said that nobody has used for long: it can be heard again."""
    folders = [] if is_driven(lab, keep_days) else sorted(heard_folders(lab).glob("*"))
    for folder in folders:
        if folder.name.endswith(_GONE):
            yield Garbage("unfinished", folder, "half removed", size_of(folder))
        elif folder.is_dir() and not _is_young(folder, keep_days):
            yield Garbage("heard", folder, f"{say_whose(folder)}, unused", size_of(folder))


def _pages(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    """Pages that a command writes again when it is asked to; sound makes them large."""
    for store, command in PAGES.items():
        for path in sorted((lab.stores / store).glob("[!.]*.html")):
            if not _is_young(path, keep_days):
                yield Garbage("page", path, f"{command} writes it again", size_of(path))


def _shards(lab: Lab, keep_days: float) -> Iterator[Garbage]:
    for index in [] if is_driven(lab, keep_days) else find_unused_shards(lab):
        n_bytes = size_of(index) + size_of(index.with_suffix(".i16"))
        yield Garbage("waves", index, "of no data set of the lab", n_bytes)


def _old_writes(paths: Sequence[Path]) -> Iterator[Garbage]:
    for path in paths:
        if not _is_young(path, _WRITING_DAYS):
            yield Garbage("unfinished", path, "its writer died", size_of(path))


def _is_young(path: Path, days: float) -> bool:
    """Whether something in it changed within so many days, or it is gone by now."""
    newest = max((found.st_mtime for found in _iter_stats(path)), default=math.inf)
    return time.time() - newest < days * 86_400


def _is_inside(lab: Lab, path: Path) -> bool:
    """Whether a path is no link and really lies in the lab's stores."""
    if path.is_symlink():
        return False
    return path.resolve().is_relative_to(lab.stores.resolve())


def _cell_id(path: Path) -> str:
    """The cell of a finished or an unfinished folder."""
    return path.name.removeprefix(".").removesuffix(".part")


def _lock_path(lab: Lab, path: Path) -> Path:
    return lab.cells / f".{_cell_id(path)}.lock"


def _remove(path: Path) -> None:
    """Remove a file or a folder; a folder loses its name first, so that no half of it is used."""
    if not path.is_dir():
        path.unlink()
        return
    gone = path.with_name(f".{path.name.removeprefix('.')}{_GONE}")
    path.rename(gone)
    shutil.rmtree(gone)
