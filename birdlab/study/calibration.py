"""How often bets of a stated sureness come true, from outcomes that may be open.

Each claim has a margin: by how much it holds, below 0 where it does not. Somebody who gives it the
chance p sees the margin as spread about a place from which p of it lies above 0. What the cells see
is that margin with an error of theirs, so an open bet counts for what it is worth.
Leaving open bets out would not do: which bets are decided depends on what they claim and on how
they came out. Each bet has a spread of its own, since rates of learning move scores by tenths and
augmentations by thousandths; how spreads are distributed (log-normal) comes from all bets.
Source: Cox (1958), Biometrika 45, for one shift of all; Wilks (1938) for intervals by the ratio of
likelihoods.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import special

from birdlab.study.contrasts import Floats

CHI2_95 = 3.841458820694124
"""The 95 % point of chi-square with 1 degree of freedom."""
BINS = (0.5, 0.7, 0.9, 1.0)
"""Bets are put together by how sure they are, each bin without its lower end."""
_SHIFTS = np.linspace(-4, 4, 241)
_STEPS = np.arange(-14, 15) * np.log(2) / 2
"""Shifts in spreads; logarithms of spreads in multiples of the middle size of margins."""
_MIXTURES = np.stack(
    [
        special.softmax(-0.5 * ((_STEPS - middle) / wide) ** 2)
        for middle in _STEPS[4:-4:2]
        for wide in (0.2, 0.7, 1.4, 2.8)
    ]
)
"""[mixture, step]: log-normal distributions of spreads, the narrowest of one spread for all."""
_DOUBT = np.tile([0.0, 6.0, 6.0, 6.0], len(_MIXTURES) // 4)
"""By so much a mixture has to fit better (log likelihood) than one spread for all."""
_AT_ONCE = 50


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


def calibrate(sure: Floats, margins: Floats, errors: Floats) -> Calibration:
    """The calibration of bets [n]: one shift of all that fits their margins best.

    sure: 0 to 1, one of them other than .5, which leans to no side; margins with their errors
    above 0: finite.
    """
    sure, margins, errors = lean(sure, margins, errors)
    places = special.ndtri(sure) + _SHIFTS[:, None]
    likely = _log_likelihood(places, margins, errors)
    rates = special.ndtr(places).mean(axis=1)
    inside = rates[2 * (likely.max() - likely) <= CHI2_95]
    best = float(rates[int(np.argmax(likely))])
    return Calibration(len(sure), float(sure.mean()), best, float(inside[0]), float(inside[-1]))


def bin_by_sureness(sure: Floats, margins: Floats, errors: Floats) -> pd.DataFrame:
    """For each bin with bets: from, to, n, sure (mean), right (share true), low, high (95 %)."""
    sure, margins, errors = lean(sure, margins, errors)
    rows = []
    for low, high in pairwise(BINS):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            own = calibrate(sure[inside], margins[inside], errors[inside])
            rows.append((low, high, own.n, own.sure, own.right, own.low, own.high))
    return pd.DataFrame(rows, columns=["from", "to", "n", "sure", "right", "low", "high"])


def lean(sure: Floats, margins: Floats, errors: Floats) -> tuple[Floats, Floats, Floats]:
    """Bets as bets on what they hold for likelier than not; those of .5 are left out."""
    sure, margins, errors = (np.asarray(values, float) for values in (sure, margins, errors))
    kept = sure != 0.5
    sure, margins, errors = sure[kept], margins[kept], np.maximum(errors[kept], 1e-9)
    return np.where(sure < 0.5, 1 - sure, sure), np.where(sure < 0.5, -margins, margins), errors


def _log_likelihood(places: Floats, margins: Floats, errors: Floats) -> Floats:
    """[shifts] of places [shifts, bets] in spreads, with the mixture of spreads that fits best."""
    spreads = np.maximum(np.exp(_STEPS) * np.median(np.abs(margins)), 1e-9)[:, None, None]
    likely = np.zeros((len(_MIXTURES), len(places)))
    for first in range(0, len(margins), _AT_ONCE):
        own = slice(first, first + _AT_ONCE)
        scale2 = spreads**2 + errors[own] ** 2
        apart = (margins[own] - spreads * places[:, own]) ** 2 / scale2
        logs = -0.5 * (np.log(scale2) + apart)
        top = logs.max(axis=0)
        mixed = np.tensordot(_MIXTURES, np.exp(logs - top), axes=1)
        likely += (np.log(np.maximum(mixed, 1e-300)) + top).sum(axis=2)
    return np.asarray((likely - _DOUBT[:, None]).max(axis=0))
