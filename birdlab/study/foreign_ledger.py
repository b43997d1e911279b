"""A ledger that someone kept elsewhere, read by a mapping from fields to its columns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from birdlab.errors import LedgerError
from birdlab.spec.kinds import nearest
from birdlab.spec.yamlfile import load_yaml
from birdlab.study.ledger_csv import (
    JOINER,
    CsvTable,
    check_columns,
    parse_date,
    parse_score,
    parse_scores,
    read_csv_table,
    refuse_lines,
)
from birdlab.study.ledger_row import WEIGHTS
from birdlab.tracking.attributes import ATTRIBUTES, family_of
from birdlab.words import count_words

ROW_TEXTS = ("note", "weights", "postprocessing", "precision", "bundle")
FIELDS = ("name", "folds", *ATTRIBUTES, "public", "private", "date", *ROW_TEXTS, "selected")
"""What a column may be, beside `cv/SCORE` and `lb/COLUMN`."""
_SHORT = {"lb/public": "public", "lb/private": "private"}
_SCORE = re.compile(r"(cv|lb)/[a-z][a-z0-9_]*")
_TRUTH = {
    **dict.fromkeys(("", "0", "no", "false", "n"), False),
    **dict.fromkeys(("1", "yes", "true", "y", "x"), True),
}
_ROUNDING = 0.001
_T = TypeVar("_T")


@dataclass(frozen=True)
class ForeignLine:
    """One line: a run with its CV scores, and what it scored on the leaderboard.

    scores: `cv/...`; folds: the score of each fold in the leaderboard's metric, or none;
    attributes: what ATTRIBUTES say of the run; said: every mapped text as it stands in the file;
    row: the fields of a ledger row, without scores where the line was never submitted.
    """

    number: int
    name: str
    scores: Mapping[str, float]
    folds: tuple[float, ...]
    attributes: Mapping[str, str]
    said: Mapping[str, str]
    row: Mapping[str, object]

    @property
    def is_submitted(self) -> bool:
        """Whether the line has a leaderboard score."""
        return any(self.row[key] is not None for key in ("public", "private", "other"))


@dataclass(frozen=True)
class ForeignLedger:
    """All lines of a foreign ledger, and what is odd about them in words."""

    path: Path
    metric: str
    lines: tuple[ForeignLine, ...]
    remarks: tuple[str, ...]


def parse_mapping(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The columns of each field, from `FIELD=COLUMN`, `FIELD=COLUMN+COLUMN` or a YAML file.

    The file holds `field: column`, or `field: [column, column]`. Raises LedgerError for a field
    that does not exist or comes twice, and when no name or no score is mapped.
    """
    pairs: list[tuple[str, tuple[str, ...]]] = []
    for text in given:
        name, sign, column = text.partition("=")
        if sign:
            pairs.append((name.strip(), (column.strip(),)))
            continue
        if not os.path.isfile(text):  # noqa: PTH113 (False for a name that no file can have)
            raise LedgerError(
                "a mapping is neither FIELD=COLUMN nor a file",
                got=text,
                fix="--map name=COLUMN, or the path of a YAML file",
            )
        for name, value in load_yaml(Path(text)).data.items():
            listed = value if isinstance(value, list) else [value]
            pairs.append((name, tuple(str(item) for item in listed)))
    mapping: dict[str, tuple[str, ...]] = {}
    for given_name, columns in pairs:
        name = _SHORT.get(given_name, given_name)
        if name in mapping:
            raise LedgerError("a field is mapped twice", got=name, expected="each field once")
        if name not in FIELDS and not _SCORE.fullmatch(name):
            known = [*FIELDS, "cv/SCORE", "lb/COLUMN"]
            raise LedgerError(
                "there is no field of this name", got=name, expected=nearest(name, known)
            )
        mapping[name] = columns
    scored = [n for n in mapping if n in ("folds", "public", "private") or _SCORE.fullmatch(n)]
    if "name" not in mapping or not scored:
        raise LedgerError(
            "the mapping lacks " + ("a score" if "name" in mapping else "the name of a run"),
            got=", ".join(mapping) or "nothing",
            fix="--map name=COLUMN --map public=COLUMN --map cv/macro_auc=COLUMN",
        )
    return mapping


