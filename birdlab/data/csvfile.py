"""Tables from files that others wrote: everything is text, and every fault is found at once."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.words import cut_text

N_EXAMPLES, EXAMPLE_CHARS = 5, 300
PARQUET = (".parquet", ".pq")
TAB_SEPARATED = (".tsv", ".txt")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class Findings:
    """What is wrong with the tables of a data set, gathered before one error is raised.

    Faults make the data unusable; notes are what the person should know of and no more.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self._faults: list[tuple[Path, str]] = []
        self._notes: list[tuple[Path, str]] = []

    def at(self, where: Path) -> Findings:
        """The same report for what stands in another file."""
        part = Findings(where)
        part._faults, part._notes = self._faults, self._notes
        return part

    def add(self, what: str, examples: Iterable[object]) -> None:
        """Report a fault with its count and up to five examples; nothing when there are none."""
        self._faults += [(self.where, line) for line in _counted(what, examples)]

    def note(self, what: str, examples: Iterable[object]) -> None:
        """Report what is no fault, in the same form."""
        self._notes += [(self.where, line) for line in _counted(what, examples)]

    @property
    def notes(self) -> tuple[str, ...]:
        """Every note so far, with the name of its file."""
        return tuple(f"{where.name}: {line}" for where, line in self._notes)

    def raise_if_any(self) -> None:
        """DataError with every fault reported so far, in whichever file; then the notes."""
        if not self._faults:
            return
        places = {where for where, _ in self._faults}
        alone = len(places) == 1
        lines = [line if alone else f"{where.name}: {line}" for where, line in self._faults]
        lines += [f"note: {note}" for note in self.notes]
        raise DataError(
            "the table holds what cannot be used" if alone else "tables hold what cannot be used",
            where=str(places.pop() if alone else self.where),
            got="\n            ".join(lines),
            fix="correct these rows in a copy of the table",
        )


def _counted(what: str, examples: Iterable[object]) -> list[str]:
    """`what` as a line with how often and where, or no line when there are no examples."""
    found = list(examples)
    if not found:
        return []
    shown = ", ".join(cut_text(item, EXAMPLE_CHARS) for item in found[:N_EXAMPLES])
    more = ", ..." if len(found) > N_EXAMPLES else ""
    return [f"{len(found)} x {what}: {shown}{more}"]


def read_text_table(
    path: Path, required: Iterable[str] = (), *, separator: str = ","
) -> pd.DataFrame:
    """The CSV file at `path` with every cell as text; an empty cell is "".

    Codes such as `nan` or `0123` survive. Raises DataError when the file cannot be read as
    a UTF-8 table or lacks a required column.
    """
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=separator
        )
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            "a table cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {str(error).strip()}",
            expected="a CSV file in UTF-8 with a header line",
        ) from None
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(
            "a table has more cells in a row than names in its header",
            where=str(path),
            got=", ".join(map(str, table.columns)),
            fix="put cells that hold the separator in double quotes, or name every column",
        )
    _refuse_other_separator(table, separator, path)
    require_columns(table, required, path)
    return table


def _refuse_other_separator(table: pd.DataFrame, separator: str, path: Path) -> None:
    """DataError where the whole header is one name, in which another separator stands."""
    header = str(table.columns[0])
    other = next((sign for sign in SEPARATORS if sign != separator and sign in header), None)
    if len(table.columns) == 1 and other is not None:
        raise DataError(
            f"the cells of a table are parted by {SEPARATORS[other]}",
            where=str(path),
            got=header[:100],
            expected=SEPARATORS[separator],
            fix="save the table once more as a CSV file with commas, in UTF-8; with tabs as .tsv",
        )


def read_any_table(
    path: Path, required: Iterable[str] = (), codes: Iterable[str] = ()
) -> pd.DataFrame:
    """The CSV, tab-separated (.tsv, .txt) or Parquet file at `path`, every cell as text.

    In Parquet a missing value is "", a list becomes a list literal and a number its shortest
    text. Raises DataError as `read_text_table`, and when one of the columns `codes` holds
    numbers: the zeros that species codes may begin with are lost there.
    """
    if path.suffix.lower() not in PARQUET:
        separator = "\t" if path.suffix.lower() in TAB_SEPARATED else ","
        return read_text_table(path, required, separator=separator)
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            "a table cannot be read", where=str(path), got=str(error), expected="a Parquet file"
        ) from None
    require_columns(table, required, path)
    numeric = [name for name in codes if name in table and table[name].dtype.kind in "iuf"]
    if numeric:
        raise DataError(
            "species codes are stored as numbers",
            where=f"{path}, column {', '.join(numeric)}",
            expected="text: a code such as 0123 loses its zero as a number",
            fix="write the column as text, from the table it was made of",
        )
    return pd.DataFrame({str(name): _texts(table[name]) for name in table.columns})


def require_columns(
    table: pd.DataFrame, required: Iterable[str], path: Path, *, fix: str | None = None
) -> None:
    """DataError that names the columns the table at `path` lacks, with `fix` as what to do."""
    lacking = [name for name in required if name not in table.columns]
    if lacking:
        raise DataError(
            f"a table lacks the column {', '.join(lacking)}",
            where=str(path),
            got=", ".join(map(str, table.columns)),
            fix=fix,
        )


def _texts(column: pd.Series) -> pd.Series:
    return pd.Series([_text(cell) for cell in column.tolist()], dtype=str)


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list | tuple | np.ndarray):
        return str([str(item) for item in cell])
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(cell)


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


def time_column(table: pd.DataFrame, name: str, findings: Findings) -> pd.Series:
    """A column of times in seconds as float64: `12.5`, `1:02.5` or `00:01:02`; NaN where empty.

    What is neither, or negative, goes to `findings`.
    """
    text = text_column(table, name)
    known = {cell: _seconds(cell) for cell in text.unique()}
    seconds = pd.Series([known[cell] for cell in text.tolist()], index=text.index, dtype=np.float64)
    wrong = (seconds.isna() & (text != "")) | (seconds < 0) | np.isinf(seconds)
    findings.add(f"{name} is not a time in seconds", text[wrong].map(repr))
    return seconds


def _seconds(cell: str) -> float:
    parts = cell.split(":")
    if len(parts) > 3:
        return math.nan
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return math.nan
    return float(sum(number * 60.0**place for place, number in enumerate(reversed(numbers))))


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
