"""The split of a difference over species and recordings in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from birdlab.study.contrasts import EXACT
from birdlab.study.split_chance import Chance
from birdlab.words import count_words, list_some

ONE_SIDED = 0.25
"""Up to this part of the difference, what goes the other way may be left unsaid."""


def split_sentences(
    delta: float,
    species: pd.DataFrame,
    recordings: pd.DataFrame,
    remainder: float,
    chance: Chance | None,
) -> list[str]:
    """What makes the difference, what single recordings do, and what chance would show."""
    if (species["share"].abs() <= EXACT).all():
        return ["Both score the same in every species: there is nothing to explain."]
    said = [_species_sentence(delta, species), _recordings_sentence(delta, recordings, remainder)]
    return [*said, _chance_sentence(species, recordings, chance)]


def fewest_for_half(shares: pd.Series[float], sign: float) -> tuple[int, float]:
    """How many shares make half of all of this sign, the largest first, and their sum."""
    own = np.sort((shares * sign)[shares * sign > EXACT].to_numpy())[::-1]
    sums = np.cumsum(own)
    n = int(np.searchsorted(sums, sums[-1] / 2)) + 1
    return n, float(sums[n - 1])


def _species_sentence(delta: float, species: pd.DataFrame) -> str:
    shares = species["share"]
    gains, losses = shares[shares > EXACT], shares[shares < -EXACT]
    sign = 1.0 if delta >= 0 else -1.0
    if not len(gains if sign > 0 else losses):
        sign = -sign
    n, made = fewest_for_half(shares, sign)
    own, other = (gains, losses) if sign > 0 else (losses, gains)
    names = list_some(species["code"][shares * sign > EXACT].head(n), most=6)
    if abs(other.sum()) <= ONE_SIDED * abs(delta) and made <= abs(delta) + EXACT:
        return f"{delta:+.4f}, of which {100 * made / abs(delta):.0f} % from {n} species ({names})."
    return (
        f"{delta:+.4f}: gains of {gains.sum():+.4f} in {len(gains)} species, losses of "
        f"{losses.sum():+.4f} in {len(losses)}. {n} species ({names}) make "
        f"{100 * made / abs(own.sum()):.0f} % of the {'gains' if sign > 0 else 'losses'}."
    )


def _recordings_sentence(delta: float, recordings: pd.DataFrame, remainder: float) -> str:
    shares = recordings["share"]
    gains, losses = shares[shares > EXACT], shares[shares < -EXACT]
    said = (
        f"By the ranks of their own labels, {count_words(len(gains), 'recording')} gain "
        f"{gains.sum():+.4f} and {len(losses)} lose {losses.sum():+.4f}"
    )
    sign = 1.0 if delta >= 0 else -1.0
    if len(gains if sign > 0 else losses):
        what = "gains" if sign > 0 else "losses"
        said += f"; half of the {what} is made by {fewest_for_half(shares, sign)[0]}"
    if np.isnan(remainder):
        return f"{said}. Without one of the recordings a fold has no score: influences have no sum."
    return (
        f"{said}. Taken out one at a time, they move the difference by {delta - remainder:+.4f} in "
        f"sum; the remaining {remainder:+.4f} belongs to no recording alone, since one that gains "
        "as the others of its species do can leave almost without a trace."
    )


def _chance_sentence(species: pd.DataFrame, recordings: pd.DataFrame, chance: Chance | None) -> str:
    if chance is None:
        return (
            "Not enough evidence to say how large shares come out by chance: that takes two seeds "
            "of each run on the same folds."
        )
    beyond = int((species["share"].abs() > chance.largest).sum())
    heard = int((recordings["influence"].abs() > chance.largest_recording).sum())
    return (
        f"Two equal runs with as many seeds would show gains and losses of about "
        f"{chance.gains:.4f} each, {chance.largest:.4f} in the largest species and "
        f"{chance.largest_recording:.4f} in the largest recording: {beyond} species and "
        f"{count_words(heard, 'recording')} here go beyond that."
    )
