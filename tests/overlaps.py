"""What validation shares with training, counted the short way: the audit must say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def overlap_share(
    table: pd.DataFrame,
    folds: pd.Series,
    fold: int,
    by: Sequence[str] = ("author", "primary_label"),
) -> float:
    """The share of the validation rows of `fold` that agree in `by` with a training row, 0 to 1.

    A row in which a column of `by` is empty agrees with none. NaN when the fold has no rows.
    """
    keys = table[list(by)]
    known = ~((keys == "") | keys.isna()).any(axis=1).to_numpy()
    codes = keys.groupby(list(by), sort=False, dropna=False).ngroup().to_numpy()
    held = folds.to_numpy() == fold
    if not held.any():
        return float("nan")
    return float((np.isin(codes[held], codes[~held]) & known[held]).mean())
