"""The MLflow sink: notes what MLflow is to be told, and has a thread tell it.

A parent run per recipe, a child run per cell, a summary run per sweep. Only the driving process
uses it. Each call writes a small file and returns; no call of MLflow is made in the caller's
thread. What a crash or a stopped server kept from MLflow is written by the next command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from birdlab.errors import BirdlabError
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.processes import own_process
from birdlab.runresult import RunNote, RunResult
from birdlab.timing import timed
from birdlab.tracking import summaries
from birdlab.tracking.client import open_client
from birdlab.tracking.links import (
    abandoned_links,
    begin,
    edit_link,
    end,
    living,
    wish,
)
from birdlab.tracking.machine import MachineWatch
from birdlab.tracking.outbox import Item, Outbox, not_logged
from birdlab.tracking.runextras import Extras
from birdlab.tracking.runwriter import RunWriter

WAIT_S, HURRIED_WAIT_S = 20.0, 5.0
"""How long the end of a command waits for MLflow at most, and one that was interrupted."""


class MlflowSink:
    """Has runs written to MLflow in the background; a context manager that waits at its end.

    tell: is given sentences for the person who waits, at the end; watch: sample what the machine
    does while runs are under way.
    """

    def __init__(
        self,
        lab: Lab,
        extras: Extras | None = None,
        *,
        tell: Callable[[str], None] = lambda _: None,
        watch: bool = False,
    ) -> None:
        self.lab, self.tell = lab, tell
        self.writer = RunWriter(lab, lambda: open_client(lab), extras or Extras())
        self.outbox = Outbox(self._write)
        self.machine = MachineWatch(lab) if watch else None

    def started(self, plan: Plan, note: RunNote) -> None:
        """Have a recipe that was never logged shown as RUNNING."""
        with edit_link(self.lab, plan.spec_id) as link:
            if link["logged"] or link["due"]:
                return
            begin(link, plan.spec.project, note.title or plan.spec.name or plan.spec_id)
        self.outbox.put(("run", plan.spec_id))
        if self.machine is not None:
            self.machine.begin(plan.spec_id)

    def finished(self, result: RunResult) -> None:
        """Have everything of a scored or stopped run logged, unless MLflow has exactly that."""
        if self.machine is not None:
            self.machine.end(result.spec_id)
        self.update(result.spec_id)

    def failed(self, plan: Plan, error: BirdlabError, *, stopped: bool = False) -> None:
        """Have the run of a recipe ended as FAILED or KILLED, with the error as its note.

        One that was scored before keeps that, and one that another process trains goes on.
        """
        with edit_link(self.lab, plan.spec_id) as link:
            others = [driver for driver in living(link) if driver != own_process()]
            link["drivers"] = others
            if not link["logged"] and not link["due"] and not others:
                end(link, "KILLED" if stopped else "FAILED", f"```\n{error}\n```")
        self.outbox.put(("run", plan.spec_id))

    def update(self, spec_id: str) -> None:
        """Have what the lab now holds of a run logged: a record, a leaderboard score."""
        with edit_link(self.lab, spec_id) as link:
            wish(link)
        self.outbox.put(("run", spec_id))

    def summarise(self, sweep: str) -> None:
        """Have the summary of a sweep logged, as it lies on the disk, if it has one."""
        if sweep in summaries.summarised(self.lab):
            summaries.begin_link(self.lab, sweep)
            self.outbox.put(("sweep", sweep))

    def close(self, wait_s: float = WAIT_S) -> list[Item]:
        """What could not be logged within `wait_s`; `tell` hears what, why and what to do."""
        if self.machine is not None:
            self.machine.close()
        said: list[bool] = []

        def waiting(n_left: int) -> None:
            if not said:
                runs = "run" if n_left == 1 else "runs"
                self.tell(f"writing {n_left} {runs} to MLflow; waiting {wait_s:.0f} s at most")
            said.append(True)

        with timed("wait for MLflow"):
            left = self.outbox.close(wait_s, waiting)
        if left:
            self.tell(not_logged(self.outbox, left))
        return left

    def __enter__(self) -> Self:
        """Begin with what earlier commands could not tell MLflow."""
        for spec_id in abandoned_links(self.lab):
            self.outbox.put(("run", spec_id))
        for sweep in summaries.summarised(self.lab):
            if summaries.load_summary_link(self.lab, sweep) and summaries.is_due(self.lab, sweep):
                self.outbox.put(("sweep", sweep))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.close(WAIT_S if kind is None else HURRIED_WAIT_S)

    def _write(self, item: Item) -> None:
        kind, name = item
        with timed(f"log {kind} {name} to MLflow, in the background"):
            if kind == "run":
                self.writer.write(name)
            elif summaries.is_due(self.lab, name):
                summaries.write_summary(self.lab, self.writer.client, name)
