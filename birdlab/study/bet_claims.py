"""Whether the cells of a sweep decide a claim: true, false, or open.

A claim was made before the result and names its arms, so each is tested for itself, at 5 % to
each side. What must hold for all arms is tested for each; what may hold for any is allowed for.
Source: Berger (1982), Technometrics 24, for what must hold for all; Bonferroni for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special

from birdlab.spec.bets import Claim
from birdlab.study.contrasts import (
    EXACT,
    MIN_FOLDS,
    Contrast,
    Floats,
    build_contrasts,
    fold_means,
)
from birdlab.words import list_some

LEVEL = 0.05
"""The chance that a claim on one difference is called true though it is false, or the reverse."""

Side = Literal["true", "false", "open"]
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Decision:
    """What the cells say of a claim; of a difference its estimate and 90 % interval, else NaN."""

    outcome: Side
    why: str
    estimate: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


def decide_claim(
    claim: Claim, cells: pd.DataFrame, *, control: str | None = None, stopped: Sequence[str] = ()
) -> Decision:
    """What the cells (arms x (fold, seed), NaN where there is none) say of a claim.

    An arm that a race `stopped` is worse than the `control`: that decides what the sign decides.
    """
    if not claim.arms or not claim.against:
        return Decision("open", "no arm of the sweep is meant")
    lacking = [arm for arm in claim.titles if arm not in cells.index]
    if lacking:
        return Decision("open", f"without score: {list_some(lacking, 3)}")
    pairs = _Pairs(cells, control, frozenset(stopped))
    if claim.kind in ("best", "worst"):
        return _decide_place(claim, pairs)
    (base,) = claim.against
    region = _region(claim.kind, claim.amount)
    strict = [pairs.side(arm, base, region, LEVEL) for arm in claim.arms]
    loose = [pairs.side(arm, base, region, LEVEL / len(claim.arms)) for arm in claim.arms]
    outcome = _all_of(strict, loose)
    if len(claim.arms) > 1:
        return Decision(outcome, pairs.why(outcome, claim))
    c = pairs.contrast(claim.arms[0], base)
    wide = c.se * float(special.stdtrit(c.df, 1 - LEVEL)) if c.df else float("nan")
    why = pairs.why(outcome, claim)
    return Decision(outcome, why, c.delta, c.delta - wide, c.delta + wide)


def margin(claim: Claim, values: Mapping[str, Floats]) -> Floats:
    """By how much a claim holds for true values of the arms, [draws] per arm -> [draws].

    Above 0 it is true, below 0 it is false. What must hold for all arms has the least of theirs.
    """
    arms = np.stack([values[arm] for arm in claim.arms])
    against = np.stack([values[arm] for arm in claim.against])
    if claim.kind == "best":
        return np.asarray(arms.max(axis=0) - against.max(axis=0))
    if claim.kind == "worst":
        return np.asarray(against.min(axis=0) - arms.min(axis=0))
    low, high = _region(claim.kind, claim.amount)
    delta = arms - against
    return np.asarray(np.minimum(delta - low, high - delta).min(axis=0))


class _Pairs:
    """Differences of two arms, worked out once for each arm that others are compared with."""

    def __init__(self, cells: pd.DataFrame, control: str | None, stopped: frozenset[str]) -> None:
        self.cells, self.control, self.stopped = cells, control, stopped
        self._held: dict[str, dict[str, Contrast]] = {}

    def contrast(self, arm: str, base: str) -> Contrast:
        if base not in self._held:
            others = [name for name in self.cells.index if name != base]
            self._held[base] = build_contrasts(self.cells, others, base)
        return self._held[base][arm]

    def seen_ahead(self, arms: Sequence[str], others: Sequence[str], sign: int) -> Sequence[str]:
        """The arms that lie above all others (sign 1) or below (-1) on the cells that they share.

        All arms where a race says more than their cells do.
        """
        if self.stopped:
            return arms
        rest = self.cells.loc[list(others)]
        apart = {arm: sign * fold_means(self.cells.loc[arm] - rest).mean(axis=1) for arm in arms}
        return [arm for arm in arms if (apart[arm] > 0).all()]

    def side(self, arm: str, base: str, region: tuple[float, float], level: float) -> Side:
        """Whether arm - base lies in a region, outside, or neither surely."""
        low, high = region
        if arm in self.stopped and base == self.control:
            return "false" if low >= 0 else "true" if low == -np.inf and high >= -_TINY else "open"
        if base in self.stopped and arm == self.control:
            return self.side(base, arm, (-high, -low), level)
        c = self.contrast(arm, base)
        if c.n_folds < MIN_FOLDS:
            return "open"
        if abs(c.delta) < EXACT and c.own_sd == 0:
            return "true" if low <= 0 <= high else "false"
        wide = c.se * float(special.stdtrit(c.df, 1 - level))
        if c.delta - wide >= low and c.delta + wide <= high:
            return "true"
        return "false" if c.delta + wide < low or c.delta - wide > high else "open"

    def why(self, outcome: Side, claim: Claim) -> str:
        """Why a claim is open; "" for one that is decided."""
        if outcome != "open":
            return ""
        (base, *_) = claim.against
        folds = min(self.contrast(arm, base).n_folds for arm in claim.arms if arm != base)
        if folds < MIN_FOLDS:
            return f"{folds} common folds; {MIN_FOLDS} are needed"
        if set(claim.arms) & self.stopped:
            return "the race stopped an arm before this could be told"
        return "the intervals leave both open"


def _decide_place(claim: Claim, pairs: _Pairs) -> Decision:
    """Best: some of the arms beats all others. Not best: some other beats all of the arms."""
    sign = 1 if claim.kind == "best" else -1
    behind = (-np.inf, -_TINY) if sign > 0 else (_TINY, np.inf)

    def some_lead(arms: Sequence[str], others: Sequence[str]) -> bool:
        level = LEVEL / len(arms)
        return any(
            all(pairs.side(other, arm, behind, level) == "true" for other in others)
            for arm in pairs.seen_ahead(arms, others, sign)
        )

    if some_lead(claim.arms, claim.against):
        return Decision("true", "")
    if some_lead(claim.against, claim.arms):
        return Decision("false", "")
    return Decision("open", pairs.why("open", claim))


def _region(kind: str, amount: float) -> tuple[float, float]:
    """Where the difference of an arm has to lie for the claim; both ends belong to it."""
    return {
        "better_by": (max(amount, _TINY), np.inf),
        "worse_by": (-np.inf, -max(amount, _TINY)),
        "within": (-amount, amount),
        "not_better_by": (-np.inf, amount),
        "not_worse_by": (-amount, np.inf),
    }[kind]


def _all_of(strict: Sequence[Side], loose: Sequence[Side]) -> Side:
    """True where each is; false where one is by the level that allows for all of them."""
    if all(side == "true" for side in strict):
        return "true"
    return "false" if "false" in loose else "open"
