"""The leaderboard ledger: one JSON line per score, only ever appended to.

A row holds `id, date, run, name, public, private, metric, source, note, weights` and, where a
competition shows more than two columns, `other: {name: score}`. A row is withdrawn by a later
row with `tombstone_of`; nothing is rewritten. A last line without its newline is kept when it
reads as a whole row (only the newline is missing) and is an error when it does not (the write
was cut off: the row was never confirmed to anyone).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from birdlab.errors import LedgerError
from birdlab.study.ledger_row import COLUMNS, Row, check_row

LOCK_TIMEOUT_S = 30.0


def append_row(path: Path, row: Mapping[str, object]) -> Row:
    """The row as it was stored at the end of the ledger, with its `id` and `date` filled in.

    A score row needs `run`, `metric`, `source` and at least one score in [0, 1]; a row with
    `tombstone_of` withdraws the row of that id and needs nothing else. Scores that repeat a live
    row in everything but id and date are refused. Written under a lock and synced to the disk
    before it returns. Raises LedgerError and leaves the file as it was.
    """
    with _locked(path):
        rows, complete = _read_rows(path)
        stored = check_row({"date": datetime.now(UTC).isoformat(), **row}, where=str(path))
        stored = {"id": _row_id(stored), **stored}
        _check_against(rows, stored, path)
        line = json.dumps(stored, ensure_ascii=False, allow_nan=False) + "\n"
        _append_bytes(path, (("" if complete else "\n") + line).encode())
    return stored


def retract_row(path: Path, row_id: str, note: str = "") -> Row:
    """The tombstone that withdraws the row with this id. LedgerError if no live row has it."""
    return append_row(path, {"tombstone_of": row_id, "note": note})


def load_ledger(path: Path) -> pd.DataFrame:
    """The rows that stand, oldest first: the columns of COLUMNS, then one per `other` score.

    Scores are floats, NaN where a row has none; withdrawn rows and tombstones are left out. A
    ledger that does not exist yet is an empty table. Raises LedgerError with the line number for
    a line that is not a row.
    """
    rows, _ = _read_rows(path)
    live = [{**row, **row.get("other", {})} for row in _live_rows(rows)]
    others = sorted({name for row in live for name in row.get("other", {})})
    table = pd.DataFrame(live, columns=[*COLUMNS, *others])
    scores = ["public", "private", *others]
    return table.astype(dict.fromkeys(scores, "float64"))


def score_columns(ledger: pd.DataFrame) -> list[str]:
    """The names of the leaderboard columns that hold at least one score."""
    others = [name for name in ledger.columns if name not in COLUMNS]
    return [name for name in ("public", "private", *others) if ledger[name].notna().any()]


def _row_id(row: Row) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:12]


def _check_against(rows: list[Row], stored: Row, path: Path) -> None:
    """Raise unless the new row withdraws a live row, or says something no live row says."""
    live = _live_rows(rows)
    target = stored.get("tombstone_of")
    if target is not None and all(row["id"] != target for row in live):
        raise LedgerError(
            "no standing ledger row has this id",
            where=str(path),
            got=target,
            expected=", ".join(row["id"] for row in live[-5:]) or "an empty ledger has none",
        )
    said = [{k: v for k, v in row.items() if k not in ("id", "date")} for row in live]
    content = {k: v for k, v in stored.items() if k not in ("id", "date")}
    if content in said:
        twin = live[said.index(content)]
        raise LedgerError(
            "this score is already in the ledger",
            where=f"{path}, row {twin['id']} of {twin['date']}",
            got=", ".join(f"{key} {stored.get(key)}" for key in ("run", "public", "private")),
            fix="nothing to do; for a second submission with the same score, add a note",
        )


def _live_rows(rows: list[Row]) -> list[Row]:
    dead = {row["tombstone_of"] for row in rows if "tombstone_of" in row}
    return [row for row in rows if "tombstone_of" not in row and row["id"] not in dead]


def _read_rows(path: Path) -> tuple[list[Row], bool]:
    """All rows in order, and whether the file ends with a newline (or is empty)."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return [], True
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError("the ledger cannot be read", where=str(path), got=error) from None
    complete = text == "" or text.endswith("\n")
    lines = text.split("\n")
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse_line(line, f"{path}:{number}", torn=not complete and number == len(lines))
        if rows.setdefault(row["id"], row) != row:
            raise LedgerError(
                "two different ledger rows have one id", where=f"{path}:{number}", got=row["id"]
            )
    return list(rows.values()), complete


def _parse_line(line: str, where: str, *, torn: bool) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        if torn:
            raise LedgerError(
                "the last ledger line was cut off while it was written",
                where=where,
                got=line[:60],
                fix="delete that line, then add its score again",
            ) from None
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise LedgerError(
            "a ledger line is not a row",
            where=where,
            got=line[:60],
            expected="a JSON object with an id, on one line",
            fix="restore the line from version control, or delete it",
        )
    return {"id": row["id"], **check_row(row, where)}


def _append_bytes(path: Path, data: bytes) -> None:
    """Write at the end and sync; a write that fails half way is taken back."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise LedgerError("the ledger cannot be written", where=str(path), got=error) from None
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes fit")
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise LedgerError(
                "the score was not stored", where=str(path), got=error, fix="free space, try again"
            ) from None
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, Timeout) as error:
        raise LedgerError("the ledger cannot be locked", where=str(path), got=error) from None
    try:
        yield
    finally:
        lock.release()
