"""The checksums of a bundle: what was uploaded is what is run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from birdlab.errors import PredictError

SUMS_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9_.+!-]*)")


def checksums_text(files: Iterable[Path]) -> str:
    """One line per file of a folder by name, as `sha256sum` writes and `sha256sum -c` reads it."""
    return "".join(f"{file_sha256(path)}  {path.name}\n" for path in sorted(files))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_checksums(folder: Path) -> int:
    """How many files of a bundle were compared with its SHA256SUMS.

    Raises PredictError for one that is missing or another one, and for a list that is none.
    """
    path = folder / SUMS_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _broken("the checksums of the bundle cannot be read", path, error) from None
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise _broken("the checksums of the bundle are damaged", path, f"line {number}")
        file = folder / found[2]
        if not file.is_file():
            raise _broken("a file of the bundle is missing", file, None)
        if file_sha256(file) != found[1]:
            raise _broken("a file of the bundle is not the one that was bundled", file, None)
    return len(lines)


def _broken(what: str, where: Path, got: object) -> PredictError:
    return PredictError(
        what, where=str(where), got=got, fix="upload the bundle again, as `birdlab bundle` wrote it"
    )
