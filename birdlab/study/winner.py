"""What the arms of a ranking are worth: shrunken gains beside the observed ones, in words.

With a named base the changes are one family; the noise of the base, of which no arm can tell,
widens their intervals. A base that was picked for its score is one of the family itself, and is
pulled down like the others. Where arms are few the effects of other sweeps of the lab stand in
for a family: there an arm and its base count as two recipes of one kind, so that each difference
is weighed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import special

from birdlab.study.contrasts import EXACT, MIN_FOLDS, Contrast, Floats, residual
from birdlab.study.shrinkage import (
    MIN_EFFECTS,
    EffectPrior,
    Pulled,
    Shrunken,
    expected_best,
    pull_arms,
    shrink,
)

ANEW = "expected with other seeds and folds"


@dataclass(frozen=True)
class Winner:
    """The arm of the highest difference: what it shows, what luck alone shows, what it is worth.

    over: what it is compared with, the base, else, where the winner is the base, the other arms.
    by_luck: the mean of the highest of as many arms that are all alike; 0 for one arm alone.
    """

    arm: str
    over: str
    n_arms: int
    shown: float
    by_luck: float
    worth: Shrunken

    @property
    def sentence(self) -> str:
        """It in words."""
        luck = f" the best of {self.n_arms} by chance alone would show {self.by_luck:+.4f};"
        return (
            f"{self.arm} shows {self.shown:+.4f} over {self.over};"
            f"{luck if self.n_arms > 1 else ''} {expected_words(self.worth)}."
        )


@dataclass(frozen=True)
class Worth:
    """The shrunken gain of each arm over the base, the distribution behind them, and words.

    `notes`: where the distribution comes from, or why there is none.
    """

    gains: Mapping[str, Shrunken] = field(default_factory=dict)
    prior: EffectPrior | None = None
    winner: Winner | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What is said below a ranking."""
        return self.notes if self.winner is None else (self.winner.sentence, *self.notes)


def weigh_arms(
    contrasts: Mapping[str, Contrast],
    means: pd.DataFrame,
    base: str,
    *,
    picked: bool,
    lab: EffectPrior | None = None,
) -> Worth:
    """What the arms are worth; no gains where neither they nor the lab tell how effects scatter.

    means: arms × folds, NaN where an arm lacks a fold. picked: the base is the arm of the highest
    mean. lab: the distribution of the effects of other sweeps. An arm that equals the base in every
    fold is worth nothing; of equal arms one counts.
    """
    known = [c for c in contrasts.values() if c.n_folds >= MIN_FOLDS]
    copies = {c.arm: Shrunken(0.0, 0.0, 0.0, 0.0) for c in known if _is_copy(c)}
    arms = [c for c in known if c.arm not in copies]
    if not arms:
        return Worth(copies)
    if all(c.se == 0 for c in arms):
        exact = {c.arm: Shrunken(c.delta, c.delta, c.delta, float(c.delta > 0)) for c in arms}
        return Worth(copies | exact)
    first = {_key(c): c for c in reversed(arms)}
    family = [c for c in arms if first[_key(c)] is c]
    n = len(family) + picked
    if n >= MIN_EFFECTS:
        worth = _weigh_family(family, means, base, picked, lab)
    elif lab is not None:
        worth = _weigh_by_lab(family, means, base, picked, lab)
    else:
        return Worth(copies, notes=(_too_few(n),))
    gains = {c.arm: worth.gains[first[_key(c)].arm] for c in arms}
    return replace(worth, gains=copies | gains)


def _weigh_family(
    arms: Sequence[Contrast],
    means: pd.DataFrame,
    base: str,
    picked: bool,
    lab: EffectPrior | None,
) -> Worth:
    """Arms that tell of their own scatter; a picked base is the last of them."""
    noise = _split_errors(arms, means)
    values = np.array([c.delta for c in arms] + [0.0] * picked)
    errors = np.append(noise.arms, noise.base) if picked else noise.arms
    pulled = pull_arms(values, np.maximum(errors, 1e-6 * errors.max()), df=noise.df, prior=lab)
    found = pulled.gains(len(arms)) if picked else pulled.gains(fixed_variance=noise.base_alone)
    gains = {c.arm: worth for c, worth in zip(arms, found, strict=False)}
    n, luck = len(values), expected_best(errors)
    prior = pulled.prior(f"effects of {n} arms")
    if picked:
        field_mean = f"the mean of the {n} arms"
        winner = Winner(base, field_mean, n, -float(values.mean()), luck, pulled.lead(n - 1))
    else:
        best = max(arms, key=lambda c: c.delta)
        winner = Winner(best.arm, base, n, best.delta, luck, gains[best.arm])
    return Worth(gains, prior, winner, _family_words(pulled, prior, arms, lab))


