"""How far the cells of a sweep see a claim from being neither true nor false, and how well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from birdlab.spec.bets import Claim
from birdlab.study.bet_claims import margin
from birdlab.study.contrasts import MIN_FOLDS, Floats, build_contrasts

DRAWS = 4_000


def weigh_claims(
    claims: Sequence[Claim], cells: pd.DataFrame, *, control: str | None = None
) -> list[tuple[float, float]]:
    """The margin of each claim as the cells see it, and its error; NaN where common folds lack.

    A margin above 0 speaks for the claim. They are the middle and half the width of two thirds of
    draws of where the arms may truly lie, which are the same draws each time. cells: arms x (fold,
    seed), NaN where there is none.
    """
    reference = str(control if control is not None and control in cells.index else cells.index[0])
    arms = [str(arm) for arm in cells.index if arm != reference]
    contrasts = build_contrasts(cells, arms, reference)
    there = [arm for arm in arms if contrasts[arm].n_folds >= MIN_FOLDS]
    if not there:
        return [(float("nan"), float("nan"))] * len(claims)
    rng = np.random.default_rng(0)
    seen = np.array([0.0, *(contrasts[arm].delta for arm in there)])
    own = np.array([contrasts[arm].se ** 2 / 2 for arm in there])
    dfs = np.array([contrasts[arm].df for arm in there])
    variances = _draw_variances(own, dfs, rng)
    places = seen + np.sqrt(variances) * rng.standard_normal(variances.shape)
    drawn = dict(zip((reference, *there), places.T, strict=True))
    return [_weigh(claim, drawn) for claim in claims]


def _weigh(claim: Claim, drawn: dict[str, Floats]) -> tuple[float, float]:
    if not claim.arms or not claim.against or not set(claim.titles) <= set(drawn):
        return float("nan"), float("nan")
    low, middle, high = np.quantile(margin(claim, drawn), (0.1587, 0.5, 0.8413))
    return float(middle), float(high - low) / 2


def _draw_variances(own: Floats, dfs: Floats, rng: np.random.Generator) -> Floats:
    """Error variances [draws, 1 + arms] of the reference and the arms.

    Arms whose variance is estimated from the same cells have one draw of it in common.
    """
    blocks: dict[tuple[float, float], Floats] = {}
    columns = []
    for variance, df in zip(own, dfs, strict=True):
        key = (float(variance), float(df))
        if key not in blocks:
            blocks[key] = variance * df / rng.chisquare(df, DRAWS)
        columns.append(blocks[key])
    usual = columns[int(np.argsort(own)[len(own) // 2])]
    return np.maximum(np.stack([usual, *columns], axis=1), 1e-18)
