"""What a person sees while cells run: bars with time left, or plain lines in a file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from birdlab.tasks import Event

INTERRUPTED = 130

console = Console()


def print_lines(text: str) -> None:
    """Print text as it is: no markup, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class CellProgress:
    """Shows events of cells and long steps of planning; use it as a context manager.

    One bar counts the epochs of all cells, so that its time left is that of the command.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.live = console.is_terminal and not quiet
        self.quiet = quiet
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not self.live,
        )
        self._steps: dict[str, TaskID] = {}
        self._titles: dict[str, str] = {}
        self._epochs: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
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
            self._said[what] = time.monotonic()
            self._print(f"{what}: {done}/{total}")

    def event(self, event: Event) -> None:
        """Something that happened to a cell."""
        cell, values = event.cell_id, event.values
        if event.kind == "queued":
            self._titles[cell] = str(values["title"])
            return
        if event.kind == "start":
            self._epochs[cell] = (0, int(values["epochs"]))
        elif event.kind == "epoch":
            self._epochs[cell] = (int(values["epoch"]) + 1, int(values["n_epochs"]))
            if not self.live and (values["epoch"] + 1) in (1, values["n_epochs"]):
                self._print(self._epoch_line(cell, event))
        elif event.kind == "done":
            self._done.add(cell)
            self._print(f"{self._counts()} done: {self._titles.get(cell, cell)}")
        elif event.kind == "failed":
            self._done.add(cell)
            self._print(f"FAILED {self._titles.get(cell, cell)}\n{values['error']}")
        elif event.kind == "restart":
            self._print(f"a worker died; {values['left']} cells are tried again")
        self._show(event)

    def _counts(self) -> str:
        return f"[{len(self._done)}/{len(self._titles)}]{self._left()}"

    def _left(self) -> str:
        share = self._share()
        if not 0.02 < share < 1:
            return ""
        seconds = (time.monotonic() - self._began) * (1 - share) / share
        return (
            f" about {seconds / 60:.0f} min left"
            if seconds > 90
            else f" about {seconds:.0f} s left"
        )

    def _share(self) -> float:
        begun = [(1.0 if c in self._done else e / n) for c, (e, n) in self._epochs.items()]
        return sum(begun) / max(1, len(self._titles))

    def _epoch_line(self, cell: str, event: Event) -> str:
        v = event.values
        return (
            f"{self._titles.get(cell, cell)}: epoch {v['epoch'] + 1}/{v['n_epochs']}  "
            f"loss {v['loss']:.4f}  {v['clips_per_s']:.0f} clips/s  waited {v['wait_share']:.0%}"
        )

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
            description=text[:96],
        )

    def _print(self, text: str) -> None:
        if not self.quiet:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
