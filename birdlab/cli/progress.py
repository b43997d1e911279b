"""What a person sees while cells run: bars with time left, or plain lines in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from birdlab.cli.interrupt import INTERRUPTED
from birdlab.cli.terminal import DrawnStream, visible
from birdlab.cli.voice import is_quiet
from birdlab.durations import in_time

if TYPE_CHECKING:
    from birdlab.tasks import Event

LINE_EVERY_S = 5.0
"""Without a terminal a cell says at most so often how its epochs go; its first and last always."""

console = Console(file=cast(TextIO, DrawnStream("stdout")))
notes = Console(file=cast(TextIO, DrawnStream("stderr")))


def print_lines(text: str) -> None:
    """Print text as it is: no markup, no wrapping."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def can_draw() -> bool:
    """Whether standard error is a terminal for bars: not a file or pipe, not dumb, no NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR")) or notes.is_dumb_terminal
    return sys.stderr.isatty() and not plain


class CellProgress:
    """Shows events of cells and long steps of planning; use it as a context manager.

    One bar counts the epochs of all cells, so that its time left is that of the command. All goes
    to standard error; bars only to a terminal that can draw them and where colours are not
    switched off.
    """

    def __init__(self) -> None:
        self.quiet = is_quiet()
        self.live = can_draw() and not self.quiet
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=notes,
            disable=not self.live,
        )
        self._steps: dict[str, TaskID] = {}
        self._step_began: dict[str, float] = {}
        self._titles: dict[str, str] = {}
        self._epochs: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._resumed: dict[str, float] = {}
        self._cells: TaskID | None = None
        self._began = time.monotonic()
        self._said: dict[str, float] = {}

    def __enter__(self) -> CellProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        if kind is KeyboardInterrupt:
            self._print("stopped; finished cells are kept, the same command continues")
            raise typer.Exit(INTERRUPTED) from None

    def step(self, what: str, done: int, total: int) -> None:
        """A long step of planning: generating data, decoding audio."""
        if self.live:
            if what not in self._steps:
                self._steps[what] = self._bars.add_task(what, total=total)
            self._bars.update(self._steps[what], completed=done)
        elif done == total or time.monotonic() - self._said.get(what, 0) > 10:
            now = self._said[what] = time.monotonic()
            passed = now - self._step_began.setdefault(what, now)
            left = f", about {in_time(passed / done * (total - done))} left" if done else ""
            self._print(f"{what}: {done}/{total}{left if passed and done < total else ''}")
            if done == total:
                del self._step_began[what], self._said[what]  # it may be done once more

    def event(self, event: Event) -> None:
        """Something that happened to a cell."""
        cell, values = event.cell_id, event.values
        if event.kind == "queued":
            self._titles[cell] = str(values["title"])
            return
        if event.kind == "start":
            self._epochs[cell] = (0, int(values["epochs"]))
        elif event.kind == "hear":
            what, done, total = (values[name] for name in ("what", "done", "total"))
            self.step(f"{self._title(cell)}: {what}", done, total)
        elif event.kind == "resume":
            self._resumed[cell] = values["epoch"] / values["epochs"]
            self._epochs[cell] = (int(values["epoch"]), int(values["epochs"]))
            at = min(values["epoch"] + 1, values["epochs"])
            self._print(f"{self._title(cell)}: goes on at epoch {at}/{values['epochs']}")
        elif event.kind == "epoch":
            self._epochs[cell] = (int(values["epoch"]) + 1, int(values["n_epochs"]))
            if not self.live and self._is_time(cell, values):
                self._print(self._epoch_line(cell, event))
        elif event.kind == "stopped":
            self._print(f"saved: {self._title(cell)}; continues from {values['at']}")
        elif event.kind == "done":
            self._done.add(cell)
            self._print(f"{self._counts()} done: {self._title(cell)}")
        elif event.kind == "failed":
            self._done.add(cell)
            self._print(f"FAILED {self._title(cell)}\n{values['error']}")
        elif event.kind == "retry":
            first = str(values["error"]).splitlines()[0]
            self._print(f"{self._title(cell)}: {first}; try {values['attempt']}")
        self._show(event)

    def _counts(self) -> str:
        return f"[{len(self._done)}/{len(self._titles)}]{self._left()}"

    def _title(self, cell: str) -> str:
        return self._titles.get(cell, cell)

    def _is_time(self, cell: str, values: Mapping[str, Any]) -> bool:
        """Whether a line about this epoch is due."""
        now, said = time.monotonic(), self._said.get(cell)
        due = (
            said is None or now - said >= LINE_EVERY_S or values["epoch"] + 1 == values["n_epochs"]
        )
        if due:
            self._said[cell] = now
        return due

    def _left(self) -> str:
        share, before = self._share(), sum(self._resumed.values()) / max(1, len(self._titles))
        if share - before < 0.02 or share >= 1:
            return ""
        seconds = (time.monotonic() - self._began) * (1 - share) / (share - before)
        return f" about {in_time(seconds)} left"

    def _share(self) -> float:
        begun = sum(e / n for c, (e, n) in self._epochs.items() if c not in self._done)
        return (len(self._done) + begun) / max(1, len(self._titles))

    def _epoch_line(self, cell: str, event: Event) -> str:
        """loss, clips/s, share of waiting for data, best score so far, time left of the cell."""
        v = event.values
        line = (
            f"{self._title(cell)}: epoch {v['epoch'] + 1}/{v['n_epochs']}  loss {v['loss']:.4f}  "
            f"{v['clips_per_s']:.0f} clips/s  waited {v['wait_share']:.0%}"
        )
        if v["best"] is not None:
            line += f"  best {v['best']:.4f} (epoch {v['best_epoch'] + 1})"
        left = v["seconds_left"]
        return f"{line}  {in_time(left)} left" if left else line

    def _show(self, event: Event) -> None:
        if not self.live:
            return
        if self._cells is None:
            self._cells = self._bars.add_task("training", total=len(self._titles))
        text = f"training, {len(self._done)} of {len(self._titles)} cells"
        if event.kind == "epoch":
            text = f"{text}  {self._epoch_line(event.cell_id, event)}"
        total = float(len(self._titles))
        self._bars.update(
            self._cells,
            completed=round(self._share() * total, 2),
            total=total,
            description=text[: max(24, notes.width - 56)],
        )

    def _print(self, text: str) -> None:
        if not self.quiet:
            self._bars.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
