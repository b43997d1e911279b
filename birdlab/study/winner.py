"""What the arms of a ranking are worth: shrunken gains beside the observed ones, in words.

With a named base the changes are one family; the noise of the base, of which no arm can tell,
widens their intervals. A base that was picked for its score is one of the family itself, and is
pulled down like the others. Where arms are few the lab's earlier effects stand in for a family:
there an arm and its base count as two recipes of one kind, so that each difference is weighed by
itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from birdlab.study.contrasts import EXACT, MIN_FOLDS, Contrast, Floats
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
class Worth:
    """The shrunken gain of each arm over the base, the distribution behind them, and words."""

    gains: Mapping[str, Shrunken] = field(default_factory=dict)
    prior: EffectPrior | None = None
    sentences: tuple[str, ...] = ()


def weigh_arms(
    contrasts: Mapping[str, Contrast], base: str, *, picked: bool, lab: EffectPrior | None = None
) -> Worth:
    """What the arms are worth; no gains where neither they nor the lab tell how effects scatter.

    picked: the base is the arm of the highest mean. lab: the distribution of the lab's earlier
    effects. An arm that equals the base in every fold is worth nothing; of equal arms one counts.
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
        worth = _weigh_family(family, base, picked, lab)
    elif lab is not None:
        worth = _weigh_by_lab(family, base, picked, lab)
    else:
        return Worth(copies, None, (_too_few(n),))
    gains = {c.arm: worth.gains[first[_key(c)].arm] for c in arms}
    return replace(worth, gains=copies | gains)


def _weigh_family(
    arms: Sequence[Contrast], base: str, picked: bool, lab: EffectPrior | None
) -> Worth:
    """Arms that tell of their own scatter; a picked base is the last of them."""
    errors, base_error = _split_errors(arms)
    values = np.array([c.delta for c in arms] + [0.0] * picked)
    errors = np.append(errors, base_error) if picked else errors
    pulled = pull_arms(values, errors, df=_degrees(arms), prior=lab)
    one = np.eye(len(values))
    against = one[-1] if picked else np.zeros(len(values))
    fixed = 0.0 if picked else base_error
    gains = {c.arm: pulled.say(one[i] - against, fixed) for i, c in enumerate(arms)}
    n = len(values)
    luck = f"the best of {n} by chance alone would show {expected_best(errors):+.4f}"
    prior = pulled.prior(f"effects of {n} arms")
    if picked:
        field_of = one[-1] - 1 / n
        lead = f"{base} leads the mean of the {n} arms by {-values.mean():+.4f}"
        said = f"{lead}; {luck.replace('show', 'lead by')}; {_expected(pulled.say(field_of))}."
    else:
        best = max(arms, key=lambda c: c.delta)
        said = f"{best.arm} shows {best.delta:+.4f}; {luck}; {_expected(gains[best.arm])}."
    return Worth(gains, prior, (said, *_family_words(pulled, prior, arms, lab)))


def _weigh_by_lab(arms: Sequence[Contrast], base: str, picked: bool, lab: EffectPrior) -> Worth:
    """Too few arms to tell of their scatter: each is weighed by the lab's earlier effects.

    A picked base could as well have been the arm: such differences lie around 0.
    """
    prior = replace(lab, mean=0.0, mean_se=0.0) if picked else lab
    gains = {c.arm: shrink(c.delta, c.se, prior) for c in arms}
    best = max(arms, key=lambda c: c.delta)
    worth = gains[best.arm]
    if picked:
        turned = Shrunken(-worth.expected, -worth.high, -worth.low, 1 - worth.chance_above)
        said = f"{base} leads {best.arm} by {-best.delta:+.4f}; {_expected(turned)}."
    else:
        said = f"{best.arm} shows {best.delta:+.4f}; {_expected(worth)}."
    return Worth(gains, prior, (said, f"{_scatter(lab, lab.source)}."))


def _split_errors(arms: Sequence[Contrast]) -> tuple[Floats, float]:
    """The error variance of each arm, and that of the base, of which a difference has both."""
    squares = np.array([c.se**2 for c in arms])
    pooled = [c.se**2 for c in arms if not c.own_variance]
    base = min(pooled or squares[squares > 0]) / 2
    errors = np.maximum(squares - base, squares / 2)
    return np.maximum(errors, 1e-6 * errors.max()), float(base)


def _degrees(arms: Sequence[Contrast]) -> float:
    """From how many degrees of freedom the noise of most arms is known."""
    return float(max((c.df for c in arms if not c.own_variance), default=arms[0].df))


def _family_words(
    pulled: Pulled, prior: EffectPrior, arms: Sequence[Contrast], lab: EffectPrior | None
) -> list[str]:
    """Where the distribution comes from, and which arms it is not made of."""
    said = _scatter(prior, f"true differences of these {prior.n} arms")
    if lab is not None:
        said += f", with a look at the {lab.source}, which scatter by {lab.sd:.4f}"
    apart = [c.arm for c, own in zip(arms, pulled.own, strict=False) if not own]
    far = [f"{arm} lies far from the other arms and is not pulled to them." for arm in apart]
    return [f"{said}.", *far]


def _scatter(prior: EffectPrior, source: str) -> str:
    return (
        f"The {source} scatter by about {prior.sd:.4f} ({prior.sd_low:.4f} to "
        f"{prior.sd_high:.4f}) around {prior.mean:+.4f}"
    )


def _expected(worth: Shrunken) -> str:
    return f"{ANEW}: {worth.expected:+.4f} ({worth.low:+.4f} to {worth.high:+.4f})"


def _too_few(n: int) -> str:
    arms = "1 arm says" if n == 1 else f"{n} arms say"
    return (
        f"Not enough evidence to say what the winner is worth: {arms} too little of how far "
        f"effects scatter. It takes {MIN_EFFECTS} arms, or {MIN_EFFECTS} effects of earlier sweeps."
    )


def _is_copy(c: Contrast) -> bool:
    return abs(c.delta) < EXACT and c.own_sd == 0


def _key(c: Contrast) -> tuple[float, float, int]:
    """Equal for arms that are equal in every fold."""
    return round(c.delta, 10), round(c.own_sd, 10), c.n_folds
