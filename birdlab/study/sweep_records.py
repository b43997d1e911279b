"""Sweeps read back from the lab alone: the record of one, and the records of its arms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from birdlab.errors import ResolveError, TrackingError
from birdlab.lab import Lab
from birdlab.recorded import load_json
from birdlab.spec.sweep import SweepSpec
from birdlab.study.bet_file import load_placed
from birdlab.study.cost_records import load_cell_costs, load_model_costs
from birdlab.study.noise_file import load_noise
from birdlab.study.stored_sweep import StoredSweep
from birdlab.tracking.drivernotes import load_driver
from birdlab.tracking.index import SWEEP_FIX, load_record, sweep_path

GONE = "its record is no longer in the lab, so it is left out"


def load_sweep_record(lab: Lab, name: str) -> dict[str, Any]:
    """The record of a sweep; ResolveError for one that the lab has none of.

    Raises TrackingError for one that cannot be read, or that is not what this birdlab writes.
    """
    path = sweep_path(lab, name)
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise ResolveError(
            "the lab has no record of such a sweep",
            got=name,
            expected=", ".join(known) or "a sweep that ran to its end",
            fix="birdlab sweep its file: what is in the cache is not trained again",
        )
    return check_sweep_record(load_json(path, SWEEP_FIX), path)


def check_sweep_record(record: Any, path: Path) -> dict[str, Any]:
    """The record that was read from `path`; TrackingError where it is none of a sweep.

    Older records hold no `point` of an arm, and of one that was stopped no `delta` either.
    """
    try:
        SweepSpec.model_validate_json(json.dumps(record["spec"]))
        arms = [*record["arms"], *record["stopped"]]
        told = [record["updated_at"], *(arm[key] for arm in arms for key in ("title", "spec_id"))]
        told += [arm[key] for arm in record["failed"] for key in ("title", "error")]
        told += [arm["at"] for arm in record["stopped"]]
        changes = [arm["delta"] for arm in record["arms"]]
        changes += [arm.get(key, {}) for arm in arms for key in ("delta", "point")]
        whole = all(isinstance(text, str) for text in told)
        whole = whole and all(isinstance(change, dict) for change in changes)
    except (LookupError, TypeError, AttributeError, ValidationError):
        whole = False
    if not whole:
        raise TrackingError(
            "the record of a sweep is of another version of birdlab, or broken",
            where=str(path),
            fix=SWEEP_FIX,
        )
    return dict(record)


def load_sweep_spec(lab: Lab, name: str) -> SweepSpec:
    """What a recorded sweep asks; raises what `load_sweep_record` does."""
    return SweepSpec.model_validate_json(json.dumps(load_sweep_record(lab, name)["spec"]))


def load_sweep(lab: Lab, name: str) -> StoredSweep:
    """The sweep of this name, with its record as `load_sweep_record` reads it, and what it raises.

    Raises LabError for bets that cannot be read. An arm whose record was removed since is among
    those without a score.
    """
    record = load_sweep_record(lab, name)
    for kind in ("arms", "stopped"):
        there = [(lab.runs / f"{arm['spec_id']}.json").is_file() for arm in record[kind]]
        gone = [arm for arm, here in zip(record[kind], there, strict=True) if not here]
        record[kind] = [arm for arm, here in zip(record[kind], there, strict=True) if here]
        record["failed"] = [
            *record["failed"],
            *({"title": arm["title"], "error": GONE} for arm in gone),
        ]
    arms = [*record["arms"], *record["stopped"]]
    runs = {arm["title"]: load_record(lab, arm["spec_id"]) for arm in arms}
    driver = load_driver(lab.stores / "drivers", name)
    first = next(iter(runs.values()), None)
    data = {} if first is None else first["evaluation"]
    noise = load_noise(lab, data["rows_hash"], data["classes_hash"]) if data else None
    return StoredSweep(
        name,
        record,
        runs,
        "" if driver is None else driver.command,
        noise,
        lambda: (load_cell_costs(lab, runs.values()), load_model_costs(lab, runs)),
        tuple(load_placed(lab, name)),
    )
