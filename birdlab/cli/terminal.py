"""Text for terminals: what a name from a table or an archive holds must not steer the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TextIO, cast

_STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab, line feed and carriage return, and those that turn the direction."""


def visible(text: str) -> str:
    """The text with characters that steer a terminal written as `\\x1b`, so that they are seen."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


class VisibleStream:
    """A text stream that writes only what is visible; the rest is that of the stream below.

    `rich_proxied_file` is how rich finds the stream below: its colours and bars steer on purpose.
    """

    def __init__(self, below: TextIO) -> None:
        self.rich_proxied_file = below

    def write(self, text: str) -> int:
        """How many characters were given; they are written visibly."""
        self.rich_proxied_file.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class DrawnStream:
    """Standard output or standard error as bars are drawn on it: whatever stands before it now."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        stream = getattr(sys, self._name)
        while (below := getattr(stream, "rich_proxied_file", None)) is not None:
            stream = below
        return getattr(stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Standard output and standard error write only what is visible, until the end."""
    below = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, VisibleStream(stream)) for stream in below)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = below
