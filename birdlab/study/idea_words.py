"""What the verdicts on an idea say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from birdlab.words import count_words

FLOORS_APART = 0.05
"""Floors further apart than this make differences of padded cmAP unlike in size."""
_OPEN = "not enough evidence"


def idea_sentence(row: Mapping[str, Any], own: pd.DataFrame) -> str:
    """What a row of IdeaLedger.ideas says; `own` are all verdicts on it."""
    return " ".join([_answer(row), *_left_out(own), *_unlike(row, own[own["left_out"] == ""])])


def _answer(row: Mapping[str, Any]) -> str:
    n = row["n_bases"]
    if n == 0:
        return "Not enough evidence: no verdict on it counts."
    places = f"{count_words(n, 'base')} of {count_words(row['n_data'], 'data set')}"
    if n == 1:
        return (
            f"Not enough evidence: tried on one base ({row['mean']:+.4f}, standard error "
            f"{row['se']:.4f}); what it does on others takes a second one."
        )
    found = f"{row['mean']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f}) over {places}"
    ahead = f"on a new base {row['predict_low']:+.4f} to {row['predict_high']:+.4f}"
    spread = f"bases differ by an SD of {row['tau']:.4f} ({row['tau_low']:.4f} to "
    spread += f"{row['tau_high']:.4f}), I2 {100 * row['i2']:.0f} %, p {row['p']:.2g}"
    says = str(row["says"])
    why = " The interval holds gains and losses that matter." if says == _OPEN else ""
    alone = " All on one data set: nothing is said of others." if row["n_data"] == 1 else ""
    return f"{says[0].upper()}{says[1:]}: {found}; {ahead}; {spread}.{why}{alone}"


def _left_out(own: pd.DataFrame) -> list[str]:
    counts = own.loc[own["left_out"] != "", "left_out"].value_counts()
    return [f"{count_words(int(n), 'verdict')} left out: {why}." for why, n in counts.items()]


def _unlike(row: Mapping[str, Any], counted: pd.DataFrame) -> list[str]:
    """What makes the verdicts unlike in scale."""
    if len(counted) < 2:
        return []
    floors, splits = counted["floor"].dropna(), sorted(counted["split_folds"].unique())
    apart = len(floors) > 0 and floors.max() - floors.min() > FLOORS_APART
    if len(splits) < 2 and not apart:
        return []
    told = f"Mixed scales: splits of {' and '.join(str(int(n)) for n in splits)} folds, "
    told += f"floors {floors.min():.2f} to {floors.max():.2f}"
    share = row["mean_share"]
    if share == share:
        told += f"; as a share of the range above the floor the mean is {100 * share:+.1f} %"
    return [f"{told}."]


def ledger_sentences(
    ideas: pd.DataFrame, verdicts: pd.DataFrame, left_out: Mapping[str, str]
) -> tuple[str, ...]:
    """How much there is, and how much of it can be weighed."""
    if verdicts.empty:
        said = ["Not enough evidence: no sweep with two scored arms has ended in this lab."]
    else:
        n_sweeps = len(verdicts[["sweep", "base_run"]].drop_duplicates())
        counted = int((verdicts["left_out"] == "").sum())
        several = int((ideas["n_bases"] > 1).sum())
        said = [
            f"{count_words(len(verdicts), 'verdict')} of {count_words(n_sweeps, 'sweep')} on "
            f"{count_words(len(ideas), 'idea')}; {counted} of them count.",
            f"{count_words(several, 'idea')} tried on more than one base."
            if several
            else "No idea was tried on two bases, so how much bases differ is not known.",
        ]
    return (*said, *(f"Left out: sweep {name}, since {why}." for name, why in left_out.items()))
