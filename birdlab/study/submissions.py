"""Leaderboard scores from the submissions table that the Kaggle command line writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from birdlab.errors import LedgerError
from birdlab.study.ledger import append_row, load_ledger
from birdlab.study.ledger_row import Row

NEEDED = ("fileName", "date", "description", "status", "publicScore", "privateScore")


@dataclass(frozen=True)
class ImportReport:
    """What an import did: the rows it stored, those already there, and the rest with reasons."""

    added: tuple[Row, ...]
    known: tuple[str, ...]
    unmatched: tuple[str, ...]


def import_submissions(
    path: Path, ledger: Path, known_runs: pd.DataFrame, *, metric: str, weights: str = ""
) -> ImportReport:
    """What was imported from `kaggle competitions submissions --csv`.

    A submission belongs to the run whose spec id or MLflow run id (at least 8 characters of it)
    stands in its description; `known_runs` has columns run, name, mlflow_run_id. Submissions
    that name no run, or several, or have no score, are listed, never guessed. Importing the same
    file again adds nothing. Raises LedgerError if the file is not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise LedgerError("the submissions cannot be read", where=str(path), got=error) from None
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise LedgerError(
            "the submissions lack a column",
            where=str(path),
            got=", ".join(table.columns),
            expected=", ".join(missing),
            fix="export them with: kaggle competitions submissions -c NAME --csv",
        )
    notes = set(load_ledger(ledger)["note"])
    added: list[Row] = []
    known: list[str] = []
    unmatched: list[str] = []
    for line, entry in enumerate(table.to_dict("records"), start=2):
        note = f"{entry['fileName']} of {entry['date']}: {entry['description']}".strip()
        public, private = (
            _score(entry[name], f"{path}:{line}") for name in ("publicScore", "privateScore")
        )
        runs = _named_runs(str(entry["description"]), known_runs)
        if note in notes:
            known.append(note)
        elif public is None and private is None:
            unmatched.append(f"{note} (no score, status {entry['status']})")
        elif len(runs) != 1:
            unmatched.append(f"{note} ({f'names {len(runs)} runs' if runs else 'names no run'})")
        else:
            row = {
                "date": str(entry["date"]),
                "run": runs[0],
                "name": str(known_runs.set_index("run")["name"][runs[0]]),
                "public": public,
                "private": private,
                "metric": metric,
                "source": "import",
                "note": note,
                "weights": weights,
            }
            added.append(append_row(ledger, row))
            notes.add(note)
    return ImportReport(tuple(added), tuple(known), tuple(unmatched))


def _named_runs(description: str, known_runs: pd.DataFrame) -> list[str]:
    words = re.findall(r"\b[0-9a-f]{8,32}\b", description.lower())
    ids = zip(known_runs["run"], known_runs["mlflow_run_id"].fillna(""), strict=True)
    return [
        str(run)
        for run, mlflow_run_id in ids
        if any(str(run).startswith(word) or str(mlflow_run_id).startswith(word) for word in words)
    ]


def _score(text: object, where: str) -> float | None:
    if str(text).strip() in ("", "None", "nan"):
        return None
    try:
        return float(str(text))
    except ValueError:
        raise LedgerError("a score is not a number", where=where, got=text) from None
