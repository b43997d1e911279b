"""Drivers: this process as the one that runs a sweep or an experiment, and how others stop it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole
from birdlab.processes import is_here
from birdlab.tracking.drivernotes import DriverNote, State, is_alive, load_driver, note_path

WRITE_S, BEAT_S = 1.0, 10.0
"""A file is written at most so often, and at least so often."""
ASK_S = 1.0
ALL = "*"

RUNNING = ("start", "resume", "epoch", "evaluate")


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
            write_whole(note_path(self.folder, self.note.name), json.dumps(asdict(self.note)))


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


def _stop_path(folder: Path, name: str) -> Path:
    return folder / f".{name}.stop"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
