"""Sweeps on their way between labs: the records that the idea ledger reads, and their bets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdlab.errors import BirdlabError
from birdlab.lab import Lab
from birdlab.recorded import load_json
from birdlab.spec.identity import SPEC_ID_CHARS
from birdlab.study.bet_file import bets_path, load_lines
from birdlab.study.sweep_records import check_sweep_record, load_sweep_record
from birdlab.tracking.drivernotes import load_drivers
from birdlab.tracking.index import sweep_path


@dataclass
class TakenSweeps:
    """The sweeps of an archive: new here; here as they are; here otherwise, so not taken."""

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def sweep_files(lab: Lab, runs: Collection[str]) -> dict[str, Path]:
    """The record of each sweep of which every arm is among `runs`, and its bets, by the name in an
    archive; records that cannot be read, or are not those of their name, stay behind.
    """
    files: dict[str, Path] = {}
    for path in sorted((lab.stores / "sweeps").glob("*.json")):
        try:
            record = load_sweep_record(lab, path.stem)
        except BirdlabError:
            continue
        arms = _arms(record)
        if arms and arms <= set(runs) and record["spec"]["name"] == path.stem:
            files[f"sweeps/{path.name}"] = path
            bets = bets_path(lab, path.stem)
            files |= {f"bets/{bets.name}": bets} if bets.is_file() else {}
    return files


def find_unsound_sweep(staging: Path, runs: Collection[str]) -> str:
    """What is wrong with a sweep or bets of an unpacked archive of `runs`; "" where nothing is."""
    records = {path.stem: path for path in sorted(staging.glob("sweeps/*.json"))}
    for name, path in records.items():
        try:
            record = check_sweep_record(load_json(path), path)
        except BirdlabError:
            return f"the record of the sweep {name} is none"
        arms = [*record["arms"], *record["stopped"], *record["failed"]]
        ids = _arms(record)
        if record["spec"]["name"] != name or not all(arm["title"].isprintable() for arm in arms):
            return f"the record of the sweep {name} is not that of this sweep"
        if not all(re.fullmatch(rf"[0-9a-f]{{{SPEC_ID_CHARS}}}", one) for one in ids):
            return f"the sweep {name} names what is no run"
        if not ids <= set(runs):
            return f"the sweep {name} has arms that are not in the archive"
    for path in sorted(staging.glob("bets/*.jsonl")):
        try:
            load_lines(path)
        except BirdlabError:
            return f"the bets of {path.stem} are none"
        if path.stem not in records:
            return f"the bets of {path.stem} are of no sweep in the archive"
    return ""


def take_sweeps(lab: Lab, staging: Path, placed: list[Path]) -> TakenSweeps:
    """Put the sweeps of an unpacked archive into the lab, each with its bets or not at all.

    One whose name the lab has with other content, in bets or in a sweep that runs, is not taken.
    Every file that is made is added to `placed`.
    """
    taken = TakenSweeps()
    running = {note.name for note in load_drivers(lab) if note.state == "running"}
    for record in sorted(staging.glob("sweeps/*.json")):
        name = record.stem
        ways = {record: sweep_path(lab, name)}
        bets = staging / "bets" / f"{name}.jsonl"
        ways |= {bets: bets_path(lab, name)} if bets.is_file() else {}
        there = {source: target for source, target in ways.items() if target.exists()}
        same = all(source.read_bytes() == target.read_bytes() for source, target in there.items())
        if not same or (name in running and not ways[record].exists()):
            taken.other.append(name)
            continue
        (taken.kept if ways[record].exists() else taken.new).append(name)
        for source, target in ways.items():
            if source not in there:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(source, target)
                placed.append(target)
    return taken


def _arms(record: dict[str, Any]) -> set[str]:
    """The runs of all arms that were scored or stopped."""
    return {str(arm["spec_id"]) for arm in (*record["arms"], *record["stopped"])}
