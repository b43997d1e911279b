"""Ctrl-C where no command can take it: while the program is imported, and while it ends."""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended."""


def end_when_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show an error that nobody caught; end the program at once, without a word, for Ctrl-C."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


def heed_no_more() -> None:
    """Ignore Ctrl-C from here on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
