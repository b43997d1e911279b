"""How much a single run makes of the correlation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.study.cvlb_bands import scores_of, value_of
from birdlab.study.cvlb_resamples import Floats, weighted_ranks


def list_influence(pairs: pd.DataFrame) -> pd.DataFrame:
    """What Spearman is without each run: run, name, cv, lb, without, influence; most first.

    `influence` is how much the run adds: all of them less without it.
    """
    x, y = scores_of(pairs)
    known = pairs[[name for name in ("run", "name", "cv", "lb") if name in pairs.columns]]
    without = leave_one_out(x, y)
    table = known.assign(without=without, influence=value_of(x, y) - without)
    order = np.argsort(-np.nan_to_num(np.abs(table["influence"].to_numpy())), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def leave_one_out(x: Floats, y: Floats) -> Floats:
    """Spearman's rho without each run in turn; NaN where the others do not differ.

    Without a run, the rank of each that is above it is lower by 1, of each tied with it by 1/2.
    """
    n = len(x)
    if n < 3:
        return np.full(n, np.nan)
    ones = np.ones((1, n))
    a, b = (weighted_ranks(v, ones)[0] for v in (x, y))
    # Half of the difference of signs, and the run's own rank is taken off by the last term.
    below, left = ((1 + np.sign(v[None, :] - v[:, None])) / 2 for v in (a, b))
    dot = [a @ b - below @ b - left @ a + (below * left).sum(axis=1)]
    dot += [v @ v - 2 * m @ v + (m**2).sum(axis=1) for v, m in ((a, below), (b, left))]
    own = [(a - 0.5) * (b - 0.5), (a - 0.5) ** 2, (b - 0.5) ** 2]
    # The other n - 1 ranks less a half add up to (n - 1)² / 2.
    mean = (n - 1) ** 3 / 4
    both, var_x, var_y = (total - gone - mean for total, gone in zip(dot, own, strict=True))
    norms = np.where((var_x > 0.1) & (var_y > 0.1), var_x * var_y, np.nan)
    return np.asarray(np.clip(both / np.sqrt(norms), -1, 1))
