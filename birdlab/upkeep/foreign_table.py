"""The table of a foreign model's out-of-fold predictions: read, and held against a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from birdlab.errors import DataError
from birdlab.plan import Plan

_KEYS = ("recording", "fold", "seed")


def read_predictions(path: Path) -> pd.DataFrame:
    """The table of a CSV or Parquet file. Raises DataError where there is none."""
    if path.exists() and not path.is_file():  # a pipe would be waited for without an end
        raise DataError(
            "the table of predictions cannot be read",
            where=str(path),
            got="no plain file",
            expected="a Parquet or CSV file",
        )
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype={"recording": str})
        return pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            "the table of predictions cannot be read",
            where=str(path),
            got=str(error).splitlines()[0],
            expected="a Parquet or CSV file",
        ) from None


def check_table(plan: Plan, table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table, with seed 0 where it has no seeds; DataError where it does not fit the plan."""
    codes = list(plan.data.classes)
    if "seed" not in table:
        table = table.assign(seed=0)
    lacking = [c for c in (*_KEYS, *codes) if c not in table]
    unknown = [str(c) for c in table if c not in (*_KEYS, *codes)]
    if lacking or unknown:
        raise DataError(
            "the columns of the table are not those that are needed",
            where=where,
            got="; ".join(
                f"{word} {', '.join(names[:5])}"
                for word, names in (("lacks", lacking), ("unknown", unknown))
                if names
            ),
            expected=f"recording, fold, seed (or none) and {len(codes)} classes: {codes[0]}, ...",
        )
    if table.empty:
        raise DataError(
            "the table has no rows", where=where, expected="a row for each recording and seed"
        )
    known = set(plan.rows.names)
    strange = [str(r) for r in table["recording"] if r not in known]
    if strange:
        raise DataError(
            f"{len(strange)} recordings are not among the rows of the run",
            where=where,
            got=", ".join(strange[:5]),
            expected=f"names such as {plan.rows.names[0]}",
        )
    if table.duplicated(["recording", "seed"]).any():
        raise DataError(
            "a recording is there twice for one seed",
            where=where,
            expected="each recording once per seed",
        )
    values = _numbers(table, codes, where)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            "probabilities are not all from 0 to 1", where=where, expected="numbers from 0 to 1"
        )
    counts = _numbers(table, ["fold", "seed"], where)
    if not ((counts >= 0) & (counts == np.floor(counts))).all():
        raise DataError(
            "folds and seeds are not all whole numbers from 0",
            where=where,
            expected="whole numbers from 0",
        )
    return table


def _numbers(table: pd.DataFrame, columns: Sequence[str], where: str) -> npt.NDArray[np.float64]:
    """Columns as numbers, NaN where a cell is empty; DataError for text."""
    try:
        return np.asarray(table[list(columns)].to_numpy(np.float64, na_value=np.nan))
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            "a column holds what is no number", where=where, got=error, expected="numbers"
        ) from None
