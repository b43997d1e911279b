"""What a machine may lack while a cell is trained: memory, room on the disk. In words."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from birdlab.errors import BirdlabError, CellError

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
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
