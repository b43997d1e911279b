"""What a sweep will take: cells, cache hits, hours, told from the cells that are finished."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from birdlab.cellfiles import CARD
from birdlab.cellplan import CellPlan
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.recorded import load_card
from birdlab.spec.identity import digest

NEWEST_CARDS = 500
SCALE = 4
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
    cards: Sequence[Mapping[str, Any]],
    slots: int,
) -> Estimate:
    """What `plans` would train, from the `cards` of finished cells.

    A clip of a cell is taken to cost what it did, in the middle, in the finished cells of the
    same network, window, threads and precision that are at most SCALE times as long or short;
    validation counts as a part of it. Cells that start from each other wait for each other.
    """
    cells = {cell.cell_id: cell for plan in plans for cell in plan.cells}
    missing = [cell for cell_id, cell in cells.items() if cell_id not in cached]
    of_shape: dict[str, list[Mapping[str, Any]]] = {}
    for card in cards:
        of_shape.setdefault(shape_of(card["document"]), []).append(card)
    seconds: dict[str, float] = {}
    used: set[int] = set()
    for cell in missing:
        clips = _clips(cell)
        like = _of_scale(of_shape.get(shape_of(cell.document), []), clips)
        used |= {id(card) for card in like}
        if like:
            seconds[cell.cell_id] = clips * median(clip_cost(card) for card in like)
    longest = max((_chain(cell, seconds) for cell in missing), default=0.0)
    return Estimate(
        cells=len(cells),
        cached=len(cells) - len(missing),
        steps=sum(cell.steps.total for cell in missing),
        seconds=None
        if missing and not seconds
        else max(sum(seconds.values()) / max(1, slots), longest),
        unmeasured=len(missing) - len(seconds),
        measured=len(used),
        slots=slots,
    )


def clip_cost(card: Mapping[str, Any]) -> float:
    """The seconds that a finished cell took per training clip."""
    return float(card["seconds"]) / _n_clips(card["steps"], card["document"])


def _of_scale(cards: Sequence[Mapping[str, Any]], clips: int) -> list[Mapping[str, Any]]:
    """The cards of cells that are not much longer or shorter than `clips`."""
    lengths = [_n_clips(card["steps"], card["document"]) for card in cards]
    return [
        card for card, n in zip(cards, lengths, strict=True) if clips / SCALE <= n <= clips * SCALE
    ]


def shape_of(document: Mapping[str, Any]) -> str:
    """A name for what decides how long one clip of a cell takes."""
    train = document["train"]
    shape = [document["model"], {key: train.get(key) for key in _SHAPING}]
    return digest([*shape, "soup"] if "soup" in document else shape, 12)


def _n_clips(steps: int, document: Mapping[str, Any]) -> int:
    train = document["train"]
    return steps * int(train["batch"]) * int(train.get("accumulate", 1))


def _clips(cell: CellPlan) -> int:
    return _n_clips(cell.steps.total, cell.document)


def _chain(cell: CellPlan, seconds: Mapping[str, float]) -> float:
    """The seconds of a cell and of all that it waits for."""
    before = max((_chain(one, seconds) for one in cell.inputs), default=0.0)
    return before + seconds.get(cell.cell_id, 0.0)


def load_cards(lab: Lab) -> list[dict[str, Any]]:
    """The cards of the newest finished cells of a lab, at most NEWEST_CARDS; none of foreign ones.

    Those were trained elsewhere, so nobody knows how long they took. Raises TrackingError for a
    card that cannot be read.
    """
    paths = [(p.stat().st_mtime, p) for p in lab.cells.glob(f"*/{CARD}")]
    newest = sorted(paths, reverse=True)[:NEWEST_CARDS]
    cards = [load_card(lab, path.parent.name) for _, path in newest]
    return [card for card in cards if "seconds" in card]
