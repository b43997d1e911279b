"""What is known of drivers: each keeps one small file in the lab.

So another process, or another machine on the same disk, sees what runs and whether its driver is
alive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from birdlab.lab import Lab
from birdlab.processes import is_gone, is_here, name_process

LOST_S = 60.0
"""The file of a driver on another machine is stale when it is so old."""

State = Literal["running", "finished", "failed", "stopped", "lost"]


@dataclass(frozen=True)
class DriverNote:
    """What is known of a driver.

    name: of the sweep or experiment; created: when its process began, which tells it from
    another process with the same id; cells: by id, title, state (queued, running, done, failed,
    stopped), epoch, epochs and loss where known, and what was said of it; state: `lost` is a
    process that ran when its last sign of life was seen, and is gone; said: how it ended.
    """

    name: str
    kind: str
    host: str
    pid: int
    created: float
    command: str
    started_at: str
    updated_at: str = ""
    state: State = "running"
    said: str = ""
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def count(self, state: str) -> int:
        """How many cells are in a state."""
        return sum(cell["state"] == state for cell in self.cells.values())

    @property
    def process(self) -> str:
        """What names its process."""
        return name_process(self.host, self.pid, self.created)

    @property
    def share(self) -> float:
        """How much of all epochs is done, 0 to 1."""
        shares = [
            1.0 if c["state"] == "done" else c.get("epoch", 0) / max(1, c.get("epochs", 1))
            for c in self.cells.values()
        ]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def seconds_left(self) -> float:
        """How long it will still take if it goes on as before; NaN where nobody can tell yet."""
        if not 0.02 < self.share < 1:
            return float("nan")
        return self.seconds * (1 - self.share) / self.share

    @property
    def seconds(self) -> float:
        """From its start to its last sign of life."""
        begun, seen = (datetime.fromisoformat(t) for t in (self.started_at, self.updated_at))
        return (seen - begun).total_seconds()


def load_drivers(lab: Lab) -> list[DriverNote]:
    """Every driver that the lab remembers, the newest last; dead ones that ran are `lost`."""
    folder = lab.stores / "drivers"
    found = [load_driver(folder, path.stem) for path in folder.glob("[!.]*.json")]
    return sorted((n for n in found if n is not None), key=lambda n: n.started_at)


def load_driver(folder: Path, name: str) -> DriverNote | None:
    """What is known of one driver; None where nothing is, or what no driver writes."""
    try:
        note = DriverNote(**json.loads(note_path(folder, name).read_text(encoding="utf-8")))
        is_lost = note.state == "running" and not is_alive(note)
        _ = note.share, note.seconds, note.process  # what lists show of it can be told
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return replace(note, state="lost") if is_lost else note


def is_alive(note: DriverNote) -> bool:
    """Whether the process of a driver lives; on another machine, whether it did a minute ago."""
    if is_here(note.process):
        return not is_gone(note.process)
    seen = datetime.fromisoformat(note.updated_at)
    return (datetime.now(UTC) - seen).total_seconds() < LOST_S


def note_path(folder: Path, name: str) -> Path:
    """Where what is known of a driver lies."""
    return folder / f"{name}.json"
