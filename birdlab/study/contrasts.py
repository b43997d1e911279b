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
WIDEST = 20.0
"""No range of normals is wider, at a chance that float64 could tell from 0."""


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
    return build_contrasts(cells, [arm], base)[arm]


def build_contrasts(cells: pd.DataFrame, arms: Sequence[str], base: str) -> dict[str, Contrast]:
    """The contrast of each arm with the base; arms that have the same cells share a block."""
    there = dict(zip(cells.index, cells.notna().to_numpy(), strict=True))
    blocks: dict[bytes, _Block] = {}
    contrasts: dict[str, Contrast] = {}
    for arm in arms:
        common = there[arm] & there[base]
        left_out = int((there[arm] ^ there[base]).sum())
        if not common.any():
            nan = float("nan")
            contrasts[arm] = Contrast(arm, 0, nan, nan, 0, left_out, False, nan)
            continue
        if common.tobytes() not in blocks:
            blocks[common.tobytes()] = _build_block(cells.loc[:, common].dropna(), base)
        contrasts[arm] = blocks[common.tobytes()].contrast(arm, base, left_out)
    return contrasts


@dataclass(frozen=True, eq=False)
class _Block:
    """The arms that have the same cells as two of them: their fold means, which scatter alike."""

    means: Floats
    rows: dict[str, int]
    alike: frozenset[int]
    residual: tuple[float, int]

    def contrast(self, arm: str, base: str, left_out: int) -> Contrast:
        pair = self.means[[self.rows[arm], self.rows[base]]]
        own = self.rows[arm] not in self.alike
        sd, df = residual(pair) if own else self.residual
        n_folds, delta = pair.shape[1], float((pair[0] - pair[1]).mean())
        return Contrast(
            arm, n_folds, delta, float(sd * np.sqrt(2 / n_folds)), df, left_out, own, sd
        )


def _build_block(cells: pd.DataFrame, base: str) -> _Block:
    means = fold_means(cells)
    rows = {arm: row for row, arm in enumerate(means.index)}
    table = means.to_numpy()
    alike = arms_of_equal_variance(table, keep=rows[base])
    return _Block(table, rows, frozenset(alike), residual(table[alike]))


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
        worst = inside[_most_apart(means[inside])]
        others = means[[i for i in inside if i != worst]]
        own = float(np.var(means[worst] - others.mean(axis=0), ddof=1)) / (1 + 1 / len(others))
        pooled, df = residual(others)
        ratio = own / pooled**2 if pooled > 0 else (np.inf if own > EXACT**2 else 0.0)
        p = float(special.fdtrc(means.shape[1] - 1, df, ratio))
        if p >= UNEQUAL_P / len(inside):
            break
        if worst == keep:
            return [keep]
        inside.remove(worst)
    return inside


def _most_apart(means: Floats) -> int:
    """The row of [arms, folds] whose scatter about the others is largest against theirs.

    With the residuals r of the two-way table and S the sum of their squares, that of row i about
    the others is as |r_i|^2, and the others' own S - n / (n - 1) |r_i|^2.
    """
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    own = (rest**2).sum(axis=1)
    others = np.maximum(own.sum() - own * len(means) / (len(means) - 1), 0)
    apart = np.divide(own, others, out=np.full(len(own), np.inf), where=others > 0)
    return int(np.argmax(np.where(own > 0, apart, 0)))


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
    for df in dict.fromkeys(c.df for c in tested):
        same = [c for c in tested if c.df == df]
        tails = range_tail(np.array([_statistic(c) for c in same]) * np.sqrt(2), n_arms, df)
        critical = tukey_critical(alpha, n_arms, df)
        judged |= {
            c.arm: _judgement(c, float(p), critical * c.se)
            for c, p in zip(same, tails, strict=True)
        }
    return judged


def range_tail(q: Floats, n_arms: int, df: int) -> Floats:
    """The chance that the studentized range of `n_arms` exceeds each of `q`.

    As scipy.stats.studentized_range.sf within 1e-10, for a thousand values in the time that takes
    for five: the distribution of the range itself is a polynomial here, found once.
    Source: P(Q <= q) = E R(q s), s^2 ~ chi2(df) / df, R the distribution of a range of normals.
    """
    z = np.linspace(-9, 9, 721)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])

    def range_cdf(w: Floats) -> Floats:
        inside = special.ndtr(z) - special.ndtr(z - w[:, None])
        return n_arms * np.asarray(inside ** (n_arms - 1) @ density)

    below = np.polynomial.Chebyshev.interpolate(range_cdf, 400, domain=[0, WIDEST])
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low, high = (np.sqrt(special.chdtri(df, p) / df) for p in (1 - 1e-15, 1e-15))
    with np.errstate(divide="ignore"):
        half = np.maximum(np.minimum(high, WIDEST / q) - low, 0)[:, None] / 2
    s = low + half * (nodes + 1)
    scale = df / 2 * np.log(df / 2) - special.gammaln(df / 2) + np.log(2)
    of_s = np.exp(scale + (df - 1) * np.log(s) - df * s**2 / 2)
    beyond = 1 - below(np.minimum(s * np.where(half > 0, q[:, None], 0), WIDEST))
    return np.asarray(np.clip((beyond * of_s * half) @ weights, 0, 1))


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
