"""Tables from files that others wrote: everything is text, and every fault is found at once."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.errors import DataError


class Findings:
    """What is wrong with a table, gathered before one error is raised."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.lines: list[str] = []

    def add(self, what: str, examples: Iterable[object]) -> None:
        """Note a fault with its count and up to five examples; nothing when there are none."""
        found = list(examples)
        if found:
            shown = ", ".join(str(item) for item in found[:5])
            more = ", ..." if len(found) > 5 else ""
            self.lines.append(f"{len(found)} x {what}: {shown}{more}")

    def raise_if_any(self) -> None:
        """DataError with every fault noted so far."""
        if self.lines:
            raise DataError(
                "the table holds what cannot be used",
                where=str(self.where),
                got="\n            ".join(self.lines),
                fix="correct these rows in a copy of the table",
            )


def read_text_table(path: Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """The CSV file at `path` with every cell as text; an empty cell is "".

    Codes such as `nan` or `0123` survive. Raises DataError when the file cannot be read as
    a UTF-8 table or lacks a required column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            "a table cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {str(error).strip()}",
            expected="a CSV file in UTF-8 with a header line",
        ) from None
    lacking = [name for name in required if name not in table.columns]
    if lacking:
        raise DataError(
            f"a table lacks the column {', '.join(lacking)}",
            where=str(path),
            got=", ".join(map(str, table.columns)),
        )
    return table


def text_column(table: pd.DataFrame, name: str, *, as_written: bool = False) -> pd.Series:
    """A column without surrounding spaces, or "" in every row where there is none.

    `as_written` keeps the spaces of a cell that holds anything else.
    """
    if name not in table.columns:
        return pd.Series("", index=table.index, dtype=str)
    stripped = table[name].str.strip()
    return table[name].where(stripped != "", "") if as_written else stripped


def number_column(table: pd.DataFrame, name: str, findings: Findings | None = None) -> pd.Series:
    """A column as float64, NaN where the cell is empty; what is no number goes to `findings`."""
    text = text_column(table, name)
    numbers = pd.to_numeric(text, errors="coerce").astype(np.float64)
    if findings is not None:
        wrong = (numbers.isna() & (text != "")) | np.isinf(numbers)
        findings.add(f"{name} is not a number", text[wrong].map(repr))
    return numbers


def label_lists(table: pd.DataFrame, name: str, findings: Findings) -> pd.Series:
    """A column of stringified lists as tuples of codes; an empty cell or `['']` is ().

    A cell that is no list of texts goes to `findings`.
    """
    text = text_column(table, name)
    parsed: dict[str, tuple[str, ...]] = {}
    wrong: set[str] = set()
    for cell in text.unique():
        labels = _parse_list(cell)
        if labels is None:
            wrong.add(cell)
        parsed[cell] = labels or ()
    bad = text[text.isin(wrong)]
    findings.add(
        f"{name} is not a list of texts such as ['abethr1']",
        (f"line {line + 2} {cell[:60]!r}" for line, cell in bad.items()),
    )
    return pd.Series([parsed[cell] for cell in text.tolist()], index=table.index, dtype=object)


def _parse_list(cell: str) -> tuple[str, ...] | None:
    """The texts of a Python list literal, or None when the cell is something else."""
    if cell == "":
        return ()
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(item.strip() for item in value if item.strip())
