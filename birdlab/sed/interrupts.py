"""Ctrl-C and SIGTERM while a cell is trained: a step ends first, and what was reached is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Hold:
    """Notes Ctrl-C and SIGTERM in `asked` instead of breaking off; a second Ctrl-C breaks off.

    A second SIGTERM does not, nor one that comes while the first is being told: a scheduler, a
    driver and a pool may each send one. Use it as a context manager: where one was noted, it ends
    with KeyboardInterrupt. Signals that are ignored stay ignored, and outside the main thread
    nothing is held.
    """

    def __init__(self) -> None:
        self.asked = False
        self._by_term = self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Hold:
        self._before = _handle(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _restore(self._before)
        if self._by_term and signal.SIGTERM in self._before:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Break off here if someone asked for it."""
        if self.asked:
            raise KeyboardInterrupt

    @contextmanager
    def released(self) -> Iterator[None]:
        """A part that a signal breaks off at once, since nothing of it could be saved."""
        self.check()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._at_once or (self.asked and number == signal.SIGINT):
            raise KeyboardInterrupt
        self.asked = True
        self._by_term |= number == signal.SIGTERM


@contextmanager
def stoppable() -> Iterator[None]:
    """A part that SIGTERM breaks off as Ctrl-C does, with KeyboardInterrupt.

    A SIGTERM that is ignored stays ignored, and outside the main thread nothing changes.
    """
    before = _handle(_interrupt)
    try:
        yield
    finally:
        _restore(before)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGTERM:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _handle(handler: Any) -> dict[signal.Signals, Any]:
    """The handlers that were replaced."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [s for s in SIGNALS if signal.getsignal(s) not in (signal.SIG_IGN, None)]
    return {s: signal.signal(s, handler) for s in heeded}


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
