"""How far a prediction is, on a terminal or in the log of a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

LINE_EVERY_S, TERMINAL_EVERY_S = 10.0, 0.5


class Progress:
    """Lines on a stream: one that renews itself on a terminal, else one every ten seconds.

    With no stream it says nothing. `counted` is what there are so many of.
    """

    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._renews = stream is not None and stream.isatty()
        self._open = ""
        self.counted = "windows"
        self._said_at = self._began = clock()
        self._from = 0

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._stream is not None:
            print(self._wipe() + line, file=self._stream, flush=True)

    def begin(self, n_done: int) -> None:
        """What follows starts with `n_done` of them that cost nothing now."""
        self._began, self._from = self._clock(), n_done

    def update(self, what: str, n_done: int, n_total: int) -> None:
        """`n_done` of about `n_total` are heard."""
        now = self._clock()
        every = TERMINAL_EVERY_S if self._renews else LINE_EVERY_S
        if self._stream is None or now - self._said_at < every or n_done <= self._from:
            return
        self._said_at = now
        passed = now - self._began
        left = passed / (n_done - self._from) * max(0, n_total - n_done)
        rate = (n_done - self._from) / passed if passed else 0.0
        line = f"{what}: {n_done}/{n_total} {self.counted}, {rate:.1f}/s, {as_time(left)} left"
        if self._renews:
            print(self._wipe() + line, end="", file=self._stream, flush=True)
            self._open = line
        else:
            self.say(line)

    def _wipe(self) -> str:
        """What takes the renewed line away again."""
        length, self._open = len(self._open), ""
        return "\r" + " " * length + "\r" if length else ""


def as_time(seconds: float) -> str:
    """`95 s`, `12 min` or `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
