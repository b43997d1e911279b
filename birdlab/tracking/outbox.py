"""The outbox: a thread that writes to MLflow, so that training never waits for it.

It holds names only; what is to be written lies on the disk. So an outbox that is left, or
killed, with names in it loses nothing: the next command finds the same wishes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from birdlab.errors import BirdlabError
from birdlab.tracking.client import first_line, may_pass

Item = tuple[str, str]
"""What kind of thing, and its name."""
FIRST_WAIT_S, LONGEST_WAIT_S, LAST_WAIT_S = 0.5, 15.0, 1.0
"""Before the next try: at first, at most, and at most while someone waits for the end."""


class Outbox:
    """Writes what it is given, with `write`, until that succeeds; `close` waits a bounded time.

    What the store cannot take just now goes to the end of the line, and the next try waits twice
    as long as the one before. `refused` holds what it will not take however often it is asked,
    with the reason; `trouble` is the last thing that went wrong.
    """

    def __init__(self, write: Callable[[Item], object]) -> None:
        self._write = write
        self._waiting: dict[Item, None] = {}
        self._busy: Item | None = None
        self._changed = threading.Condition()
        self._closing = self._gone = False
        self._failures = 0
        self._thread: threading.Thread | None = None
        self.refused: dict[Item, str] = {}
        self.trouble = ""

    def put(self, item: Item) -> None:
        """Ask for something to be written; asking again while it waits is the same wish."""
        with self._changed:
            self._waiting[item] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, wait_s: float, waiting: Callable[[int], None] = lambda _: None) -> list[Item]:
        """What could not be written within `wait_s`, after which nothing more is begun.

        `waiting` is called once a second with how much is left.
        """
        last = time.monotonic() + wait_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while (left := self._left()) and (remaining := last - time.monotonic()) > 0:
                self._changed.wait(min(remaining, 1.0))
                waiting(len(left))
            self._gone = True
            self._changed.notify_all()
            return [*self._left(), *self.refused]

    def _left(self) -> list[Item]:
        busy = [] if self._busy is None or self._busy in self._waiting else [self._busy]
        return [*busy, *self._waiting]

    def _run(self) -> None:
        while (item := self._take()) is not None:
            self._deliver(item)

    def _take(self) -> Item | None:
        """The next in line; None when there will be no more."""
        with self._changed:
            while not self._gone and not (self._waiting or self._closing):
                self._changed.wait()
            if self._gone or not self._waiting:
                return None
            self._busy = next(iter(self._waiting))
            del self._waiting[self._busy]
            return self._busy

    def _deliver(self, item: Item) -> None:
        error: Exception | None = None
        try:
            self._write(item)
        except Exception as caught:  # a bug here must not end the thread unheard
            error = caught
        with self._changed:
            self._busy = None
            self._failures = self._failures + 1 if error else 0
            if error is None:
                self.refused.pop(item, None)
            else:
                self.trouble = first_line(error)
                if not isinstance(error, BirdlabError) and may_pass(error):
                    self._waiting.setdefault(item)
                else:
                    self.refused[item] = f"{type(error).__name__}: {self.trouble}"
                    self._failures = 0
            self._changed.notify_all()
            self._pause()

    def _pause(self) -> None:
        """Wait before the next try, for longer with every failure; shortly near the end."""
        if not self._failures:
            return
        wait_s = min(FIRST_WAIT_S * 2.0 ** (self._failures - 1), LONGEST_WAIT_S)
        began = time.monotonic()
        while not self._gone:
            most = min(wait_s, LAST_WAIT_S) if self._closing else wait_s
            remaining = began + most - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)


def not_logged(outbox: Outbox, left: Sequence[Item]) -> str:
    """In words what MLflow was not told, why, and the command that tells it."""
    names = ", ".join(name for _, name in left[:4]) + (", ..." if len(left) > 4 else "")
    lines = [f"not in MLflow yet: {len(left)} runs or summaries ({names})"]
    why = next(iter(outbox.refused.values()), outbox.trouble)
    if why:
        lines.append(f"  got:      {why}")
    lines.append("  fix:      nothing is lost; when MLflow answers again: birdlab mlflow sync")
    return "\n".join(lines)
