"""Tables of scores as people keep them: CSV read line by line, every fault with its number."""

from __future__ import annotations

import csv
import io
import math
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from birdlab.errors import LedgerError
from birdlab.spec.kinds import nearest

_NOTHING = frozenset({"", "-", "none", "nan", "null", "na", "n/a"})
JOINER = " + "
"""Stands between texts of several columns, and between the names of several runs."""
_MOST_TOLD = 10
_CORRECT = "correct these lines, or take them out, and import the file again"

_MOST_BYTES = 50_000_000
"""Nobody submits that often: a larger file is no ledger, and would fill the memory."""


@dataclass(frozen=True)
class CsvTable:
    """A table as text: its columns, its lines by number in the file, and lines that are none."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[int, dict[str, str]], ...]
    problems: tuple[str, ...]


def read_csv_table(path: Path, what: str) -> CsvTable:
    """The table in a CSV file in UTF-8, separated by commas, semicolons or tabs.

    Cells lose the blanks around them; empty lines are passed over; a line is numbered by where it
    ends. Raises LedgerError, which calls the file `what`, for one that cannot be read, is empty,
    or names a column twice.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            is_file = stat.S_ISREG(found.st_mode)
            raise LedgerError(
                f"the {what} cannot be read",
                where=str(path),
                got=f"{found.st_size / 1e6:.0f} MB" if is_file else "no plain file",
                expected=f"a file of at most {_MOST_BYTES / 1e6:.0f} MB",
                fix="name the CSV file with a line for each submission",
            )
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = "," if "," in first else ";" if ";" in first else "\t"
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, csv.Error) as error:
        raise LedgerError(
            f"the {what} cannot be read",
            where=str(path),
            got=error,
            expected="a CSV in UTF-8 with a row of names",
        ) from None
    except UnicodeDecodeError as error:
        raise LedgerError(
            f"the {what} cannot be read",
            where=str(path),
            got=error,
            expected="text in UTF-8",
            fix="save the table as CSV in UTF-8",
        ) from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise LedgerError(
            f"the {what} cannot be read",
            where=str(path),
            got="an empty file",
            expected="a CSV in UTF-8 with a row of names",
        )
    columns = rows[0][1]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise LedgerError(
            f"the {what} name a column twice",
            where=f"{path}:1",
            got=", ".join(twice),
            expected="each column once",
        )
    fitting = [row for row in rows[1:] if len(row[1]) == len(columns)]
    problems = [
        f"line {number}: {len(row)} cells under {len(columns)} columns"
        for number, row in rows[1:]
        if len(row) != len(columns)
    ]
    lines = [(number, dict(zip(columns, row, strict=True))) for number, row in fitting]
    return CsvTable(path, tuple(columns), tuple(lines), tuple(problems))


def check_columns(table: CsvTable, needed: Iterable[str], fix: str) -> None:
    """Raise LedgerError, with the nearest names there are, unless the table has all columns."""
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise LedgerError(
            "the table lacks a column",
            where=f"{table.path}:1",
            got=", ".join(missing),
            expected=nearest(missing[0], list(table.columns)),
            fix=fix,
        )


def refuse_lines(path: Path, problems: Sequence[str], fix: str = _CORRECT) -> None:
    """Raise LedgerError that lists the lines at fault, if there are any: nothing is imported."""
    if not problems:
        return
    more = len(problems) - _MOST_TOLD
    told = [*problems[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
    raise LedgerError(
        f"nothing is imported: {len(problems)} of the lines cannot be",
        where=str(path),
        got="\n            ".join(told),
        fix=fix,
    )


def parse_score(text: str) -> float | None:
    """A score from 0 to 1, None where the cell says nothing; ValueError that says what is wrong."""
    if text.lower() in _NOTHING:
        return None
    if text.endswith("%"):
        raise ValueError(f"{text} is a percentage; write 0.84 for 84 %")
    if re.fullmatch(r"-?\d*,\d+", text):
        raise ValueError(f"{text} has a decimal comma; write {text.replace(',', '.')}")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if math.isnan(value) or not 0 <= value <= 1:
        raise ValueError(f"{text} is outside 0 to 1" + ("; write 0.84, not 84" * (value > 1)))
    return value


def parse_scores(text: str) -> tuple[float, ...]:
    """Scores in one cell, as `0.97;0.98`; separated by ; or |, else by commas or blanks.

    Empty where the cell says nothing. Raises ValueError as `parse_score` does, and for a gap.
    """
    inner = text.strip("[]() ")
    if inner.lower() in _NOTHING:
        return ()
    parts = re.split(r"[;|]", inner) if re.search(r"[;|]", inner) else re.split(r"[,\s]+", inner)
    scores = [parse_score(part.strip()) for part in parts]
    if None in scores:
        raise ValueError(f"score {scores.index(None) + 1} of {len(scores)} is missing in {text}")
    return tuple(score for score in scores if score is not None)


def parse_date(text: str) -> str:
    """The date in ISO form with its time zone, UTC where none is named; ValueError for no date."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is no date; write 2025-04-01 or 2025-04-01 12:00"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).isoformat()
