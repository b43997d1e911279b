"""What a machine may lack or refuse, in words: memory, room on the disk, files."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from birdlab.errors import BirdlabError, CellError, LabError

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_MAKE_ROOM = (
    "make room (birdlab doctor says how much is free, birdlab gc frees some), then give the same "
    "command again: what is finished is kept"
)
_REFUSED = {
    **dict.fromkeys(_FULL, _MAKE_ROOM),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "let the user that runs birdlab read and write it, or name another place",
    ),
    errno.EROFS: "name a place that can be written to",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files: ulimit -n 4096"),
    errno.ENAMETOOLONG: "give it a shorter name",
    **dict.fromkeys((errno.EIO, errno.ESTALE), "look at the disk or the network drive it is on"),
}
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")


@contextmanager
def in_words(what: str, folder: Path, going_on: Callable[[], str]) -> Iterator[None]:
    """Turn a lack of memory or disk into a CellError that says what to do; others pass.

    what: the cell; folder: where it is written; going_on: from where it would continue.
    """
    try:
        yield
    except BirdlabError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise _no_memory(error, what) from None
        if is_full(error):
            raise CellError(
                "there is no room left on the disk",
                where=str(folder),
                got=_said(error),
                fix=f"make room: the same command continues from {going_on()}",
            ) from None
        raise


def of_the_machine(error: OSError | MemoryError) -> LabError | None:
    """What the machine lacks or refuses, in words; None for what is no fault of the machine."""
    if is_out_of_memory(error):
        return LabError(
            "there is not enough memory",
            got=_said(error),
            fix="close other programs; with --jobs or --sessions, ask for fewer",
        )
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    return LabError(
        "the machine refuses to read or write a file",
        where=str(error.filename) if error.filename else None,
        got=error.strerror,
        fix=_REFUSED[error.errno],
    )


def _no_memory(error: Exception, what: str) -> CellError:
    return CellError(
        "there is not enough memory",
        where=what,
        got=_said(error),
        fix="lower train.batch (with train.accumulate a step keeps its clips), or use "
        "train.precision: bf16 or model.grad_checkpointing: true; while the cell is evaluated, "
        "lower evaluate.batch; with several cells at once, lower --jobs",
    )


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or a file as large as it may become."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(f"(os error {number})" in str(error) for number in _FULL)  # of safetensors


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device or the machine has no memory left."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in str(error) for words in _NO_MEMORY)
