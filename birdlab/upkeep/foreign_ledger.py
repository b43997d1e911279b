"""Lines of a foreign ledger as runs of a lab: scores without outputs, so that it has a history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.errors import LedgerError
from birdlab.lab import Lab, write_whole
from birdlab.recorded import load_json
from birdlab.spec.identity import SPEC_ID_CHARS, digest
from birdlab.study.foreign_ledger import ForeignLedger, ForeignLine
from birdlab.study.ledger import append_rows, load_rows
from birdlab.study.ledger_csv import refuse_lines
from birdlab.study.ledger_row import Row

_CONTENT = ("scores", "fold_scores", "attributes", "evaluation")
"""What two lines of one name must have in common to be one run."""
_DESCRIBED = ("weights", "checkpoint", "postprocessing", "precision", "bundle")


@dataclass(frozen=True)
class LedgerImport:
    """What an import did: runs and rows that it wrote, and how many were there already.

    `n_other_rows` of those that were there have other fields than this import would give them.
    """

    runs: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]
    n_known_runs: int
    n_known_rows: int
    n_other_rows: int = 0


def import_ledger(
    lab: Lab,
    ledger: ForeignLedger,
    *,
    competition: str,
    defaults: Mapping[str, str] | None = None,
    replace: bool = False,
) -> LedgerImport:
    """What was written: a run for each name, and a row for each line with a leaderboard score.

    Runs of equal competition, split and number of folds compare. A line whose run the lab has
    adds its row alone; scores that were imported for it before are added no second time, so a
    file may be imported again after it grew. `defaults` are fields of the rows that lines leave
    empty. A run that came with other scores or attributes before is refused; with `replace` it is
    written anew, and so are rows that came with other fields. Raises LedgerError, with all lines
    at fault, and then nothing is imported.
    """
    rows = _build_rows(ledger, competition, defaults or {})
    lab.runs.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.runs / ".lock"):
        records, n_known = _new_records(lab, ledger, competition, replace)
        with _written(lab, records):
            new_rows, n_other = _new_rows(lab, rows, replace)
            added = append_rows(lab.ledger, new_rows, skip_known=True)
    entered = tuple(row for row in added if "run" in row)
    return LedgerImport(tuple(records), entered, n_known, len(rows) - len(entered), n_other)


@contextmanager
def _written(lab: Lab, records: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Inside, the records are on the disk; if anything fails, what was there before is again."""
    before: dict[Path, str | None] = {}
    try:
        for record in records:
            path = lab.runs / f"{record['spec_id']}.json"
            before[path] = path.read_text(encoding="utf-8") if path.is_file() else None
            write_whole(path, json.dumps(record, indent=1))
        yield
    except BaseException as error:
        for path, text in before.items():
            path.unlink(missing_ok=True) if text is None else write_whole(path, text)
        if isinstance(error, OSError):
            raise LedgerError(
                "nothing is imported: the runs cannot be written",
                where=str(lab.runs),
                got=error,
                fix="make room, or let this folder be written, and import the file again",
            ) from None
        raise


def run_of_line(competition: str, name: str) -> str:
    """The id of the run that a line of this name becomes."""
    return digest({"foreign_ledger": competition, "name": name}, SPEC_ID_CHARS)


def _new_records(
    lab: Lab, ledger: ForeignLedger, competition: str, replace: bool
) -> tuple[list[dict[str, Any]], int]:
    """The records to write, in the order of the file, and how many the lab has as they are."""
    first = datetime.now(UTC) - timedelta(milliseconds=len(ledger.lines))
    records: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    problems = []
    for place, line in enumerate(ledger.lines):
        record = _build_record(ledger, line, competition, first + timedelta(milliseconds=place))
        run = record["spec_id"]
        if run in records and (changed := _changes(records[run], record)):
            problems.append(f"line {line.number}: an earlier {line.name} has other {changed}")
        if run in records:
            continue
        path = lab.runs / f"{run}.json"
        before = load_json(path) if path.is_file() else record
        if (changed := _changes(before, record)) and not replace:
            problems.append(f"line {line.number}: {line.name} is in the lab with other {changed}")
        if path.is_file() and not changed:
            known.add(run)
        records[run] = record
    fix = "correct them, or write runs of the lab anew with --replace"
    refuse_lines(ledger.path, problems, fix)
    return [record for run, record in records.items() if run not in known], len(known)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """In words, what differs between two records of one name; "" for nothing."""
    changed = [key for key in _CONTENT if before.get(key) != after[key]]
    return ", ".join(key.replace("_", " ") for key in changed)


def _build_rows(ledger: ForeignLedger, competition: str, defaults: Mapping[str, str]) -> list[Row]:
    return [
        {
            **line.row,
            **{key: value for key, value in defaults.items() if not line.row.get(key)},
            "run": run_of_line(competition, line.name),
            "name": line.name,
            "metric": ledger.metric,
            "source": "import",
        }
        for line in ledger.lines
        if line.is_submitted
    ]


def _new_rows(lab: Lab, rows: list[Row], replace: bool) -> tuple[list[Row], int]:
    """The rows whose scores were not imported before; with `replace` also those that differ else.

    Those come after the tombstones of the rows that they replace. Without it their number comes
    second.
    """
    standing = {_says(row): row for row in load_rows(lab.ledger) if row["source"] == "import"}
    gone, new, n_other = [], [], 0
    for row in rows:
        before = standing.get(_says(row))
        if before is None:
            new.append(row)
        elif all(before[key] == row.get(key, "") for key in _DESCRIBED):
            continue
        elif not replace:
            n_other += any((row.get(key) or before[key]) != before[key] for key in _DESCRIBED)
        else:
            gone.append({"tombstone_of": before["id"], "note": "imported anew"})
            kept = {"date": before["date"], "selected": row["selected"] or before["selected"]}
            new.append(row | kept)
    return [*gone, *new], n_other


def _says(row: Row) -> str:
    """What a submission scored: two lines with the same are one."""
    kept = ("run", "metric", "public", "private", "other", "note")
    return json.dumps({key: row.get(key) for key in kept}, sort_keys=True)


def _build_record(
    ledger: ForeignLedger, line: ForeignLine, competition: str, at: datetime
) -> dict[str, Any]:
    """The record of a line: no spec, no cells, the score of each fold kept beside."""
    made = at.isoformat(timespec="milliseconds")
    split = line.attributes.get("split", "")
    return {
        "spec_id": run_of_line(competition, line.name),
        "name": line.name,
        "project": competition,
        "delta": {},
        "sweeps": {},
        "created_at": made,
        "updated_at": made,
        "scores": dict(line.scores),
        "estimators": [name[3:] for name in line.scores if not name.endswith("_sd")],
        "chosen": "",
        "stopped_at": "",
        "cells": [],
        "fold_scores": [
            {"fold": fold, "seed": 0, ledger.metric: score} for fold, score in enumerate(line.folds)
        ],
        "attributes": dict(line.attributes),
        "evaluation": {
            "metric": ledger.metric,
            "folds": list(range(len(line.folds))),
            "seeds": [0] if line.folds else [],
            "n_rows": 0,
            "n_classes": 0,
            "rows_hash": digest({"competition": competition, "split": split}, 12),
            "classes_hash": digest({"competition": competition}, 12),
            "soundscapes_hash": "",
        },
        "spec": None,
        "environment": {},
        "foreign": {"ledger": ledger.path.name, "metric": ledger.metric, **line.said},
    }
