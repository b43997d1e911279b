"""Files that a command was told to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from birdlab.errors import LabError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """LabError in place of an OSError while `path`, a file or a folder of files, is written."""
    try:
        yield
    except OSError as error:
        raise LabError(
            "a file cannot be written",
            where=str(path),
            got=error.strerror or error,
            fix="name a file or a folder where you may write and that has room",
        ) from None


def write_file(path: Path, text: str) -> None:
    """Write a file whole, and its folder where there is none; LabError where that fails."""
    from birdlab.lab import write_whole

    if path.is_dir():
        raise LabError(
            "a file is to be written, and this is a folder",
            where=str(path),
            expected="the name of a file",
        )
    with writing(path):
        write_whole(path, text)
