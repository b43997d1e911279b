"""Where a command spends its time, told to the logger `birdlab`: heard under -v alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("birdlab")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log how many seconds the block took, under its name, also where an error ends it."""
    began = time.perf_counter()
    try:
        yield
    finally:
        LOGGER.info("%s: %.2f s", what, time.perf_counter() - began)
