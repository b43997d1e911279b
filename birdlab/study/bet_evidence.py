"""How much the cells of a sweep speak for a claim: its odds after them over its odds before.

Arms are drawn around a common place with the scatter of the lab's effects, once as they are
before anything ran and once given what the cells say. The factor between the odds of a claim is
what the evidence is worth, whether it decides the claim or not.
Source: Kass and Raftery (1995), JASA 90, for Bayes factors; a stopping rule does not change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdlab.spec.bets import Claim
from birdlab.study.bet_claims import holds
from birdlab.study.contrasts import MIN_FOLDS, Floats, build_contrasts

DRAWS = 20_000
"""Odds are known to some per cent, and no factor exceeds e^10 by much."""


class Effects(NamedTuple):
    """How the true differences of arms to their control are distributed: normal, mean and SD."""

    mean: float
    sd: float


def weigh_claims(
    claims: Sequence[Claim], cells: pd.DataFrame, effects: Effects, *, control: str | None = None
) -> list[float]:
    """The logarithm of the factor of each claim; NaN for one whose arms lack common folds.

    cells: arms x (fold, seed), NaN where there is none. Without a `control` no arm has a place of
    its own: all scatter alike, two of them differ with the SD of the effects. The draws are the
    same each time.
    """
    known = control is not None and control in cells.index
    reference = str(control if known else cells.index[0])
    arms = [str(arm) for arm in cells.index if arm != reference]
    contrasts = build_contrasts(cells, arms, reference)
    there = [arm for arm in arms if contrasts[arm].n_folds >= MIN_FOLDS]
    if not there or effects.sd <= 0:
        return [float("nan")] * len(claims)
    names = [reference, *there]
    means = np.full(len(names), effects.mean if known else 0.0)
    sds = np.full(len(names), effects.sd if known else effects.sd / np.sqrt(2))
    if known:
        means[0] = sds[0] = 0.0
    rng = np.random.default_rng(0)
    before = means + sds * rng.standard_normal((DRAWS, len(names)))
    seen = np.array([0.0, *(contrasts[arm].delta for arm in there)])
    own = np.array([contrasts[arm].se ** 2 / 2 for arm in there])
    dfs = np.array([contrasts[arm].df for arm in there])
    variances = _draw_variances(own, dfs, rng)
    after = _draw_places(seen, variances, means, sds, rng)
    odds = [
        [_log_odds(claim, dict(zip(names, draws.T, strict=True))) for claim in claims]
        for draws in (before, after)
    ]
    return [b - a for a, b in zip(*odds, strict=True)]


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


def _draw_places(
    seen: Floats, variances: Floats, means: Floats, sds: Floats, rng: np.random.Generator
) -> Floats:
    """True places [draws, arms] given those `seen`, which all lie off by one unknown shift."""
    exact = 1 / (sds**2 + variances)
    total = exact.sum(axis=1)
    shift = (exact * (seen - means)).sum(axis=1) / total
    shift = shift + rng.standard_normal(len(shift)) / np.sqrt(total)
    kept = sds**2 * exact
    places = means + kept * (seen - shift[:, None] - means)
    return np.asarray(places + np.sqrt(kept * variances) * rng.standard_normal(kept.shape))


def _log_odds(claim: Claim, draws: dict[str, Floats]) -> float:
    if not claim.arms or not claim.against or not set(claim.titles) <= set(draws):
        return float("nan")
    n_true = int(holds(claim, draws).sum())
    return float(np.log((n_true + 0.5) / (DRAWS - n_true + 0.5)))
