"""`birdlab status` and `birdlab stop`: what runs in this lab, and ending it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json
from birdlab.errors import ResolveError

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.tracking.drivernotes import DriverNote

SHOWN = 8
"""Drivers that ended are shown up to so many in all."""


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("status")(status)
    app.command("stop")(stop)


def status(
    json_: JsonOption = False,
) -> None:
    """Show what runs in this lab, what ended last, and what was lost.

    Example: birdlab status
    """
    from dataclasses import asdict

    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.tracking.drivernotes import load_drivers

    lab = open_lab(extensions=False)
    notes = load_drivers(lab)
    if json_:
        print_json([asdict(note) for note in notes])
        return
    if not notes:
        print_lines("nothing runs here; begin with: birdlab sweep experiments/lr.yaml --detach")
        return
    running = [note for note in notes if note.state == "running"]
    ended = [note for note in notes if note.state != "running"]
    shown = [*ended[max(0, len(notes) - SHOWN) :], *running]
    print_lines("\n".join(line for note in shown for line in describe_driver(lab, note)))


def describe_driver(lab: Lab, note: DriverNote) -> list[str]:
    """A driver in lines: its state and time left, cells that run or failed, what to do next."""
    from birdlab.durations import in_time

    done, total = note.count("done"), len(note.cells)
    head = f"{note.kind} {note.name}: {note.state}"
    if note.state == "running":
        head += f" for {in_time(note.seconds)} as process {note.pid} on {note.host}"
    else:
        head += f" at {note.updated_at}"
    if total:
        head += f", {done} of {total} cells done"
    if note.state == "running" and note.seconds_left == note.seconds_left:
        head += f", about {in_time(note.seconds_left)} left"
    lines = [head]
    for cell in note.cells.values():
        if note.state == "running" and cell["state"] == "running":
            epoch = f"epoch {cell.get('epoch', 0)}/{cell['epochs']}" if "epochs" in cell else ""
            loss = f"  loss {cell['loss']:.4f}" if "loss" in cell else ""
            lines.append(f"  {cell['title']}  {epoch}{loss}")
        if cell["state"] == "failed":
            lines.append(f"  failed: {cell['title']}: {_first_line(str(cell.get('said', '')))}")
    if note.said:
        lines.append(f"  {_first_line(note.said)}")
    log = lab.stores / "drivers" / f"{note.name}.log"
    if note.state == "running":
        lines.append(f"  end it with: birdlab stop {note.name}")
    elif note.state != "finished":
        lines.append(f"  go on with: {note.command}")
    if log.is_file() and note.state != "finished":
        lines.append(f"  log: {log}")
    return lines


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]


def stop(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="As `birdlab status` shows it.")],
    arm: Annotated[
        str | None, typer.Argument(metavar="[ARM]", help="Only this arm of the sweep.")
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for it.")] = 120,
) -> None:
    """Stop a sweep, or one arm of it: cells save where they are, the same command goes on.

    Example: birdlab stop lr
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.tracking.drivernotes import load_drivers
    from birdlab.tracking.drivers import ALL, ask_to_stop, wait_for_end

    lab = open_lab(extensions=False)
    running = {note.name: note for note in load_drivers(lab) if note.state == "running"}
    if name not in running:
        raise ResolveError(
            f"nothing called {name!r} runs in this lab",
            expected=", ".join(running) or "something that runs",
            fix="birdlab status",
        )
    ask_to_stop(lab, name, arm or ALL)
    if arm is not None:
        print_lines(
            f"asked to stop {arm} of {name}; `birdlab status` shows when its cells are saved"
        )
        return
    if not wait_for_end(lab, name, wait_s):
        print_lines(f"asked {name} to stop; it saves its cells still: birdlab status")
        raise typer.Exit(1)
    print_lines(f"stopped {name}; go on with: {running[name].command}")
