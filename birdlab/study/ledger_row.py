"""What a row of the leaderboard ledger must hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from birdlab.errors import LedgerError

COLUMNS = (
    "id",
    "date",
    "run",
    "name",
    "public",
    "private",
    "metric",
    "source",
    "note",
    "weights",
    "members",
    "checkpoint",
    "postprocessing",
    "precision",
    "bundle",
    "selected",
)
SOURCES = ("add", "score", "import")
WEIGHTS = ("", "folds", "full")
_TEXTS = (
    *("run", "name", "metric", "source", "note", "weights"),
    *("checkpoint", "postprocessing", "precision", "bundle"),
)
_APART = ("other", "tombstone_of", "selects")
Row = dict[str, Any]


def check_row(row: Mapping[str, object], where: str) -> Row:
    """The row with every field present and of its type; LedgerError for what is no row.

    Rows that were written before a field existed have "" in it, the run alone as `members`, and
    are not `selected`. A row with `tombstone_of` or `selects` says something of another row.
    """
    unknown = sorted(set(row) - {*COLUMNS, *_APART})
    if unknown:
        raise LedgerError(
            "a ledger row has a field that does not exist",
            where=where,
            got=", ".join(unknown),
            expected=", ".join(COLUMNS[1:]),
        )
    checked: Row = {"date": _check_date(row.get("date"), where)}
    if row.get("tombstone_of"):
        return checked | {key: _check_text(row, key, where) for key in ("tombstone_of", "note")}
    selected = _check_truth(row.get("selected"), where)
    if row.get("selects"):
        return checked | {"selects": _check_text(row, "selects", where), "selected": selected}
    checked |= {key: _check_text(row, key, where) for key in _TEXTS}
    for key in ("run", "metric"):
        if not checked[key]:
            raise LedgerError(f"a ledger row needs a {key}", where=where, fix=f"say which {key}")
    for key, allowed in (("source", SOURCES), ("weights", WEIGHTS)):
        if checked[key] not in allowed:
            expected = ", ".join(repr(name) for name in allowed)
            raise LedgerError(
                f"{key} is none of the known ones", where=where, got=checked[key], expected=expected
            )
    checked |= {key: check_score(row.get(key), key, where) for key in ("public", "private")}
    checked["members"] = _check_members(row.get("members"), checked["run"], where)
    checked["selected"] = selected
    other = _check_other(row.get("other"), where)
    if other:
        checked["other"] = other
    if checked["public"] is None and checked["private"] is None and not other:
        raise LedgerError(
            "a ledger row needs at least one score",
            where=where,
            fix="give --public 0.84, or --private",
        )
    return {key: checked[key] for key in (*COLUMNS[1:], "other") if key in checked}


def _check_truth(value: object, where: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise LedgerError(
        "selected is neither true nor false",
        where=where,
        got=repr(value),
        expected="true, false, or nothing",
    )


def _check_members(value: object, run: str, where: str) -> list[str]:
    """The runs that the submission is made of, at least the run itself."""
    members = [run] if value is None else value
    texts = isinstance(members, list) and all(isinstance(m, str) and m.strip() for m in members)
    if not (isinstance(members, list) and texts and members):
        raise LedgerError(
            "members are not a list of runs", where=where, got=repr(value), expected=f"['{run}']"
        )
    if len(set(members)) < len(members):
        raise LedgerError(
            "a member is named twice",
            where=where,
            got=", ".join(members),
            expected="each member once",
        )
    return list(members)


def _check_text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise LedgerError(f"{key} is not text", where=where, got=repr(value), expected="text")
    text = (value or "").strip()
    if not text.isprintable() and text.encode(errors="replace").decode() != text:
        raise LedgerError(
            f"{key} holds bytes that are no text",
            where=where,
            got=ascii(text),
            expected="text in UTF-8",
        )
    return text


def _check_date(value: object, where: str) -> str:
    try:
        return datetime.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise LedgerError(
            "date is not a date", where=where, got=value, expected="2025-04-01T12:00:00"
        ) from None


def check_score(value: object, name: str, where: str) -> float | None:
    """A score from 0 to 1, None where there is none; LedgerError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LedgerError(
            f"the {name} score is not a number",
            where=where,
            got=repr(value),
            expected="a finite number",
        )
    if math.isnan(value) or not 0 <= value <= 1:
        raise LedgerError(
            f"the {name} score is outside [0, 1]",
            where=where,
            got=value,
            expected="0 to 1",
            fix="write 0.84, not 84" if value > 1 else None,
        )
    return float(value)


def _check_other(value: object, where: str) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise LedgerError(
            "other is not a set of named scores",
            where=where,
            got=repr(value),
            expected="names and numbers",
        )
    checked: dict[str, float] = {}
    for name, score in value.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) or name in (*COLUMNS, *_APART):
            raise LedgerError(
                "a leaderboard column cannot have this name",
                where=where,
                got=name,
                expected="small letters, digits and _, and no name of a ledger field",
            )
        number = check_score(score, str(name), where)
        if number is not None:
            checked[str(name)] = number
    return checked
