"""Tasks for tests of executors: the cells of the tiny experiment, as a campaign makes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from birdlab.cellfiles import part_folder
from birdlab.jobwriter import save_job
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.sed.checkpoint import CHECKPOINT
from birdlab.spec import load_spec
from birdlab.tasks import CellTask, Event, build_task

LONG = {"train.length": {"epochs": 200}, "train.batch": 2, "augment": []}
"""Cells that take longer than any test waits."""


def tasks_of(lab: Lab, changes: Mapping[str, Any] | None = None) -> list[CellTask]:
    """The tasks of the tiny experiment with some changes; their jobs stay in the lab."""
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml", dict(changes or {})), lab)
    folder = lab.stores / "jobs"
    cells = {cell.cell_id for cell in plan.cells}
    return [build_task(plan, c, lab, save_job(plan, c, folder), cells) for c in plan.cells]


def saved_at(lab: Lab, cell_id: str) -> dict[str, Any]:
    """Where the checkpoint of a cell stands: epoch and step."""
    from birdlab.sed.checkpoint import load_tensors

    at: dict[str, Any] = load_tensors(part_folder(lab, cell_id) / CHECKPOINT)["at"]
    return at


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it as a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def printed(event: Event) -> str:
    """An event as a line for a driver in another process."""
    return json.dumps({"kind": event.kind, "cell": event.cell_id, **event.values})
