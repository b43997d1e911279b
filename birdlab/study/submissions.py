"""Leaderboard scores from the submissions table that the Kaggle command line writes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdlab.study.ledger import append_rows, load_ledger
from birdlab.study.ledger_csv import (
    JOINER,
    check_columns,
    parse_date,
    parse_score,
    read_csv_table,
    refuse_lines,
)
from birdlab.study.ledger_row import COLUMNS, Row

NEEDED = ("fileName", "date", "description", "status", "publicScore", "privateScore")


@dataclass(frozen=True)
class Bundle:
    """What was submitted: the runs it is made of, and of a promoted model its id and version.

    `version` is `name/number` in the registry; `name` and `version` are "" for a run alone.
    """

    runs: tuple[str, ...]
    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class ImportReport:
    """What an import did: the rows it stored, those already there, and the rest with reasons.

    `updated` are rows that replace one that was imported before its scores changed; `strange` are
    those of the known ones that are in the ledger as scores of another metric.
    """

    added: tuple[Row, ...]
    updated: tuple[Row, ...]
    known: tuple[str, ...]
    unmatched: tuple[str, ...]
    strange: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """A line of the table; `note` names it."""

    note: str
    description: str
    status: str
    date: str
    public: float | None
    private: float | None

    @property
    def has_score(self) -> bool:
        """Whether it was scored."""
        return self.public is not None or self.private is not None

    def replace(self, row: Row) -> Row:
        """A row of the ledger with the scores of this line."""
        kept = {key: row[key] for key in COLUMNS if key not in ("id", "date")}
        return {**kept, "date": self.date, "public": self.public, "private": self.private}

    def repeats(self, row: Mapping[str, float]) -> bool:
        """Whether a row of the ledger has the same scores."""
        own = {"public": self.public, "private": self.private}
        return all(
            math.isnan(row[key]) if score is None else row[key] == score
            for key, score in own.items()
        )


def import_submissions(
    path: Path,
    ledger: Path,
    known_runs: pd.DataFrame,
    *,
    metric: str,
    bundles: Sequence[Bundle] = (),
    said: Mapping[str, str] | None = None,
) -> ImportReport:
    """What was imported from `kaggle competitions submissions --csv`, in one write.

    A submission belongs to what its description names: a promoted model, by its id or by
    `name/version`, or a run, by its spec id or MLflow run id; of ids at least 8 characters.
    `known_runs` has columns run, name, mlflow_run_id. Submissions that name nothing, or several
    things, or have no score, are listed, never guessed. Importing the same file again adds
    nothing; a submission whose scores changed since, as when the private ones come out, takes the
    place of its row. `said` are fields that all rows get. Raises LedgerError if the file is not
    such a table, with all its lines at fault.
    """
    entries = {entry.note: entry for entry in _read_entries(path)}
    standing = {row["note"]: row for row in load_ledger(ledger).to_dict("records")}
    scored = {note: entry for note, entry in entries.items() if entry.has_score}
    known = [n for n, e in scored.items() if n in standing and e.repeats(standing[n])]
    changed = [
        (standing[note], entry)
        for note, entry in scored.items()
        if note in standing and note not in known
    ]
    names = dict(zip(known_runs["run"], known_runs["name"], strict=True))
    new, unmatched = [], []
    for entry in entries.values():
        found = _find_named(entry.description, known_runs, bundles)
        if not entry.has_score:
            unmatched.append(f"{entry.note} (no score, status {entry.status})")
        elif entry.note not in standing and len(found) != 1:
            what = f"names {len(found)} runs or models" if found else "names no run"
            unmatched.append(f"{entry.note} ({what})")
        elif entry.note not in standing:
            new.append(_build_row(entry, found[0], names, metric) | dict(said or {}))
    gone = [{"tombstone_of": row["id"], "note": "its scores changed"} for row, _ in changed]
    again = [entry.replace(row) for row, entry in changed]
    stored = append_rows(ledger, [*gone, *again, *new])[len(gone) :]
    n = len(again)
    strange = tuple(note for note in known if standing[note]["metric"] != metric)
    return ImportReport(
        tuple(stored[n:]), tuple(stored[:n]), tuple(known), tuple(unmatched), strange
    )


def _read_entries(path: Path) -> list[_Entry]:
    table = read_csv_table(path, "submissions")
    check_columns(table, NEEDED, "export them with: kaggle competitions submissions -c NAME --csv")
    entries, problems = [], list(table.problems)
    for number, cells in table.lines:
        try:
            entry = _Entry(
                f"{cells['fileName']} of {cells['date']}: {cells['description']}".strip(),
                cells["description"],
                cells["status"],
                parse_date(cells["date"]),
                parse_score(cells["publicScore"]),
                parse_score(cells["privateScore"]),
            )
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        else:
            entries.append(entry)
    refuse_lines(path, problems)
    return entries


def _build_row(entry: _Entry, what: Bundle, names: Mapping[str, str], metric: str) -> Row:
    return {
        "date": entry.date,
        "run": what.runs[0],
        "members": list(what.runs),
        "name": JOINER.join(str(names.get(run, run)) for run in what.runs),
        "public": entry.public,
        "private": entry.private,
        "metric": metric,
        "source": "import",
        "note": entry.note,
        "bundle": what.name,
    }


def _find_named(
    description: str, known_runs: pd.DataFrame, bundles: Sequence[Bundle]
) -> list[Bundle]:
    """What a description names: models, and the runs that are in none of these."""
    words = re.findall(r"\b[0-9a-f]{8,32}\b", description.lower())
    versions = set(re.findall(r"[\w.-]+/\d+\b", description))
    found = [
        bundle
        for bundle in bundles
        if bundle.version in versions or any(bundle.name.startswith(word) for word in words)
    ]
    inside = {run for bundle in found for run in bundle.runs}
    ids = zip(known_runs["run"], known_runs["mlflow_run_id"].fillna(""), strict=True)
    alone = [
        Bundle((str(run),))
        for run, mlflow_run_id in ids
        if any(str(run).startswith(word) or str(mlflow_run_id).startswith(word) for word in words)
    ]
    return [*found, *(bundle for bundle in alone if bundle.runs[0] not in inside)]
