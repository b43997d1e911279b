"""What a sweep will take: cells, cache hits, hours, told from the cells that are finished."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from birdlab.cellfiles import CARD
from birdlab.cellplan import CellPlan
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.spec.identity import digest

NEWEST_CARDS = 500
_SHAPING = ("window_s", "threads_per_cell", "precision", "compile", "channels_last")
"""The fields of a recipe that, with the network, decide what one training clip costs."""


@dataclass(frozen=True)
class Estimate:
    """What some plans would train.

    cells: distinct ones, of which `cached` are there; steps: of those to train; seconds: with
    `slots` cells at once, a lower bound while `unmeasured` cells to train have a shape of which
    none is finished, None where that is all of them; measured: finished cells it is told from.
    """

    cells: int
    cached: int
    steps: int
    seconds: float | None
    unmeasured: int
    measured: int
    slots: int

    @property
    def to_train(self) -> int:
        """How many cells are not there yet."""
        return self.cells - self.cached


def estimate_plans(
    plans: Sequence[Plan],
    cached: Collection[str],
    cards: Iterable[Mapping[str, Any]],
    slots: int,
) -> Estimate:
    """What `plans` would train, from the `cards` of finished cells.

    A clip of a cell is taken to cost what it did, in the middle, in the finished cells of the
    same network, window, threads and precision; validation counts as a part of it. Cells that
    start from each other wait for each other.
    """
    cells = {cell.cell_id: cell for plan in plans for cell in plan.cells}
    missing = [cell for cell_id, cell in cells.items() if cell_id not in cached]
    costs = clip_costs(cards)
    seconds = {
        cell.cell_id: costs[shape][0] * cell.steps.total * _clips_per_step(cell.document)
        for cell in missing
        if (shape := shape_of(cell.document)) in costs
    }
    used = {shape_of(cell.document) for cell in missing} & set(costs)
    longest = max((_chain(cell, seconds) for cell in missing), default=0.0)
    return Estimate(
        cells=len(cells),
        cached=len(cells) - len(missing),
        steps=sum(cell.steps.total for cell in missing),
        seconds=None
        if missing and not seconds
        else max(sum(seconds.values()) / max(1, slots), longest),
        unmeasured=len(missing) - len(seconds),
        measured=sum(costs[shape][1] for shape in used),
        slots=slots,
    )


def clip_costs(cards: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """By shape the seconds per training clip, the median over finished cells, and their number."""
    found: dict[str, list[float]] = {}
    for card in cards:
        clips = card["steps"] * _clips_per_step(card["document"])
        if clips and card["seconds"] > 0:
            found.setdefault(shape_of(card["document"]), []).append(card["seconds"] / clips)
    return {shape: (median(each), len(each)) for shape, each in found.items()}


def shape_of(document: Mapping[str, Any]) -> str:
    """A name for what decides how long one clip of a cell takes."""
    train = document["train"]
    return digest([document["model"], {key: train.get(key) for key in _SHAPING}], 12)


def _clips_per_step(document: Mapping[str, Any]) -> int:
    train = document["train"]
    return int(train["batch"]) * int(train.get("accumulate", 1))


def _chain(cell: CellPlan, seconds: Mapping[str, float]) -> float:
    """The seconds of a cell and of all that it waits for."""
    before = 0.0 if cell.start is None else _chain(cell.start, seconds)
    return before + seconds.get(cell.cell_id, 0.0)


def load_cards(lab: Lab) -> list[dict[str, Any]]:
    """The cards of the newest finished cells of a lab, at most NEWEST_CARDS."""
    paths = [(p.stat().st_mtime, p) for p in lab.cells.glob(f"*/{CARD}")]
    newest = sorted(paths, reverse=True)[:NEWEST_CARDS]
    return [json.loads(path.read_text()) for _, path in newest]
