"""Why a recorded experiment would come out under another id today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from birdlab.cellfiles import CARD
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.recorded import load_card

_WORDS = {
    "rows": "the training rows are others",
    "steered_by": "the validation rows that pick the weights are others",
    "classes": "the classes are others",
    "start": "a stage before it comes out differently",
    "fresh_weights": "the weights it starts from are others",
    "model": "birdlab reads the model's fields differently",
    "train": "birdlab reads the recipe's fields differently",
    "pseudo": "its soundscapes, or what labels them, are others",
    "distill": "what teaches it is another",
    "soup": "the cells that it averages are others",
    "augment": "augmentations, or the background recordings they use, are others",
}


def describe_changes(lab: Lab, record: Mapping[str, Any], plan: Plan) -> list[str]:
    """What differs between a recorded run and its plan of today, in words, at least one.

    Found by comparing what the cards of its cells say they depend on.
    """
    cells = {(cell.fold, cell.seed): cell for cell in plan.final_cells}
    said: dict[str, None] = {}
    for recorded in record["cells"]:
        now = cells.get((recorded["fold"], recorded["seed"]))
        if now is not None and (lab.cells / recorded["cell_id"] / CARD).is_file():
            before = load_card(lab, recorded["cell_id"])["document"]
            after = json.loads(json.dumps(now.document))
            said |= dict.fromkeys(_compare(before, after))
    if not said:
        known = record["evaluation"]["rows_hash"], record["evaluation"]["classes_hash"]
        rows = "-".join(sorted({c.rows_id for c in plan.final_cells if c.rows_id}))
        if known != (rows, plan.data.classes.digest):
            said["the rows that are scored, or their classes, are others"] = None
    return list(said) or ["rows that none of its cells uses are others"]


def _compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    said = [words for key, words in _WORDS.items() if before.get(key) != after.get(key)]
    kinds, kinds_now = before["kinds"], after["kinds"]
    for name in sorted({*kinds, *kinds_now}):
        one, two = kinds.get(name, {}), kinds_now.get(name, {})
        if one.get("source") != two.get("source"):
            said.append(f"the file of the extension {name} changed")
        elif one != two:
            said.append(f"{name} computes other numbers than before (semantics)")
    parts, parts_now = before["components"], after["components"]
    said += [
        f"{name} computes other numbers than before (semantics)"
        for name in sorted({*parts, *parts_now})
        if parts.get(name) != parts_now.get(name)
    ]
    return said
