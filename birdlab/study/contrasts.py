"""One arm of an ablation against another: the paired difference and the noise it stands in.

Source: randomised block design; Holm (1979) for a named base, the studentized range of Tukey
when the base was picked for its score; Cochran (1941) for the idea of testing one variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

Floats = npt.NDArray[np.float64]

MIN_FOLDS = 3
POWER = 0.8
UNEQUAL_P = 0.01
EXACT = 1e-12


@dataclass(frozen=True)
class Contrast:
    """One arm against the base on the cells both have."""

    arm: str
    n_folds: int
    delta: float
    se: float
    df: int
    left_out: int
    own_variance: bool
    residual_sd: float


def fold_means(cells: pd.DataFrame) -> pd.DataFrame:
    """Arms × folds: the mean over the seeds of each fold in a table arms × (fold, seed)."""
    return cells.T.groupby(level="fold").mean().T


def build_contrast(cells: pd.DataFrame, arm: str, base: str) -> Contrast:
    """The paired difference, with the residual of all arms that have the same cells."""
    pair = cells.loc[[arm, base]]
    common = pair.columns[pair.notna().all()]
    left_out = int(pair.notna().any().sum()) - len(common)
    means = fold_means(cells[common].dropna())
    n_folds = means.shape[1]
    if n_folds == 0:
        nan = float("nan")
        return Contrast(arm, 0, nan, nan, 0, left_out, False, nan)
    sharing = arms_of_equal_variance(means.to_numpy(), keep=list(means.index).index(base))
    names = means.index[sharing]
    own = arm not in names
    rows = means.loc[[arm, base]] if own else means.loc[names]
    residual_sd, df = residual(rows.to_numpy())
    delta = float((means.loc[arm] - means.loc[base]).mean())
    se = residual_sd * np.sqrt(2 / n_folds)
    return Contrast(arm, n_folds, delta, float(se), df, left_out, own, residual_sd)


def residual(means: Floats) -> tuple[float, int]:
    """SD and degrees of freedom of what arm and fold leave unexplained in [arms, folds].

    (NaN, 0) for a single arm or fold.
    """
    df = (means.shape[0] - 1) * (means.shape[1] - 1)
    if df == 0:
        return float("nan"), 0
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    sd = float(np.sqrt((rest**2).sum() / df))
    return (0.0 if sd < EXACT else sd), df


def arms_of_equal_variance(means: Floats, keep: int) -> list[int]:
    """The rows of [arms, folds] whose scatter fits the others'; `keep`, the base, always stays.

    The arm whose differences to the mean of the others scatter most is left out while an F test
    says (p < .01 / arms) that it does not share their variance: a diverged arm would otherwise
    hide every difference between the sound ones. When it is the base that does not fit, no arm
    shares its variance, and each pair stands for itself.
    """
    inside = list(range(len(means)))
    while len(inside) >= 3 and means.shape[1] >= MIN_FOLDS:
        folds = means.shape[1]
        tests: list[tuple[float, int]] = []
        for arm in inside:
            others = means[[i for i in inside if i != arm]]
            own = float(np.var(means[arm] - others.mean(axis=0), ddof=1)) / (1 + 1 / len(others))
            pooled, df = residual(others)
            ratio = own / pooled**2 if pooled > 0 else (np.inf if own > EXACT**2 else 0.0)
            tests.append((float(special.fdtrc(folds - 1, df, ratio)), arm))
        p, worst = min(tests)
        if p >= UNEQUAL_P / len(inside):
            break
        if worst == keep:
            return [keep]
        inside.remove(worst)
    return inside


@dataclass(frozen=True)
class Judgement:
    """What a procedure says of one contrast: adjusted p, and the interval of the difference."""

    p: float
    low: float
    high: float


def judge_holm(tested: Sequence[Contrast], alpha: float) -> dict[str, Judgement]:
    """Holm's adjusted p per arm, and the interval at the level of the arm's own step.

    Arms that are not rejected share the level of the step at which the procedure stopped, so an
    interval leaves 0 out exactly when its p is below `alpha`.
    """
    order = sorted(range(len(tested)), key=lambda i: _p_value(tested[i]))
    adjusted = np.minimum(
        1,
        np.maximum.accumulate(
            [(len(order) - k) * _p_value(tested[i]) for k, i in enumerate(order)]
        ),
    )
    n_rejected = int((adjusted < alpha).sum())
    judged: dict[str, Judgement] = {}
    for step, i in enumerate(order):
        level = alpha / (len(order) - min(step, n_rejected))
        width = float(special.stdtrit(tested[i].df, 1 - level / 2)) * tested[i].se
        judged[tested[i].arm] = _judgement(tested[i], float(adjusted[step]), width)
    return judged


def judge_tukey(tested: Sequence[Contrast], alpha: float, n_arms: int) -> dict[str, Judgement]:
    """Tukey's adjusted p and interval per arm: right even for the two most extreme of all arms."""
    judged: dict[str, Judgement] = {}
    for c in tested:
        p = float(stats.studentized_range.sf(_statistic(c) * np.sqrt(2), n_arms, c.df))
        width = tukey_critical(alpha, n_arms, c.df) * c.se
        judged[c.arm] = _judgement(c, min(max(p, 0.0), 1.0), width)
    return judged


@lru_cache(maxsize=64)
def tukey_critical(alpha: float, n_arms: int, df: int) -> float:
    """The t value that the largest of all pairwise differences exceeds with chance `alpha`."""
    return float(stats.studentized_range.ppf(1 - alpha, n_arms, df) / np.sqrt(2))


def detectable_delta(contrast: Contrast, critical: float) -> float:
    """The true difference that exceeds the critical t value with a power of .8."""
    return float((critical + special.stdtrit(contrast.df, POWER)) * contrast.se)


def _judgement(contrast: Contrast, p: float, width: float) -> Judgement:
    return Judgement(p, contrast.delta - width, contrast.delta + width)


def _statistic(contrast: Contrast) -> float:
    if abs(contrast.delta) < EXACT:
        return 0.0
    return abs(contrast.delta) / contrast.se if contrast.se > 0 else np.inf


def _p_value(contrast: Contrast) -> float:
    return float(2 * special.stdtr(contrast.df, -_statistic(contrast)))
