"""Ways to blend an ensemble and fitted weights, as tables to show on a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from birdlab.evaluate.blends import Blend
from birdlab.study.blending import compare_blends, fit_shares
from birdlab.study.ensemble import Members
from birdlab.study.ensemble_tables import number_words, shares_words
from birdlab.study.ranking import Ranking

MOST_WORK = 4e7
"""Members squared, times recordings, times classes: about 5 s on one core."""


@dataclass(frozen=True, eq=False)
class BlendsShown:
    """Ways to blend and weights as text; empty tables where a page should not wait for them."""

    blends: pd.DataFrame
    shares: pd.DataFrame
    sentences: tuple[str, ...]


def show_blends(members: Members, runs: Sequence[str]) -> BlendsShown | None:
    """What is to be shown of members whose spec ids are `runs`; None for a single one.

    With very many recordings, only the command that finds it out.
    """
    ranking = None
    n, rows, classes = members.probs.shape
    if n < 2:
        return None
    if n * n * rows * classes <= MOST_WORK:
        ranking = compare_blends(members)
    if ranking is None:
        command = shlex.join(["birdlab", "ensemble", *runs, "--fit"])
        told = f"Fitting weights on so many recordings takes longer than a page should: {command}"
        return BlendsShown(pd.DataFrame(), pd.DataFrame(), (told,))
    fitted = fit_shares(members, Blend())
    return BlendsShown(_blends_words(ranking), shares_words(fitted), fitted.sentences)


def _blends_words(ranking: Ranking) -> pd.DataFrame:
    table = ranking.table.sort_values("mean", ascending=False, kind="stable")
    ends = zip(table["low"], table["high"], strict=True)
    return pd.DataFrame(
        {
            "blend": table["arm"],
            "score": number_words(table["mean"]),
            "to the mean": [
                "" if arm == ranking.base else f"{delta:+.4f}"
                for arm, delta in zip(table["arm"], table["delta"], strict=True)
            ],
            "expected": number_words(table["expected"], "+"),
            "interval": ["" if a != a else f"{a:+.4f} to {b:+.4f}" for a, b in ends],
            "verdict": ["" if said == "base" else said for said in table["verdict"]],
        }
    ).reset_index(drop=True)
