"""The file that runs travel in: a plain tar whose first member says what is in it."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from birdlab.errors import LabError
from birdlab.infer.checksums import file_sha256

FORMAT = 1
MANIFEST = "birdlab-export.json"
MAX_GB = 100.0
"""What an archive may hold unless the caller allows more."""
_MAX_MANIFEST = 64 << 20
_MAKE_ROOM = "make room: birdlab gc; or have it exported without weights: --no-weights"
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAMES = re.compile(
    rf"sweeps/{_PLAIN}\.json|bets/{_PLAIN}\.jsonl|"
    rf"runs/[0-9a-f]{{12}}(?:\.json|/{_PLAIN}\.parquet)|cells/[0-9a-f]{{16}}/(?:{_PLAIN}/)?{_PLAIN}|foreign/[0-9a-f]{{12}}\.onnx"
)


@dataclass(frozen=True)
class Manifest:
    """What an archive holds: run ids, the size and SHA-256 of each file, ledger rows."""

    runs: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]]
    ledger: tuple[Mapping[str, Any], ...] = field(default=())


@dataclass(frozen=True)
class Room:
    """What is about to be written and what the disk has left, in bytes."""

    needed_bytes: int
    free_bytes: int


Announce = Callable[[Room], None]
"""Is told the room before the first byte is written."""


def write_archive(
    path: Path,
    files: Mapping[str, Path],
    runs: Sequence[str],
    ledger: Sequence[Mapping[str, Any]],
    announce: Announce | None = None,
) -> Manifest:
    """What the tar at `path` holds: files under their names, written whole or not at all.

    Raises LabError when `path` exists already, cannot be written, or would not fit on the disk.
    """
    if path.exists():
        raise LabError("the archive is there already", where=str(path), fix="choose another name")
    try:
        needed = sum(file.stat().st_size for file in files.values())
        room = Room(needed, shutil.disk_usage(path.parent).free)
    except OSError as error:
        raise _unwritable(path, error) from None
    _check_room(room, path, announce, "write it elsewhere, or leave weights out: --no-weights")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        said: dict[str, dict[str, Any]] = {
            name: {"size": file.stat().st_size, "sha256": file_sha256(file)}
            for name, file in files.items()
        }
        manifest = Manifest(tuple(runs), said, tuple(ledger))
        content = json.dumps({"format": FORMAT, **vars(manifest)}, indent=1).encode()
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, MANIFEST, io.BytesIO(content), len(content))
            for name, file in files.items():
                with file.open("rb") as handle:
                    _add(tar, name, handle, said[name]["size"])
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)
    return manifest


def _unwritable(path: Path, error: OSError) -> LabError:
    return LabError(
        "the archive cannot be written",
        where=str(path),
        got=error,
        fix="name a file in a folder where you may write, with room for it",
    )


def _check_room(room: Room, path: Path, announce: Announce | None, fix: str) -> None:
    """Tell the room for an archive; LabError where less is free than is needed."""
    if announce is not None:
        announce(room)
    if room.needed_bytes > room.free_bytes:
        raise LabError(
            "the archive does not fit on the disk",
            where=str(path),
            got=f"{room.free_bytes / 1e9:.2f} GB free",
            expected=f"{room.needed_bytes / 1e9:.2f} GB",
            fix=fix,
        )


def unpack_archive(
    path: Path, folder: Path, max_gb: float = MAX_GB, announce: Announce | None = None
) -> Manifest:
    """What an archive holds, unpacked into an empty folder and every file of it checked.

    Only plain files under names that an export makes are taken: no links, devices, folders of
    their own, absolute paths or `..`, nothing compressed or sparse, no name twice, at most
    `max_gb` in all, each with the size and SHA-256 that the manifest states. Raises LabError, also
    where the disk has no room for as many bytes as the archive has.
    """
    with _opened(path) as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or first.size > _MAX_MANIFEST:
            raise _refused(path, "it does not begin with its list of contents")
        manifest = _read_manifest(tar, first, path)
        room = Room(path.stat().st_size, shutil.disk_usage(folder).free)
        _check_room(room, path, announce, _MAKE_ROOM)
        seen: set[str] = set()
        budget = int(max_gb * 1e9)
        for member in iter(tar.next, None):
            _check_member(member, manifest, seen, path)
            seen.add(member.name)
            budget -= member.size
            if budget < 0:
                raise _refused(path, f"it holds more than {max_gb:g} GB", "--max-gb allows more")
            tar.extract(member, folder, filter="data")
            if file_sha256(folder / member.name) != manifest.files[member.name].get("sha256"):
                raise _refused(path, f"{member.name} is not what its list says")
    lacking = sorted(set(manifest.files) - seen)
    if lacking:
        raise _refused(path, f"it lacks {', '.join(lacking[:3])}: it was cut off")
    return manifest


def _check_member(member: tarfile.TarInfo, manifest: Manifest, seen: set[str], path: Path) -> None:
    name = member.name
    if not member.isreg() or member.issparse():
        raise _refused(path, f"{name!r} is no plain file")
    if not _NAMES.fullmatch(name) or ".." in PurePosixPath(name).parts:
        raise _refused(path, f"{name!r} is no name that an export makes")
    if name in seen or name not in manifest.files:
        raise _refused(path, f"{name!r} is there twice, or not in its list")
    if member.size != manifest.files[name].get("size"):
        raise _refused(path, f"{name} has another size than its list says")


def _read_manifest(tar: tarfile.TarFile, first: tarfile.TarInfo, path: Path) -> Manifest:
    file = tar.extractfile(first) if first.isreg() else None
    try:
        content = json.loads(file.read() if file is not None else b"")
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, this birdlab reads {FORMAT}")
        files = {str(name): dict(said) for name, said in content["files"].items()}
        rows = tuple(dict(row) for row in content["ledger"])
        return Manifest(tuple(map(str, content["runs"])), files, rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path, f"its list of contents cannot be read ({error})") from None


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except (OSError, tarfile.TarError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _refused(path, str(error), _MAKE_ROOM) from None
        raise _refused(path, str(error)) from None


def _refused(path: Path, why: str, fix: str = "export the runs again: birdlab export") -> LabError:
    return LabError("the archive is not taken", where=str(path), got=why, fix=fix)


def _add(tar: tarfile.TarFile, name: str, handle: Any, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, handle)
