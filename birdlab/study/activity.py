"""What runs in a lab now, what ended, what was lost: from notes of drivers and folders of cells."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from birdlab.durations import in_time
from birdlab.lab import Lab
from birdlab.tracking.drivernotes import LOST_S, DriverNote, load_drivers
from birdlab.words import count_words

ENDED = 50
"""How many ended drivers are listed."""
_RUNNING = ("name", "what", "cells", "share", "left", "since", "where")


@dataclass(frozen=True, eq=False)
class Activity:
    """What the drivers of a lab are at, now.

    `running`: name, what, state, cells, share (0 to 1), left, since, where. `cells`: what trains:
    name, cell, state, epoch, loss. `ended`: name, what, state, at, said, next. `unfinished`:
    cells that lie half-trained without a driver that would finish them: cell, saved.
    """

    running: pd.DataFrame
    cells: pd.DataFrame
    ended: pd.DataFrame
    unfinished: pd.DataFrame
    sentence: str


def read_activity(lab: Lab, now: float | None = None) -> Activity:
    """What runs in a lab from the notes of its drivers and the folders of its cells.

    A driver whose process is gone is lost, and so is one that gave no sign of life for a minute.
    now: the time in seconds since 1970.
    """
    now = time.time() if now is None else now
    notes = load_drivers(lab)
    silent = {n.name: _silence(n, now) for n in notes if n.state == "running"}
    alive = [n for n in notes if n.state == "running" and silent[n.name] <= LOST_S]
    ended = [n for n in notes if n not in alive][::-1][:ENDED]
    running = pd.DataFrame([_running_row(n) for n in alive], columns=list(_RUNNING))
    rows = [row for n in alive for row in _cell_rows(n)]
    cells = pd.DataFrame(rows, columns=["name", "cell", "state", "epoch", "loss"])
    ended_rows = [_ended_row(n, silent.get(n.name, math.nan)) for n in ended]
    over = pd.DataFrame(ended_rows, columns=["name", "what", "state", "at", "said", "next"])
    unfinished = _unfinished(lab, {cell for n in alive for cell in n.cells}, now)
    return Activity(running, cells, over, unfinished, _activity_sentence(alive, ended, unfinished))


def _silence(note: DriverNote, now: float) -> float:
    """The seconds since the last sign of life of a driver."""
    return now - datetime.fromisoformat(note.updated_at).timestamp()


def _running_row(note: DriverNote) -> tuple[object, ...]:
    left = note.seconds_left
    return (
        note.name,
        note.kind,
        f"{note.count('done')} of {len(note.cells)}",
        note.share,
        "" if math.isnan(left) else in_time(left),
        when_words(note.started_at),
        f"process {note.pid} on {note.host}",
    )


def _cell_rows(note: DriverNote) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for cell in note.cells.values():
        if cell["state"] in ("running", "failed"):
            epoch = f"{cell.get('epoch', 0)} of {cell['epochs']}" if "epochs" in cell else ""
            loss = cell.get("loss", math.nan)
            rows.append((note.name, cell["title"], cell["state"], epoch, loss))
    return rows


def _ended_row(note: DriverNote, silent_s: float) -> tuple[object, ...]:
    said = " ".join(note.said.split())
    state = note.state
    if not math.isnan(silent_s):
        state = "lost"
        said = f"no sign of life for {in_time(silent_s)}, though process {note.pid} is there"
    again = "" if state == "finished" else note.command
    return note.name, note.kind, state, when_words(note.updated_at), said, again


def _unfinished(lab: Lab, running: set[str], now: float) -> pd.DataFrame:
    """The half-trained cells that no living driver knows, the newest first."""
    rows = []
    for part in lab.cells.glob(".*.part"):
        cell = part.name.removeprefix(".").removesuffix(".part")
        if cell not in running and part.is_dir():
            files = [p.stat().st_mtime for p in part.iterdir()] or [part.stat().st_mtime]
            rows.append((cell, f"{in_time(max(0.0, now - max(files)))} ago", max(files)))
    rows.sort(key=lambda row: -row[2])
    return pd.DataFrame([row[:2] for row in rows], columns=["cell", "saved"])


def _activity_sentence(
    alive: Sequence[DriverNote], ended: Sequence[DriverNote], unfinished: pd.DataFrame
) -> str:
    said = [_alive_words(note) for note in alive[:3]]
    if len(alive) > 3:
        said.append(f"and {len(alive) - 3} more run")
    lost = [note.name for note in ended if note.state in ("lost", "running")]
    text = f"{'; '.join(said)}." if said else "Nothing runs."
    if lost:
        text += f" Lost: {', '.join(lost[:3])}{' and more' if len(lost) > 3 else ''}."
    if len(unfinished):
        text += f" {count_words(len(unfinished), 'cell')} half-trained: the same command goes on."
    return text


def _alive_words(note: DriverNote) -> str:
    left = note.seconds_left
    told = "" if math.isnan(left) else f", about {in_time(left)} left"
    return f"{note.name} runs: {note.count('done')} of {len(note.cells)} cells{told}"


def when_words(at: str) -> str:
    """A time as shown: minutes, UTC."""
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
