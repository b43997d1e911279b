"""Whether a lab is well: environment, stores, what was killed or forgotten. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from birdlab.cellfiles import CARD, WEIGHTS
from birdlab.data.shards import list_shards
from birdlab.data.shards import load_rows as load_shard
from birdlab.errors import BirdlabError
from birdlab.evaluate.outputs import load_outputs
from birdlab.heardstore import heard_folders
from birdlab.lab import Lab, hide_password
from birdlab.recorded import load_json, load_link, load_record_file, record_paths
from birdlab.study.ledger import load_rows
from birdlab.tracking.drivernotes import load_drivers
from birdlab.tracking.schema import database_level, known_levels
from birdlab.upkeep.environment import (
    check_audio,
    check_clock,
    check_device,
    check_disk,
    check_packages,
)
from birdlab.upkeep.finding import Finding
from birdlab.upkeep.garbage import find_garbage, is_locked, size_of
from birdlab.words import count_words, list_some

N_SAMPLED = 20
"""How many cells are opened: spread over all, by id."""

__all__ = ["Finding", "examine_lab"]


def examine_lab(lab: Lab) -> list[Finding]:
    """Everything that was looked at, one line each; nothing in the lab changes.

    A check that fails with an error becomes a line that says so, and the others go on.
    """
    checks: list[Callable[[], Iterable[Finding]]] = [
        check_packages,
        lambda: [check_device()],
        check_audio,
        lambda: _data(lab),
        lambda: _mlflow(lab),
        lambda: _records(lab),
        lambda: [_ledger(lab)],
        lambda: _cells(lab),
        lambda: _waves(lab),
        lambda: _drivers(lab),
        lambda: _leftovers(lab),
        lambda: _sizes(lab),
        lambda: [check_disk(lab), check_clock(lab)],
    ]
    found: list[Finding] = []
    for check in checks:
        try:
            found += check()
        except BirdlabError as error:
            found.append(Finding("bad", error.where or "lab", error.what, error.fix or ""))
        except OSError as error:
            found.append(Finding("bad", "lab", str(error), "check the rights of the stores"))
    return found


def _data(lab: Lab) -> Iterator[Finding]:
    for name in lab.file.data:
        root = lab.dataset_root(name)
        if root.is_dir():
            yield Finding("ok", f"data {name}", str(root))
        else:
            fix = "correct its path in birdlab.toml, or override it in birdlab.local.toml"
            yield Finding("warn", f"data {name}", f"{root} is not there", fix)


def _mlflow(lab: Lab) -> Iterator[Finding]:
    path = lab.stores / "mlflow.db"
    if not lab.tracking_uri.startswith("sqlite:///"):
        yield Finding("ok", "mlflow", f"logs to {hide_password(lab.tracking_uri)}, not looked into")
    elif not path.is_file():
        yield Finding("ok", "mlflow", "no database yet; the first run makes it")
    else:
        yield _database(path)


def _database(path: Path) -> Finding:
    try:
        level = database_level(path)
    except sqlite3.Error as error:
        fix = "move it away, then: birdlab mlflow sync writes it anew from the lab"
        return Finding("bad", "mlflow", f"{path.name} cannot be read: {error}", fix)
    levels = known_levels()
    if level == levels[0]:
        return Finding("ok", "mlflow", f"{path.name} at migration {level}")
    if not level or level in levels:
        fix = "copy mlflow.db if older versions shall read it; the next run migrates it"
        return Finding("warn", "mlflow", f"{path.name} is of an older MLflow", fix)
    fix = "install the MLflow that wrote it, or a newer one"
    return Finding("bad", "mlflow", f"{path.name} is of a newer MLflow ({level})", fix)


def _records(lab: Lab) -> Iterator[Finding]:
    paths, unreadable = record_paths(lab), []
    for path in paths:
        try:
            load_record_file(path)
            load_link(lab, path.stem)
        except BirdlabError as error:
            unreadable.append(path)
            file = Path(error.where or path).name
            yield Finding("bad", f"record {file}", str(error.got), error.fix or "")
    yield Finding("ok", "records", f"{len(paths) - len(unreadable)} of {len(paths)} readable")


def _ledger(lab: Lab) -> Finding:
    """LedgerError for a ledger with a line that is no row."""
    rows = load_rows(lab.ledger)
    known = {path.stem for path in record_paths(lab)}
    gone = sorted({member for row in rows for member in row["members"]} - known)
    said = count_words(len(rows), "submission")
    if not gone:
        return Finding("ok", "ledger", said)
    fix = "birdlab import brings runs of another lab; birdlab lb remove withdraws a row"
    return Finding("warn", "ledger", f"{said}; not among the runs: {list_some(gone)}", fix)


def _cells(lab: Lab) -> Iterator[Finding]:
    cards = sorted(lab.cells.glob(f"[!.]*/{CARD}"))
    places = np.unique(np.linspace(0, max(0, len(cards) - 1), N_SAMPLED).astype(int))
    broken = 0
    for card in [cards[i] for i in places if cards]:
        try:
            _open_cell(card)
        except (BirdlabError, OSError, ValueError, SafetensorError) as error:
            broken += 1
            fix = f"remove {card.parent}, then: birdlab rerun RUN trains it again"
            yield Finding("bad", f"cell {card.parent.name}", str(error).splitlines()[0], fix)
    bare = sum(not (card.parent / WEIGHTS).is_file() for card in cards)
    opened = min(len(cards), len(places))
    yield Finding(
        "ok",
        "cells",
        f"{len(cards)} finished, {bare} of them without weights (keep:), {opened - broken} of "
        f"{opened} opened are whole",
    )


def _open_cell(card: Path) -> None:
    """Raise when a cell is not whole: its card, its weights as far as they are there, outputs."""
    load_json(card)
    for outputs in card.parent.glob("outputs-*"):
        load_outputs(outputs)
    weights = card.parent / WEIGHTS
    if weights.is_file():
        with safe_open(weights, framework="np"):  # reads the header, and compares it with the size
            pass


def _waves(lab: Lab) -> Iterator[Finding]:
    shards = list_shards(lab.waves)
    rows = sum(len(load_shard(lab.waves, shard)) for shard in shards)
    yield Finding("ok", "waveforms", f"{rows:,} recordings in {len(shards)} shards")


def _drivers(lab: Lab) -> Iterator[Finding]:
    notes = load_drivers(lab)
    for note in notes:
        if note.state == "lost":
            fix = f"run it again, nothing finished is lost: {note.command}"
            yield Finding("warn", f"driver {note.name}", f"died, last seen {note.updated_at}", fix)
    running = [note.name for note in notes if note.state == "running"]
    yield Finding("ok", "drivers", f"running: {', '.join(running) or 'none'}")


def _leftovers(lab: Lab) -> Iterator[Finding]:
    found = find_garbage(lab)
    if found:
        size = sum(item.n_bytes for item in found) / 1e6
        kinds = ", ".join(
            f"{sum(i.kind == kind for i in found)} {kind}"
            for kind in dict.fromkeys(i.kind for i in found)
        )
        yield Finding("warn", "leftovers", f"{kinds}: {size:,.1f} MB nobody needs", "birdlab gc")
    names = [p.name.removeprefix(".").removesuffix(".lock") for p in lab.cells.glob(".*.lock")]
    held = [name for name in names if is_locked(lab, name)]
    yield Finding("ok", "locks", f"held: {', '.join(held) or 'none'}")


def _sizes(lab: Lab) -> Iterator[Finding]:
    stores = {"cells": lab.cells, "waveforms": lab.waves, "models": lab.models}
    stores |= {"teachers": heard_folders(lab), "artifacts": lab.artifacts}
    said = [
        f"{name} {size_of(path) / 1e9:.2f} GB" for name, path in stores.items() if path.exists()
    ]
    yield Finding("ok", "stores", ", ".join(said) or "empty")
