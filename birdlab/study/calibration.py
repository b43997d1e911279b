"""How often bets of a stated sureness come true, from outcomes that may be open.

Each bet has the logarithm of the factor by which its evidence changes the odds of its claim: far
from 0 where the evidence decides it, near 0 where it says little. With the chance p that the claim
is true, what was seen has the likelihood p * factor + (1 - p), so an open bet counts for what it
is worth and needs no guess. Leaving open bets out would not do: which bets are decided depends on
what they claim and on how they came out.
Source: Cox (1958), Biometrika 45, for a shift of the log odds; Wilks (1938) for intervals by the
ratio of likelihoods.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import special

from birdlab.study.contrasts import Floats

LEAST = 3.841458820694124
"""The 95 % point of chi-square with 1 degree of freedom."""
BINS = (0.5, 0.7, 0.9, 1.0)
"""Bets are put together by how sure they are, each bin without its lower end."""
_SHIFTS = np.linspace(-12, 12, 4801)
_RATES = np.linspace(0.0005, 0.9995, 2000)


@dataclass(frozen=True)
class Calibration:
    """How sure bets were on average, and how often such bets come true, with its 95 % interval.

    A bet with less than .5 counts as one on the opposite.
    """

    n: int
    sure: float
    right: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`overconfident`, `underconfident`, or `as sure as right` where no difference is shown."""
        if self.high < self.sure:
            return "overconfident"
        return "underconfident" if self.low > self.sure else "as sure as right"


def calibrate(sure: Floats, log_factors: Floats) -> Calibration:
    """The calibration of bets [n]: one shift of the log odds of all that fits the evidence best.

    sure: 0 to 1, without .5, which leans to no side; log_factors: finite.
    """
    sure, log_factors = lean(np.asarray(sure, float), np.asarray(log_factors, float))
    shifted = special.logit(sure) + _SHIFTS[:, None]
    likely = _log_likelihood(shifted, log_factors)
    rates = special.expit(shifted).mean(axis=1)
    inside = rates[2 * (likely.max() - likely) <= LEAST]
    best = float(rates[int(np.argmax(likely))])
    return Calibration(len(sure), float(sure.mean()), best, float(inside[0]), float(inside[-1]))


def bin_by_sureness(sure: Floats, log_factors: Floats) -> pd.DataFrame:
    """For each bin with bets: from, to, n, sure (mean), right (share true), low, high (95 %)."""
    sure, log_factors = lean(np.asarray(sure, float), np.asarray(log_factors, float))
    rows = []
    for low, high in pairwise(BINS):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            rows.append(
                (
                    low,
                    high,
                    int(inside.sum()),
                    float(sure[inside].mean()),
                    *_rate(log_factors[inside]),
                )
            )
    return pd.DataFrame(rows, columns=["from", "to", "n", "sure", "right", "low", "high"])


def lean(sure: Floats, log_factors: Floats) -> tuple[Floats, Floats]:
    """Bets as bets on what they hold for likelier than not; those of .5 are left out."""
    kept = sure != 0.5
    sure, log_factors = sure[kept], log_factors[kept]
    return np.where(sure < 0.5, 1 - sure, sure), np.where(sure < 0.5, -log_factors, log_factors)


def _rate(log_factors: Floats) -> tuple[float, float, float]:
    """The share of true claims that fits best, and its 95 % interval."""
    likely = _log_likelihood(special.logit(_RATES)[:, None], log_factors)
    inside = _RATES[2 * (likely.max() - likely) <= LEAST]
    return float(_RATES[int(np.argmax(likely))]), float(inside[0]), float(inside[-1])


def _log_likelihood(log_odds: Floats, log_factors: Floats) -> Floats:
    """[values] of log odds [values, bets or 1]: the sum over bets of log(p * factor + 1 - p)."""
    yes, no = special.log_expit(log_odds) + log_factors, special.log_expit(-log_odds)
    return np.asarray(np.logaddexp(yes, no).sum(axis=1))
