"""What a procedure says of a table of contrasts: adjusted p, intervals, and the verdict.

Source: Holm (1979), Scandinavian Journal of Statistics 6; Dunnett (1955), JASA 50, in its
two-sided form for equal variances; Tukey's studentized range for all pairs; Schuirmann (1987),
Journal of Pharmacokinetics and Biopharmaceutics 15, for two one-sided tests of equivalence;
Nadeau and Bengio (2003), Machine Learning 52, for the corrected resampled t test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from birdlab.study.contrasts import EXACT, MIN_FOLDS, Contrast
from birdlab.study.manytests import (
    dunnett_critical,
    dunnett_tail,
    range_tail,
    tukey_critical,
)

Correction = Literal["holm", "dunnett"]
Method = Literal["holm", "dunnett", "tukey"]
"""A correction of arms against a named base, or of all pairs where the base was picked."""

NARROW = 0.10
"""What the interval of `within noise` leaves out: 90 % is two one-sided tests at 5 %."""


@dataclass(frozen=True)
class Judgement:
    """What a procedure says of one contrast.

    p: adjusted for the other arms; low, high: the interval that leaves 0 out exactly when p is
    below the level; low90, high90: the 90 % interval that `within noise` looks at. critical and
    narrow: how many standard errors wide the two are to each side.
    """

    p: float
    low: float
    high: float
    low90: float
    high90: float
    critical: float
    narrow: float


def judge(
    tested: Sequence[Contrast], alpha: float, method: Method, n_arms: int
) -> dict[str, Judgement]:
    """The judgement of each contrast by `method`; `n_arms` counts the base."""
    if method == "tukey":
        return judge_tukey(tested, alpha, n_arms)
    return judge_dunnett(tested, alpha) if method == "dunnett" else judge_holm(tested, alpha)


def decide(c: Contrast, judged: Judgement | None, smallest_effect: float, alpha: float) -> str:
    """The verdict: better, worse, within noise, undecided, or no verdict where nothing was judged.

    A significant difference is better or worse also where it is small. An arm that equals the base
    in every fold to the last digit is within noise, however far the others scatter.
    """
    if judged is None:
        return "no verdict"
    if abs(c.delta) < EXACT and c.own_sd == 0:
        return "within noise"
    if judged.p < alpha:
        return "better" if c.delta > 0 else "worse"
    inside = max(abs(judged.low90), abs(judged.high90)) <= smallest_effect
    return "within noise" if inside else "undecided"


def on_new_data(c: Contrast, n_split: int) -> tuple[float, float]:
    """Where the difference lies on new data, 95 %, for this arm alone; NaN under 3 folds.

    The training parts of `n_split` folds overlap, so differences of folds are not independent:
    the variance of their mean is taken larger by test / train = 1 / (n_split - 1).
    """
    if c.n_folds < MIN_FOLDS:
        return float("nan"), float("nan")
    se = c.residual_sd * np.sqrt(2 * (1 / c.n_folds + 1 / (n_split - 1)))
    width = float(special.stdtrit(c.df, 0.975) * se)
    return c.delta - width, c.delta + width


def first_critical(method: Method, alpha: float, n_tested: int, df: int, n_arms: int) -> float:
    """The t value that the strongest of the tested arms has to exceed."""
    if method == "tukey":
        return tukey_critical(alpha, n_arms, df)
    if method == "dunnett":
        return dunnett_critical(alpha, n_tested, df)
    return float(special.stdtrit(df, 1 - alpha / (2 * n_tested)))


def judge_holm(tested: Sequence[Contrast], alpha: float) -> dict[str, Judgement]:
    """Holm's adjusted p per arm, and the interval at the level of the arm's own step.

    Arms that are not rejected share the level of the step at which the procedure stopped, so an
    interval leaves 0 out exactly when its p is below `alpha`.
    """
    raw = [_p_value(c) for c in tested]
    order = sorted(range(len(tested)), key=lambda i: raw[i])
    steps = [(len(order) - k) * raw[i] for k, i in enumerate(order)]
    adjusted = np.minimum(1, np.maximum.accumulate(steps))
    n_rejected = int((adjusted < alpha).sum())
    judged: dict[str, Judgement] = {}
    for step, i in enumerate(order):
        level = alpha / (len(order) - min(step, n_rejected))
        critical = float(special.stdtrit(tested[i].df, 1 - level / 2))
        judged[tested[i].arm] = _judgement(
            tested[i], float(adjusted[step]), critical, _one_pair(tested[i].df)
        )
    return judged


def judge_dunnett(tested: Sequence[Contrast], alpha: float) -> dict[str, Judgement]:
    """Dunnett's adjusted p and interval per arm, for differences to one base that share it.

    Two such differences correlate by .5 where all arms share one variance and have the same
    cells. Arms that do not are counted among the others, as if they did.
    """
    judged: dict[str, Judgement] = {}
    for df in dict.fromkeys(c.df for c in tested):
        same = [c for c in tested if c.df == df]
        tails = dunnett_tail(np.array([_statistic(c) for c in same]), len(tested), df)
        critical, narrow = dunnett_critical(alpha, len(tested), df), _one_pair(df)
        judged |= {
            c.arm: _judgement(c, float(p), critical, narrow)
            for c, p in zip(same, tails, strict=True)
        }
    return judged


def judge_tukey(tested: Sequence[Contrast], alpha: float, n_arms: int) -> dict[str, Judgement]:
    """Tukey's adjusted p and interval per arm: right even for the two most extreme of all arms.

    The 90 % interval is the plain one: picking the highest arm exaggerates differences to it, so
    arms look within noise less often, not more.
    """
    judged: dict[str, Judgement] = {}
    for df in dict.fromkeys(c.df for c in tested):
        same = [c for c in tested if c.df == df]
        tails = range_tail(np.array([_statistic(c) for c in same]) * np.sqrt(2), n_arms, df)
        critical, narrow = tukey_critical(alpha, n_arms, df), _one_pair(df)
        judged |= {
            c.arm: _judgement(c, float(p), critical, narrow)
            for c, p in zip(same, tails, strict=True)
        }
    return judged


def _one_pair(df: int) -> float:
    return float(special.stdtrit(df, 1 - NARROW / 2))


def _judgement(c: Contrast, p: float, critical: float, narrow: float) -> Judgement:
    wide, tight = critical * c.se, narrow * c.se
    low, high, low90, high90 = (c.delta + w for w in (-wide, wide, -tight, tight))
    return Judgement(p, low, high, low90, high90, critical, narrow)


def _statistic(c: Contrast) -> float:
    if abs(c.delta) < EXACT:
        return 0.0
    return abs(c.delta) / c.se if c.se > 0 else np.inf


def _p_value(c: Contrast) -> float:
    return float(2 * special.stdtr(c.df, -_statistic(c)))
