"""The submission file: checked, in the order asked for, never half written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import PredictError
from birdlab.evaluate.probabilities import HIGHEST_PROB
from birdlab.infer.decimals import format_rows

Floats = npt.NDArray[np.float32]
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Sample:
    """The rows and class columns of a sample submission, in its order."""

    path: Path
    row_ids: tuple[str, ...]
    columns: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """What a sample submission asks for; PredictError when it asks for nothing or twice."""
    try:
        sample = pd.read_csv(path, dtype={"row_id": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise PredictError(
            "the sample submission cannot be read",
            where=str(path),
            got=error,
            expected="a CSV with row_id and a column per class",
        ) from None
    if len(sample) and not isinstance(sample.index, pd.RangeIndex):  # pandas takes it for an index
        raise PredictError(
            "rows of the sample submission have more fields than its first line",
            where=str(path),
            got=f"a row that begins with {sample.index[0]}",
            expected=f"{len(sample.columns)} fields",
            fix="take away the commas at the ends of rows",
        )
    if "row_id" not in sample.columns:
        raise PredictError(
            "the sample submission has no row_id",
            where=str(path),
            got=", ".join(map(str, sample.columns[:5])),
            expected="columns with commas between: row_id and one for each class",
        )
    repeated = sample["row_id"][sample["row_id"].duplicated()]
    if len(repeated):
        got = repeated.iloc[0]
        raise PredictError(
            "a row id of the sample comes twice",
            where=str(path),
            got=got,
            expected="each row_id once",
        )
    columns = tuple(str(column) for column in sample.columns if column != "row_id")
    return Sample(path, tuple(sample["row_id"]), columns)


def check_columns(classes: Sequence[str], sample: Sample) -> None:
    """Nothing; PredictError when the classes are not those of the sample."""
    if set(classes) != set(sample.columns) or len(classes) != len(sample.columns):
        raise PredictError(
            f"the columns are not those of {sample.path}",
            got=tell_difference(classes, sample.columns),
            expected=f"row_id and {len(sample.columns)} classes",
            fix="predict with a model that was promoted for the classes of this competition",
        )


def write_submission(
    table: pd.DataFrame,
    classes: Sequence[str],
    path: Path,
    sample_submission: Path | None = None,
) -> Path:
    """The path of the written CSV: `row_id`, then one column per class in order.

    `table` holds `row_id` and a column per class. With a sample submission its columns and
    rows give the order, and both must name exactly the same classes and row ids. Raises
    PredictError when they do not, when a row id comes twice, or when a value is not a
    probability in [0, 1).
    """
    columns = list(classes)
    if set(table.columns) != {"row_id", *columns} or len(table.columns) != len(columns) + 1:
        raise PredictError(
            "the columns are not those of the model",
            got=tell_difference(table.columns, ["row_id", *columns]),
            expected=f"row_id and {len(columns)} classes",
        )
    ids = table["row_id"]
    if ids.duplicated().any():
        raise PredictError(
            "a row id comes twice",
            got=ids[ids.duplicated()].iloc[0],
            fix="give soundscapes with different file names",
        )
    if sample_submission is not None:
        sample = read_sample(sample_submission)
        check_columns(columns, sample)
        if set(ids) != set(sample.row_ids):
            raise PredictError(
                "the row ids are not those of the sample submission",
                where=str(sample_submission),
                got=tell_difference(ids, sample.row_ids),
                expected=f"{len(sample.row_ids)} rows",
                fix="predict exactly the soundscapes that the sample submission names",
            )
        columns = list(sample.columns)
        table = table.set_index("row_id").loc[list(sample.row_ids)].reset_index()
    given = table[columns].to_numpy()
    check_values(list(table["row_id"]), columns, given)
    values = np.minimum(given.astype(np.float32), HIGHEST_PROB)  # one that float32 rounds up to 1
    return write_rows(path, list(table["row_id"]), columns, values)


def write_rows(path: Path, row_ids: Sequence[str], columns: Sequence[str], values: Floats) -> Path:
    """The path of the CSV with `values` [R, C] float32, which appears whole or not at all.

    A number has nine significant digits, so it is read back as the same float32. Raises
    PredictError for a value that is not a probability in [0, 1).
    """
    check_values(row_ids, columns, values)
    with replace_whole(path) as temporary, temporary.open("wb") as file:
        file.write(_as_csv([["row_id", *columns]]))
        for start in range(0, len(row_ids), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            heads = (_as_csv([[name]])[:-1] for name in row_ids[part])
            rows = format_rows(np.asarray(values[part], np.float32))
            file.writelines(b"%b,%b\n" % pair for pair in zip(heads, rows, strict=True))
    return path


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place at the end unless something fails.

    Raises PredictError where the folder or the disk does not take it; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise PredictError(
            "a file cannot be written",
            where=str(path),
            got=error.strerror or error,
            fix="make room and give the same command again, or name another --output",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_values(row_ids: Sequence[str], columns: Sequence[str], values: npt.NDArray[Any]) -> None:
    """Nothing; PredictError for a value that is not a probability in [0, 1)."""
    wrong = ~((values >= 0) & (values < 1))  # true for NaN as well
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise PredictError(
            "a value is not a probability",
            where=f"row {row_ids[row]}, column {columns[column]}",
            got=values[row, column],
            expected="0 <= p < 1 (a score of 1 would tie with the padding of the metric)",
        )


def _as_csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def tell_difference(got: Sequence[str], expected: Sequence[str]) -> str:
    """What is missing and what is too much, in words."""
    missing = sorted(set(map(str, expected)) - set(map(str, got)))
    extra = sorted(set(map(str, got)) - set(map(str, expected)))
    said = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
        for what, names in (("missing", missing), ("too many", extra))
        if names
    ]
    return "; ".join(said) or "one that comes twice"
