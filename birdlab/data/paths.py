"""File names from untrusted tables, and the files of a folder; none may leave its root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from birdlab.data.audiofile import SUFFIXES
from birdlab.errors import DataError

OUTSIDE = "a link out of the folder"


def leaving(names: Sequence[str], folder: Path) -> dict[str, str]:
    """The names that do not lie below `folder`, with the reason for each.

    Refused are empty and absolute names, `..`, and symbolic links that end outside. The folder
    itself may be a link. Files need not exist. Each folder is listed once, so that a table of
    many thousand rows costs no look-up per row.
    """
    root = os.path.realpath(folder)
    refused: dict[str, str] = {}
    by_parent: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        parent, _, last = tidy(name).rpartition("/")
        if last in ("", ".") or "\0" in name:
            refused[name] = "not a file name"
        elif name.startswith("/"):
            refused[name] = "absolute"
        elif ".." in name.split("/"):
            refused[name] = "has .."
        else:
            by_parent.setdefault(parent, []).append((last, name))
    for parent, members in by_parent.items():
        place = f"{folder}/{parent}"
        if not _below(os.path.realpath(place), root):
            refused.update((name, OUTSIDE) for _, name in members)
            continue
        links = _links_in(place)
        for last, name in members:
            if last in links and not _below(os.path.realpath(f"{place}/{last}"), root):
                refused[name] = OUTSIDE
    return refused


def absent(names: Sequence[str], folder: Path) -> list[str]:
    """The names below `folder` for which there is nothing; each folder is listed once."""
    known: dict[str, set[str]] = {}
    gone = []
    for name in names:
        parent, _, last = tidy(name).rpartition("/")
        if parent not in known:
            known[parent] = _names_in(f"{folder}/{parent}")
        if last not in known[parent]:
            gone.append(name)
    return gone


def tidy(name: str) -> str:
    """`name` as a posix path without `.` parts and doubled slashes; "" stays ""."""
    if "//" in name or "./" in name or name.endswith(("/", ".")):
        return str(PurePosixPath(name)) if name else ""
    return name


def audio_below(folder: Path) -> list[str]:
    """The audio files below `folder` by suffix, as sorted posix names relative to it.

    Linked folders are not entered. Raises DataError for a linked file that ends outside, and for a
    folder that may not be read: its files would be missing without a word.
    """
    names = []
    for place, _, files in os.walk(folder, onerror=_refuse_unread):
        relative = Path(place).relative_to(folder)
        names += [
            (relative / file).as_posix() for file in files if Path(file).suffix.lower() in SUFFIXES
        ]
    refuse_leaving(names, folder)
    return sorted(names)


def refuse_leaving(names: Sequence[str], folder: Path) -> None:
    """DataError that lists the names that leave `folder`."""
    refused = leaving(names, folder)
    if refused:
        shown = [f"{name!r} ({reason})" for name, reason in list(refused.items())[:5]]
        raise DataError(
            f"{len(refused)} file names leave their folder",
            where=str(folder),
            got=", ".join(shown),
            fix="move the files below the folder",
        )


def lab_file(lab_root: Path, name: str, where: str) -> Path:
    """The path of a file that a spec or the lab file names, below the folder of the lab.

    `where` is the field that names it. Raises DataError when it lies outside or is no file.
    """
    root = lab_root.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise DataError(
            "a file lies outside the lab",
            where=where,
            got=name,
            expected="a file below the folder of birdlab.toml",
        )
    if not path.is_file():
        raise DataError(
            "a file is not there",
            where=where,
            got=str(path),
            fix="put it there, or correct the name",
        )
    return path


def first_folder(root: Path, names: Iterable[str]) -> Path | None:
    """The first of the named folders of `root` that exists."""
    return next((root / name for name in names if (root / name).is_dir()), None)


def _refuse_unread(error: OSError) -> None:
    raise DataError(
        "a folder of audio cannot be read",
        where=str(error.filename),
        got=error.strerror,
        fix="correct its permissions, or move it out of the data set",
    )


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _names_in(place: str) -> set[str]:
    try:
        with os.scandir(place) as entries:
            return {entry.name for entry in entries}
    except (OSError, ValueError):
        return set()


def _links_in(place: str) -> set[str]:
    try:
        with os.scandir(place) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:
        return set()
