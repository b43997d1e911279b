"""A command that goes on in a process of its own when the terminal is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from birdlab.errors import LabError
from birdlab.lab import Lab
from birdlab.tracking.drivernotes import load_driver

WAIT_S = 120.0


def start_detached(lab: Lab, name: str, arguments: Sequence[str]) -> tuple[int, Path]:
    """The process id of `birdlab ARGUMENTS`, which drives `name` by now, and its log file.

    Raises LabError with the end of the log when it ends before it has begun.
    """
    folder = lab.stores / "drivers"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    before = log.stat().st_size if log.is_file() else 0
    with log.open("ab") as file:  # a driver that runs already goes on writing there
        process = subprocess.Popen(
            [sys.executable, "-m", "birdlab.cli.app", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "BIRDLAB_HOME": str(lab.root)},
        )
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        note = load_driver(folder, name)
        if note is not None and note.pid == process.pid:
            return process.pid, log
        time.sleep(0.1)
    if process.poll() == 0:  # everything was in the cache
        return process.pid, log
    process.kill()
    said = log.read_bytes()[before:].decode(errors="replace")
    raise LabError(
        f"{name} did not start",
        where=str(log),
        got="\n".join(said.splitlines()[-20:]),
        fix="mend what the log says; without --detach it is shown here",
    )
