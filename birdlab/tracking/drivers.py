"""Drivers: the processes that run sweeps and experiments, what they are at, and how they stop.

Each keeps one small file in the lab, so that another process, or another machine on the same
disk, sees what runs, whether its driver is alive, and can ask it to stop.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock, Timeout

from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole
from birdlab.processes import is_gone, is_here, name_process

WRITE_S, BEAT_S, LOST_S = 1.0, 10.0, 60.0
"""A file is written at most so often, at least so often, and is stale when so old."""
ASK_S = 1.0
ALL = "*"

State = Literal["running", "finished", "failed", "stopped", "lost"]
RUNNING = ("start", "resume", "epoch", "evaluate")


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


class Driver:
    """This process as the driver of `name`: a context manager that holds its lock.

    Only one process drives a sweep at a time; a second one gets a LabError that says who does.
    The lock is the kernel's, so it goes with the process, however that ends.
    """

    def __init__(self, lab: Lab, name: str, kind: str, command: Sequence[str]) -> None:
        self.folder = lab.stores / "drivers"
        process = psutil.Process()
        self.note = DriverNote(
            name,
            kind,
            socket.gethostname(),
            process.pid,
            process.create_time(),
            shlex.join(command),
            _now(),
        )
        self._lock = FileLock(self.folder / f".{name}.lock")
        self._cells: dict[str, dict[str, Any]] = {}
        self._changed, self._ended = threading.Event(), threading.Event()
        self._writing = threading.Lock()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._asked: tuple[float, frozenset[str]] = (0.0, frozenset())

    def __enter__(self) -> Driver:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise _busy(load_driver(self.folder, self.note.name), self.note.name) from None
        _stop_path(self.folder, self.note.name).unlink(missing_ok=True)
        self._write()
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, _trace: object) -> None:
        if self.note.state == "running":
            interrupted = kind is not None and not issubclass(kind, Exception)
            state: State = "stopped" if interrupted else "failed" if kind else "finished"
            self.end(state, str(error) if error and not interrupted else "")
        self._ended.set()
        self._changed.set()
        self._heart.join()  # its last note must not lie over that of the next driver
        try:
            self._write()
        finally:
            self._lock.release()

    def end(self, state: State, said: str) -> None:
        """Settle how this ends, in words."""
        with self._writing:
            self.note = replace(self.note, state=state, said=said)

    def event(self, event: Any) -> None:
        """Keep in mind what happened to a cell (a tasks.Event)."""
        values, state = event.values, event.kind
        cell = self._cells.setdefault(event.cell_id, {"title": event.cell_id, "state": "queued"})
        if state == "queued":
            cell["title"] = str(values["title"])
        elif state in RUNNING:
            cell["state"] = "running"
            if "epochs" in values:
                cell |= {"epochs": int(values["epochs"]), "epoch": int(values.get("epoch", 0))}
            elif state == "epoch":
                cell |= {"epochs": int(values["n_epochs"]), "epoch": int(values["epoch"]) + 1}
                cell |= {"loss": float(values["loss"])}
        elif state == "retry":
            cell |= {"state": "queued", "said": str(values["error"])}
        elif state in ("done", "failed", "stopped"):
            cell |= {"state": state, "said": str(values.get("error", values.get("at", "")))}
        self._changed.set()

    def wanted(self, arm: str) -> bool:
        """Whether nobody asked to stop an arm; looks at most once a second."""
        looked, asked = self._asked
        if time.monotonic() - looked > ASK_S:
            asked = frozenset(_load_asked(self.folder, self.note.name))
            self._asked = (time.monotonic(), asked)
        return not asked & {arm, ALL}

    def _beat(self) -> None:
        while not self._ended.is_set():
            self._changed.wait(BEAT_S)
            self._changed.clear()
            if not self._ended.is_set():
                with suppress(OSError):  # a full disk may have room at the next beat
                    self._write()
                self._ended.wait(WRITE_S)

    def _write(self) -> None:
        with self._writing:
            cells = {key: dict(cell) for key, cell in list(self._cells.items())}
            self.note = replace(self.note, updated_at=_now(), cells=cells)
            write_whole(_path(self.folder, self.note.name), json.dumps(asdict(self.note)))


def load_drivers(lab: Lab) -> list[DriverNote]:
    """Every driver that the lab remembers, the newest last; dead ones that ran are `lost`."""
    folder = lab.stores / "drivers"
    found = [load_driver(folder, path.stem) for path in folder.glob("[!.]*.json")]
    return sorted((n for n in found if n is not None), key=lambda n: n.started_at)


def load_driver(folder: Path, name: str) -> DriverNote | None:
    """What is known of one driver; None where nothing is."""
    try:
        note = DriverNote(**json.loads(_path(folder, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if note.state == "running" and not is_alive(note):
        return replace(note, state="lost")
    return note


def is_alive(note: DriverNote) -> bool:
    """Whether the process of a driver lives; on another machine, whether it did a minute ago."""
    if is_here(note.process):
        return not is_gone(note.process)
    seen = datetime.fromisoformat(note.updated_at)
    return (datetime.now(UTC) - seen).total_seconds() < LOST_S


def wait_for_end(lab: Lab, name: str, seconds: float) -> bool:
    """Whether a driver ended within so many seconds."""
    folder, deadline = lab.stores / "drivers", time.monotonic() + seconds
    while True:
        note = load_driver(folder, name)
        if note is None or note.state != "running":
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def ask_to_stop(lab: Lab, name: str, arm: str = ALL) -> None:
    """Ask the driver of a sweep to stop one arm, or all of them, within a second or two.

    A driver of this machine is ended by SIGTERM, which saves its cells; another one, and that of
    another user, looks.
    """
    folder = lab.stores / "drivers"
    note = load_driver(folder, name)
    if arm == ALL and note is not None and is_here(note.process) and is_alive(note):
        with suppress(PermissionError):
            os.kill(note.pid, signal.SIGTERM)
            return
    asked = sorted({*_load_asked(folder, name), arm})
    write_whole(_stop_path(folder, name), json.dumps(asked))


def _load_asked(folder: Path, name: str) -> list[str]:
    try:
        return [str(arm) for arm in json.loads(_stop_path(folder, name).read_text())]
    except (OSError, ValueError):
        return []


def _busy(note: DriverNote | None, name: str) -> LabError:
    who = "another process" if note is None else f"process {note.pid} on {note.host}"
    since = "" if note is None else f" since {note.started_at}"
    return LabError(
        f"{name} is being run already",
        got=f"{who}{since}",
        fix=f"watch it with `birdlab status`, end it with `birdlab stop {name}`, or give --restart "
        "to let this command take over: cells save where they are, and go on here",
    )


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _stop_path(folder: Path, name: str) -> Path:
    return folder / f".{name}.stop"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
