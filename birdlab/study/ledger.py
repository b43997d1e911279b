"""The leaderboard ledger: one JSON line per submission, only ever appended to.

A row holds the fields of COLUMNS and, where a competition shows more than two columns,
`other: {name: score}`. A row is withdrawn by a later row with `tombstone_of`, and becomes one of
the final submissions by one with `selects`; nothing is rewritten. A last line without its newline
is kept when it reads as a whole row (only the newline is missing) and is an error when it does
not (the write was cut off: the row was never confirmed to anyone).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
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

    See `append_rows`; a row that repeats a live one is refused.
    """
    return append_rows(path, [row])[0]


def append_rows(
    path: Path, rows: Iterable[Mapping[str, object]], *, skip_known: bool = False
) -> list[Row]:
    """The rows as they were stored, all of them or none, in one write.

    A score row needs `run`, `metric`, `source` and at least one score in [0, 1]; a row with
    `tombstone_of` withdraws the row of that id, one with `selects` sets its `selected`, and both
    need nothing else; the start of an id is enough where one row has it. Rows that repeat a live
    row, or one another, in everything but id, date and `selected` are refused, or left out with
    `skip_known`. Written under a lock and synced to the disk before it returns. Raises LedgerError
    and leaves the file as it was.
    """
    with _locked(path):
        known, complete = _read_rows(path)
        live = {row["id"]: row for row in _live_rows(known)}
        said = {_content(row): row["id"] for row in live.values()}
        taken = {row["id"] for row in known}
        added: list[Row] = []
        for row in rows:
            stored = check_row({"date": datetime.now(UTC).isoformat(), **row}, where=str(path))
            about = next((key for key in ("tombstone_of", "selects") if key in stored), None)
            if about:
                stored[about] = _find_target(live, stored[about], path)
            stored = {"id": _row_id(stored, taken), **stored}
            if about:
                if about == "tombstone_of":
                    said.pop(_content(live.pop(stored["tombstone_of"])), None)
            elif (twin := said.get(_content(stored))) is None:
                live[stored["id"]], said[_content(stored)] = stored, stored["id"]
            elif skip_known:
                continue
            else:
                raise _repeated(live[twin], path)
            added.append(stored)
            taken.add(stored["id"])
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in added]
        if lines:
            _append_bytes(path, "\n".join([*([] if complete else [""]), *lines, ""]).encode())
    return added


def retract_row(path: Path, row_id: str, note: str = "") -> Row:
    """The tombstone that withdraws the row with this id. LedgerError if no live row has it."""
    return append_row(path, {"tombstone_of": row_id, "note": note})


def select_rows(path: Path, row_ids: Iterable[str], *, selected: bool = True) -> list[Row]:
    """What was stored: rows with these ids are final submissions from now on, or no longer."""
    return append_rows(path, [{"selects": row_id, "selected": selected} for row_id in row_ids])


def load_rows(path: Path) -> list[Row]:
    """The rows that stand, oldest first, with their ids; see `load_ledger` for the errors."""
    rows, _ = _read_rows(path)
    return _live_rows(rows)


def load_ledger(path: Path) -> pd.DataFrame:
    """The rows that stand, oldest first: the columns of COLUMNS, then one per `other` score.

    Scores are floats, NaN where a row has none; `members` is a list of runs, `selected` a truth
    value. Withdrawn rows are left out. A ledger that does not exist yet is an empty table. Raises
    LedgerError with the line number for a line that is not a row.
    """
    live = [{**row, **row.get("other", {})} for row in load_rows(path)]
    others = sorted({name for row in live for name in row.get("other", {})})
    table = pd.DataFrame(live, columns=[*COLUMNS, *others])
    scores = ["public", "private", *others]
    return table.astype({**dict.fromkeys(scores, "float64"), "selected": bool})


def sort_by_date(ledger: pd.DataFrame) -> pd.DataFrame:
    """The rows by when they were submitted, the newest last; dates without a zone are in UTC."""
    when = pd.to_datetime(ledger["date"], utc=True, format="ISO8601")
    return ledger.loc[when.sort_values(kind="stable").index]


def score_columns(ledger: pd.DataFrame) -> list[str]:
    """The names of the leaderboard columns that hold at least one score."""
    others = [name for name in ledger.columns if name not in COLUMNS]
    return [name for name in ("public", "private", *others) if ledger[name].notna().any()]


def _row_id(row: Row, taken: Collection[str]) -> str:
    """A new id; that of the content, unless a row of the same content and date was withdrawn."""
    text = json.dumps(row, sort_keys=True)
    while (row_id := hashlib.sha256(text.encode()).hexdigest()[:12]) in taken:
        text += " again"
    return row_id


def _content(row: Row) -> str:
    """What a submission says; two rows that say the same are one."""
    kept = {k: v for k, v in row.items() if k not in ("id", "date", "selected")}
    return json.dumps(kept, sort_keys=True)


def _find_target(live: Mapping[str, Row], given: str, path: Path) -> str:
    """The id of the standing row whose id begins so; LedgerError if there is not just one."""
    if given in live:
        return given
    found = [row_id for row_id in live if row_id.startswith(given)]
    if len(found) != 1:
        number = f"{len(found)} standing ledger rows have ids that begin so"
        raise LedgerError(
            number if found else "no standing ledger row has this id",
            where=str(path),
            got=given,
            expected=", ".join(found or list(live)[-5:]) or "an empty ledger has none",
            fix="see `birdlab lb list`",
        )
    return found[0]


def _repeated(twin: Row, path: Path) -> LedgerError:
    return LedgerError(
        "this score is already in the ledger",
        where=f"{path}, row {twin['id']} of {twin['date']}",
        got=", ".join(f"{key} {twin.get(key)}" for key in ("run", "public", "private")),
        fix="nothing to do; for a second submission with the same score, add a note",
    )


def _live_rows(rows: list[Row]) -> list[Row]:
    """The rows that stand, each selected or not as was said of it last."""
    dead = {row["tombstone_of"] for row in rows if "tombstone_of" in row}
    chosen = {row["selects"]: row["selected"] for row in rows if "selects" in row}
    return [
        row | {"selected": chosen.get(row["id"], row["selected"])}
        for row in rows
        if "metric" in row and row["id"] not in dead
    ]


def _read_rows(path: Path) -> tuple[list[Row], bool]:
    """All rows in order, and whether the file ends with a newline (or is empty)."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return [], True
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(
            "the ledger cannot be read",
            where=str(path),
            got=error,
            expected="a file in UTF-8 that you may read",
        ) from None
    complete = text == "" or text.endswith("\n")
    lines = text.split("\n")
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parse_line(line, f"{path}:{number}", torn=not complete and number == len(lines))
        if rows.setdefault(row["id"], row) != row:
            raise LedgerError(
                "two different ledger rows have one id",
                where=f"{path}:{number}",
                got=row["id"],
                fix="keep the right one of the two lines",
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
        raise LedgerError(
            "the ledger cannot be written",
            where=str(path),
            got=error,
            fix="make the file and its folder writable, and see that the disk has room",
        ) from None
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
        raise LedgerError(
            "the ledger cannot be locked",
            where=str(path),
            got=error,
            fix="make the folder of the ledger writable",
        ) from None
    try:
        yield
    finally:
        lock.release()
