"""The submission file: checked, in the order asked for, never half written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.errors import PredictError


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
    probability in [0, 1). The file appears under its name only when it is complete.
    """
    ordered = _in_order(table, list(classes), "the model")
    _check_rows(ordered)
    if sample_submission is not None:
        ordered = _like_sample(ordered, sample_submission)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        ordered.to_csv(temporary, index=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _in_order(table: pd.DataFrame, classes: list[str], whose: str) -> pd.DataFrame:
    columns = ["row_id", *classes]
    if set(table.columns) != set(columns) or len(table.columns) != len(columns):
        raise PredictError(
            f"the columns are not those of {whose}",
            got=_difference(table.columns, columns),
            expected=f"row_id and {len(classes)} classes",
        )
    return table[columns]


def _check_rows(table: pd.DataFrame) -> None:
    repeated = table["row_id"][table["row_id"].duplicated()]
    if len(repeated):
        raise PredictError("a row id comes twice", got=repeated.iloc[0])
    values = table.drop(columns="row_id").to_numpy()
    wrong = ~((values >= 0) & (values < 1))  # true for NaN as well
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise PredictError(
            "a value is not a probability",
            where=f"row {table['row_id'].iloc[row]}, column {table.columns[column + 1]}",
            got=values[row, column],
            expected="0 <= p < 1 (a score of 1 would tie with the padding of the metric)",
        )


def _like_sample(table: pd.DataFrame, sample_submission: Path) -> pd.DataFrame:
    try:
        sample = pd.read_csv(sample_submission, dtype={"row_id": str})
    except (OSError, ValueError) as error:
        raise PredictError(
            "the sample submission cannot be read", where=str(sample_submission), got=error
        ) from None
    if "row_id" not in sample.columns:
        raise PredictError("the sample submission has no row_id", where=str(sample_submission))
    table = _in_order(table, [c for c in sample.columns if c != "row_id"], str(sample_submission))
    if set(table["row_id"]) != set(sample["row_id"]) or len(table) != len(sample):
        raise PredictError(
            "the row ids are not those of the sample submission",
            where=str(sample_submission),
            got=_difference(table["row_id"], sample["row_id"]),
            expected=f"{len(sample)} rows",
            fix="predict exactly the soundscapes that the sample submission names",
        )
    return table.set_index("row_id").loc[sample["row_id"]].reset_index()


def _difference(got: Sequence[str], expected: Sequence[str]) -> str:
    """What is missing and what is too much, in words."""
    missing = sorted(set(map(str, expected)) - set(map(str, got)))
    extra = sorted(set(map(str, got)) - set(map(str, expected)))
    said = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
        for what, names in (("missing", missing), ("too many", extra))
        if names
    ]
    return "; ".join(said) or "one that comes twice"