def _weigh_by_lab(
    arms: Sequence[Contrast], means: pd.DataFrame, base: str, picked: bool, lab: EffectPrior
) -> Worth:
    """Too few arms to tell of their scatter: each is weighed by the effects of other sweeps.

    A picked base could as well have been the arm: such differences lie around 0. Nor is a mean
    above 0 lent to arms: that other changes helped often tells of a few weak bases. One below is.
    """
    mean, error = (0.0, 0.0) if picked else (min(lab.mean, 0.0), lab.mean_se)
    prior = replace(lab, mean=mean, mean_se=error)
    gains = {c.arm: shrink(c.delta, c.se, prior, df=c.df) for c in arms}
    best = max(arms, key=lambda c: c.delta)
    worth = gains[best.arm]
    noise = _split_errors(arms, means)
    if picked:
        turned = Shrunken(-worth.expected, -worth.high, -worth.low, 1 - worth.chance_above)
        luck = expected_best(np.append(noise.arms, noise.base))
        winner = Winner(base, best.arm, len(arms) + 1, -best.delta, luck, turned)
    else:
        winner = Winner(best.arm, base, len(arms), best.delta, expected_best(noise.arms), worth)
    lent = "" if picked or lab.mean <= 0 else "; that mean is not lent to an arm"
    return Worth(gains, prior, winner, (f"{_scatter(lab, lab.source)}{lent}.",))


@dataclass(frozen=True, eq=False)
class _Errors:
    """The error variance of each arm, that of the base, and how well those of arms are known.

    base_alone: that of the base as it widens an interval, where only few folds tell of it.
    """

    arms: Floats
    base: float
    base_alone: float
    df: float


def _split_errors(arms: Sequence[Contrast], means: pd.DataFrame) -> _Errors:
    """The noise of a difference as a part of the arm's and one of the base, which all share.

    Half and half where both scatter alike. Where the base scatters unlike all of them, what arms
    leave unexplained among themselves is theirs, and the rest of it is the base's.
    """
    squares = np.array([c.se**2 for c in arms])
    pooled = [c for c in arms if not c.own_variance]
    if pooled:
        base, df = min(c.se**2 for c in pooled) / 2, max(c.df for c in pooled)
        return _Errors(np.maximum(squares - base, squares / 2), base, base, df)
    among = means.loc[[c.arm for c in arms]].dropna(axis=1).to_numpy()
    sd, df = residual(among)
    own = min(sd**2 / max(among.shape[1], 1), float(squares.mean()) / 2) if df else np.nan
    if not own > 0:
        own, df = float(squares.mean()) / 2, arms[0].df
    base = float(squares.mean()) - own
    wider = float(special.stdtrit(arms[0].df, 0.975) / special.ndtri(0.975)) ** 2
    return _Errors(np.full(len(arms), own), base, base * wider, df)


def _family_words(
    pulled: Pulled, prior: EffectPrior, arms: Sequence[Contrast], lab: EffectPrior | None
) -> tuple[str, ...]:
    """Where the distribution comes from, and which arms it is not made of."""
    said = _scatter(prior, f"true differences of these {prior.n} arms")
    if lab is not None:
        said += f", with a look at the {lab.source}, which scatter by {lab.sd:.4f}"
    apart = [c.arm for c, own in zip(arms, pulled.own, strict=False) if not own]
    far = [f"{arm} lies far from the other arms and is not pulled to them." for arm in apart]
    return (f"{said}.", *far)


def _scatter(prior: EffectPrior, source: str) -> str:
    return (
        f"The {source} scatter by about {prior.sd:.4f} ({prior.sd_low:.4f} to "
        f"{prior.sd_high:.4f}) around {prior.mean:+.4f}"
    )


def expected_words(worth: Shrunken) -> str:
    """The expected gain and its interval as part of a sentence."""
    return f"{ANEW}: {worth.expected:+.4f} ({worth.low:+.4f} to {worth.high:+.4f})"


def _too_few(n: int) -> str:
    arms = "1 arm says" if n == 1 else f"{n} arms say"
    return (
        f"Not enough evidence to say what the winner is worth: {arms} too little of how far "
        f"effects scatter. It takes {MIN_EFFECTS} arms, or {MIN_EFFECTS} effects of other sweeps."
    )


def _is_copy(c: Contrast) -> bool:
    return abs(c.delta) < EXACT and c.own_sd == 0


def _key(c: Contrast) -> tuple[float, float, int]:
    """Equal for arms that are equal in every fold."""
    return round(c.delta, 10), round(c.own_sd, 10), c.n_folds