def read_foreign_ledger(
    path: Path, mapping: Mapping[str, tuple[str, ...]], *, metric: str
) -> ForeignLedger:
    """The lines of a CSV file as runs, by a mapping that `parse_mapping` returned.

    `folds` are scores in `metric`, of which `cv/METRIC` is the mean where no column gives it.
    Texts of several columns are joined. Raises LedgerError for a column that does not exist, and
    for lines that cannot be read: all of them, by number.
    """
    table = read_csv_table(path, "ledger")
    columns = {name: _split(table, given) for name, given in mapping.items()}
    needed = [column for several in columns.values() for column in several]
    check_columns(table, needed, "correct --map")
    lines: list[ForeignLine] = []
    problems = list(table.problems)
    for number, cells in table.lines:
        texts = {
            name: JOINER.join(cells[column] for column in several if cells[column])
            for name, several in columns.items()
        }
        try:
            lines.append(_read_line(number, texts, metric))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    refuse_lines(path, problems)
    if not lines:
        raise LedgerError(
            "the ledger has no lines",
            where=str(path),
            expected="a row of names, then a row per submission",
        )
    return ForeignLedger(path, metric, tuple(lines), tuple(_remarks(lines, metric)))


def _split(table: CsvTable, given: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that are meant: `a+b` is two, unless the table has a column of that name."""
    return tuple(
        part.strip()
        for name in given
        for part in ([name] if name in table.columns else name.split("+"))
    )


def _read_line(number: int, texts: Mapping[str, str], metric: str) -> ForeignLine:
    """ValueError that names the field for a text that is not what it should be."""
    if not texts["name"] or not texts["name"].isprintable():
        raise ValueError(f"name: {texts['name']!r} is no name")
    folds = _named("folds", parse_scores, texts.get("folds", ""))
    scores = {n: _named(n, parse_score, t) for n, t in texts.items() if _SCORE.fullmatch(n)}
    cv = {name: value for name, value in scores.items() if name.startswith("cv/")}
    cv_scores = {name: value for name, value in cv.items() if value is not None}
    if folds:
        cv_scores.setdefault(f"cv/{metric}", float(np.mean(folds)))
    if len(folds) > 1:
        cv_scores.setdefault(f"cv/{metric}_sd", float(np.std(folds, ddof=1)))
    other = {n[3:]: v for n, v in scores.items() if n.startswith("lb/") and v is not None}
    attributes = {name: texts.get(name, "") for name in ATTRIBUTES if name in texts}
    if "family" in attributes:
        attributes["family"] = family_of(attributes["family"])
    row: dict[str, object] = {name: texts.get(name, "") for name in ROW_TEXTS}
    row |= {k: _named(k, parse_score, texts.get(k, "")) for k in ("public", "private")}
    row["other"] = other or None
    row["weights"] = _named("weights", _parse_weights, texts.get("weights", ""))
    row["selected"] = _named("selected", _parse_truth, texts.get("selected", ""))
    if texts.get("date"):
        row["date"] = _named("date", parse_date, texts["date"])
    said = {n: t for n, t in texts.items() if n in (*ATTRIBUTES, "note") and t}
    return ForeignLine(number, texts["name"], cv_scores, folds, attributes, said, row)


def _named(field: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _parse_truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return _TRUTH[text.lower()]


def _parse_weights(text: str) -> str:
    if text.lower() not in WEIGHTS:
        raise ValueError(f"{text[:40]!r} is neither folds nor full")
    return text.lower()


def _remarks(lines: Sequence[ForeignLine], metric: str) -> list[str]:
    """What no line is refused for, and should be known."""
    remarks = []
    gaps = [
        (abs(float(np.mean(line.folds)) - line.scores[f"cv/{metric}"]), line.number)
        for line in lines
        if line.folds
    ]
    far = [pair for pair in gaps if pair[0] > _ROUNDING]
    if far:
        gap, number = max(far)
        remarks.append(
            f"In {count_words(len(far), 'line')} cv/{metric} is not the mean of the folds "
            f"(line {number}: by {gap:.4f})."
        )
    numbers = sorted({len(line.folds) for line in lines})
    if len(numbers) > 1:
        remarks.append(f"Lines have different numbers of folds: {', '.join(map(str, numbers))}.")
    return remarks
