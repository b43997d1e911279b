"""How alike two promoted models are in what they say of the same windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from birdlab.errors import PredictError

MIN_WINDOWS = 3
"""Fewer say nothing about an order."""
_NO_CLASSES = ("row_id", "file", "end_s")


def correlate_predictions(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of two models by class over the windows that both tables have.

    Tables have `row_id` and a column per class. A row for each class of both: code, rho, and the
    mean probability of each, `mean_a` and `mean_b`; the lowest rho first. rho is NaN where a model
    gives one probability to all. Raises PredictError for fewer than 3 windows, or no class, in
    common.
    """
    codes = [c for c in a.columns if c in b.columns and c not in _NO_CLASSES]
    rows = a[["row_id"]].merge(b[["row_id"]], on="row_id")["row_id"]
    if len(rows) < MIN_WINDOWS or not codes:
        raise PredictError(
            "the predictions of the models do not compare",
            got=f"{len(rows)} windows and {len(codes)} classes in common",
            expected=f"{MIN_WINDOWS} windows and a class at least",
            fix="predict the same soundscapes with both",
        )
    left, right = (t.set_index("row_id").loc[rows, codes].to_numpy(np.float64) for t in (a, b))
    found = [
        {"code": code, "rho": _spearman(x, y), "mean_a": x.mean(), "mean_b": y.mean()}
        for code, x, y in zip(codes, left.T, right.T, strict=True)
    ]
    return pd.DataFrame(found).sort_values("rho", ignore_index=True)


def load_windows(path: Path) -> pd.DataFrame:
    """Stored window probabilities, as `birdlab predict` writes them; PredictError for others."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PredictError(
            "stored window probabilities cannot be read",
            where=str(path),
            got=str(error).splitlines()[0],
            expected="the .windows.parquet beside a CSV of `birdlab predict`",
        ) from None
    if "row_id" not in table:
        raise PredictError(
            "the table has no row_id",
            where=str(path),
            expected="the .windows.parquet beside a CSV of `birdlab predict`",
        )
    return table


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)
