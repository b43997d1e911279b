"""What commands that run cells share: one driver at a time, progress, a word at the end."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from birdlab.cli.voice import print_note
from birdlab.errors import BirdlabError, LabError

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.spec.experiment import ExperimentSpec
    from birdlab.tasks import Event
    from birdlab.tracking.drivers import Driver

_ONCE = ("--detach", "--restart")


@dataclass(frozen=True)
class Driving:
    """A command that runs cells: what takes its events, its progress, and its driver."""

    emit: Callable[[Event], None]
    step: Callable[[str, int, int], None]
    driver: Driver
    lab: Lab

    def end(self, text: str, *, failed: bool = False) -> None:
        """Settle what is said of this command, here and by the webhook of the lab."""
        self.driver.end("failed" if failed else "finished", text)
        _notify(self.lab, f"{self.driver.note.kind} {self.driver.note.name}: {text}")


@contextmanager
def driving(lab: Lab, name: str, kind: str, *, restart: bool = False) -> Iterator[Driving]:
    """Drive `name` as this process; an error is told by the webhook, too.

    Raises LabError while another process does, unless `restart` has that one saved and ended.
    """
    from birdlab.cli.progress import CellProgress
    from birdlab.tracking.drivers import Driver

    if restart:
        _end_other(lab, name)
    with (
        CellProgress() as shown,
        Driver(lab, name, kind, ["birdlab", *own_arguments()]) as driver,
    ):

        def emit(event: Event) -> None:
            shown.event(event)
            driver.event(event)

        try:
            yield Driving(emit, shown.step, driver, lab)
        except Exception as error:
            what = error.what if isinstance(error, BirdlabError) else type(error).__name__
            _notify(lab, f"{kind} {name} failed: {what}")
            raise


def detached(lab: Lab, name: str) -> None:
    """Start this very command again in a process that outlives the terminal, and say so."""
    from birdlab.cli.progress import print_lines
    from birdlab.sweep.detach import start_detached

    pid, log = start_detached(lab, name, own_arguments())
    print_lines(f"{name} runs as process {pid}; what it prints goes to {log}")
    print_lines(f"next: birdlab status | birdlab stop {name}")


def own_arguments() -> list[str]:
    """The arguments of this command, without those that only say how it starts."""
    return [argument for argument in sys.argv[1:] if argument not in _ONCE]


def driver_name(spec: ExperimentSpec) -> str:
    """What the driver of an experiment is called: its name, and what tells its settings apart."""
    from birdlab.spec.identity import canonical_json, digest

    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", spec.name).strip("-.")[:60]
    return f"{plain or 'run'}-{digest(canonical_json(spec), 6)}"


def _end_other(lab: Lab, name: str) -> None:
    from birdlab.tracking.drivernotes import load_driver
    from birdlab.tracking.drivers import ALL, ask_to_stop, wait_for_end

    note = load_driver(lab.stores / "drivers", name)
    if note is None or note.state != "running":
        return
    ask_to_stop(lab, name, ALL)
    print_note(f"waiting for process {note.pid} on {note.host} to save its cells and end")
    if not wait_for_end(lab, name, 600):
        raise LabError(
            f"{name} did not end within 10 minutes",
            got=f"process {note.pid} on {note.host}",
            fix="birdlab status shows what it does; kill it if it hangs: cells are kept",
        )


def _notify(lab: Lab, text: str) -> None:
    from birdlab.tracking.webhook import notify

    wrong = notify(lab, text)
    if wrong:
        print_note(f"note: {wrong}")


def as_command(*parts: str) -> str:
    """Words as one would type them."""
    return shlex.join(parts)
