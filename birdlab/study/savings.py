"""What the cache and the race of a sweep saved, in hours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from birdlab.durations import in_time
from birdlab.study.arm_costs import CellCost, device_kind, hours_by_kind, needed_cells
from birdlab.words import count_words

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Savings:
    """What arms would have taken, each from nothing and to its end, and what they took.

    `table`, a row per kind of device (GPU, CPU, unknown), hours that are never added over them:
    needed_hours (each arm trains all it needs by itself), trained_hours (every cell once),
    cache_hours (their difference), race_hours (the cells that the race left out, at the mean of
    the arm's own cells). n_shared: how often an arm needed a cell that another needed too;
    n_raced: cells that the race left out of n_planned; unknown: cells whose time is not known.
    """

    table: pd.DataFrame
    n_shared: int
    n_raced: int
    n_planned: int
    unknown: int

    @property
    def cache_sentence(self) -> str:
        """What arms that need the same cells saved, in words."""
        if not self.n_shared:
            return "Cache: the arms share no cell."
        time = _hours_words(self.table, "cache_hours")
        n = count_words(self.n_shared, "time")
        said = f"Cache: {n} an arm needed a cell that another arm needed too"
        return f"{said}: {time} saved since the sweep began." if time else f"{said}."

    @property
    def sentences(self) -> tuple[str, ...]:
        """It in words: one for the cache, one for the race where it left out anything."""
        said = [self.cache_sentence]
        if self.n_raced:
            time = _hours_words(self.table, "race_hours")
            said.append(
                f"Race: {self.n_raced} of {self.n_planned} cells were not trained, about {time}."
                if time
                else f"Race: {self.n_raced} of {self.n_planned} cells were not trained; their time "
                "is not known."
            )
        if self.unknown:
            said.append(
                f"The time of {count_words(self.unknown, 'cell')} is not known: the hours lack it."
            )
        return tuple(said)


def sweep_savings(
    runs: Mapping[str, Mapping[str, Any]],
    cells: Mapping[str, CellCost],
    planned: Mapping[str, int] | None = None,
) -> Savings:
    """What sharing cells and stopping arms early saved over the arms whose records are given.

    planned: how many cells each arm of a race was to have; an arm with fewer was stopped. A cell
    counts once for each arm that needs it, as if that had no cache, less once.
    """
    needs = {arm: needed_cells(record, cells) for arm, record in runs.items()}
    union = set().union(*needs.values())
    trained = hours_by_kind(union, cells)
    needed: dict[str, float] = {}
    for own in needs.values():
        for kind, hours in hours_by_kind(own, cells).items():
            needed[kind] = needed.get(kind, 0.0) + hours
    raced, n_raced = _raced(runs, planned or {})
    rows = [
        {
            "device": kind,
            "needed_hours": needed.get(kind, 0.0),
            "trained_hours": trained.get(kind, 0.0),
            "cache_hours": max(0.0, needed.get(kind, 0.0) - trained.get(kind, 0.0)),
            "race_hours": raced.get(kind, 0.0),
        }
        for kind in sorted({*needed, *raced}, reverse=True)
    ]
    columns = ["device", "needed_hours", "trained_hours", "cache_hours", "race_hours"]
    return Savings(
        pd.DataFrame(rows, columns=columns),
        sum(map(len, needs.values())) - len(union),
        n_raced,
        sum((planned or {}).values()),
        sum(one not in cells or np.isnan(cells[one].seconds) for one in union),
    )


def call_sentence(
    trained: Collection[str], needed: Collection[str], cells: Mapping[str, CellCost]
) -> str:
    """What one call of a sweep found trained, in words; "" where it found nothing."""
    found = set(needed) - set(trained)
    if not found:
        return ""
    hours = hours_by_kind(found, cells)
    time = ", ".join(f"{in_time(3600 * h)} on {_on(kind)}" for kind, h in hours.items())
    said = f"This call found {count_words(len(found), 'cell')} in the cache"
    return f"{said}: {time} that it did not train." if time else f"{said}."


def _raced(
    runs: Mapping[str, Mapping[str, Any]], planned: Mapping[str, int]
) -> tuple[dict[str, float], int]:
    """The hours of cells that a race left out by kind of device, and how many those are."""
    hours: dict[str, float] = {}
    n_raced = 0
    for arm, asked in planned.items():
        own = runs[arm]["cells"] if arm in runs else []
        lacking = max(0, asked - len(own))
        n_raced += lacking
        timed = [cell for cell in own if cell.get("seconds") is not None]
        for cell in timed if lacking else ():
            kind = device_kind(cell.get("device") or "") or "unknown"
            share = lacking * cell["seconds"] / 3600 / len(timed)
            hours[kind] = hours.get(kind, 0.0) + share
    return hours, n_raced


def _hours_words(table: pd.DataFrame, column: str) -> str:
    """Hours by kind of device in words; "" where there are none."""
    some = table[table[column] > 0]
    return ", ".join(
        f"{in_time(3600 * row[column])} on {_on(row['device'])}" for row in some.to_dict("records")
    )


def _on(kind: str) -> str:
    return kind if kind in ("GPU", "CPU") else "devices that no card names"
