"""What all sweeps say of each idea: its verdicts, their mean over bases, how much bases differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from birdlab.errors import ResolveError
from birdlab.study.idea_bases import join_bases, mark_verdicts
from birdlab.study.idea_words import idea_sentence, ledger_sentences
from birdlab.study.meta_analysis import RandomEffects, random_effects, settle_errors
from birdlab.words import cut_text

By = Literal["idea", "family"]
Says = Literal["helps", "hurts", "no difference that matters", "not enough evidence"]
MIN_BASES = 2
LONG_TITLE = 80
"""Characters of a title in the list of candidates."""

IDEA_COLUMNS = (
    *("idea", "title", "family", "metric", "says", "n_verdicts", "n_counted", "n_bases", "n_data"),
    *("n_competitions", "better", "worse", "mean", "se", "low", "high", "tau", "tau_low"),
    *("tau_high", "i2", "q", "p", "predict_low", "predict_high", "mean_share", "note", "newest"),
)
"""Those of IdeaLedger.ideas, in order."""
TURNED = {"better": "worse", "worse": "better"}
"""What a verdict is in the other direction; the others stay."""


@dataclass(frozen=True, eq=False)
class IdeaLedger:
    """All ideas of a lab.

    verdicts: the effects as `load_effects` gives them, with `gain` (in the idea's own direction)
    and `left_out` (why a verdict does not count, "" else). ideas: a row per idea with IDEA_COLUMNS,
    those on most bases first: mean to predict_high are of `random_effects` over bases, NaN where
    fewer than two were tried (mean and se from one on); better, worse: verdicts by their own sweep,
    in the idea's direction; mean_share: the mean of effects as shares of the range above the
    floor. by: what an idea is here; sentences: the ledger in words.
    """

    verdicts: pd.DataFrame
    ideas: pd.DataFrame
    by: By
    sentences: tuple[str, ...]

    def of(self, idea: str) -> pd.DataFrame:
        """The verdicts on one idea, the oldest first."""
        return self.verdicts[self.verdicts[self.by] == idea]

    def bases(self, idea: str) -> pd.DataFrame:
        """A row per base of one idea, from the verdicts that count; see `join_bases`."""
        own = self.of(idea)
        return join_bases(own[own["left_out"] == ""])


def build_ideas(effects: pd.DataFrame, *, by: By = "idea") -> IdeaLedger:
    """The ledger of effects (`load_effects`) by idea, or by family: alike fields, any values.

    See `mark_verdicts` for what is left out and `join_bases` for verdicts that share a base.
    """
    verdicts = mark_verdicts(effects, by)
    rows = [
        _describe(str(name), own, by)
        for name, own in verdicts[verdicts["sign"] != 0].groupby(by, sort=False)
    ]
    ideas = pd.DataFrame(rows, columns=list(IDEA_COLUMNS))
    order = ["n_bases", "n_verdicts", "newest"]
    ideas = ideas.sort_values(order, ascending=False, kind="stable").reset_index(drop=True)
    said = ledger_sentences(ideas, verdicts, effects.attrs.get("left_out", {}))
    return IdeaLedger(verdicts, ideas, by, said)


def find_idea(ledger: IdeaLedger, text: str) -> dict[str, Any]:
    """The one idea whose name starts with `text`, or whose title or family has it in it.

    Raises ResolveError that lists the candidates for none or several.
    """
    ideas = ledger.ideas
    lowered = text.lower()
    found = ideas[ideas["title"].str.lower() == lowered]
    if found.empty:
        found = ideas[ideas["idea"].str.lower().str.startswith(lowered)]
    if found.empty:
        inside = ideas["title"].str.lower().str.contains(lowered, regex=False)
        found = ideas[inside | ideas["family"].str.lower().str.contains(lowered, regex=False)]
    if len(found) == 1:
        return dict(found.iloc[0])
    shown = (found if len(found) else ideas).head(20)
    lines = "".join(
        f"\n    {row.idea}  {cut_text(row.title, LONG_TITLE)}" for row in shown.itertuples()
    )
    raise ResolveError(
        f"{text!r} names {len(found) or 'no'} idea{'s' if len(found) else ''}",
        expected=f"one of{lines}" if lines else "an idea that a sweep has tried",
        fix="give more of its name; `birdlab ideas` lists all",
    )


def over_data(bases: pd.DataFrame) -> RandomEffects | None:
    """One effect per data set, the mean of its bases, as random effects; None for one data set."""
    parts = [summarise_bases(own) for _, own in bases.groupby("data", sort=False)]
    if len(parts) < MIN_BASES:
        return None
    return random_effects([part.mean for part in parts], [part.se for part in parts])


def summarise_bases(bases: pd.DataFrame, room: Any = 1.0) -> RandomEffects:
    """`random_effects` of bases (`join_bases`), each divided by its `room`."""
    ses = settle_errors(bases["se"].to_numpy(dtype=float), bases["df"].to_numpy(dtype=float))
    return random_effects(bases["gain"].to_numpy(dtype=float) / room, ses / room)


def _describe(name: str, own: pd.DataFrame, by: By) -> dict[str, Any]:
    """The row of an idea."""
    counted = own[own["left_out"] == ""]
    bases = join_bases(counted)
    directed = own["verdict"].where(own["sign"] > 0, own["verdict"].map(TURNED))
    row: dict[str, Any] = dict.fromkeys(IDEA_COLUMNS, float("nan"))
    row |= {
        "idea": name,
        "title": own["idea_title"].iloc[-1] if by == "idea" else name,
        "family": own["family"].iloc[-1],
        "metric": own["metric"].iloc[-1],
        "n_verdicts": len(own),
        "n_counted": len(counted),
        "n_bases": len(bases),
        "n_data": bases["data"].nunique(),
        "n_competitions": bases["competition"].nunique(),
        "better": int((directed == "better").sum()),
        "worse": int((directed == "worse").sum()),
        "newest": own["decided_at"].max(),
    }
    if len(bases):
        found = summarise_bases(bases)
        names = ("mean", "se", "low", "high", "tau", "tau_low", "tau_high", "i2", "q", "p")
        row |= {key: getattr(found, key) for key in (*names, "predict_low", "predict_high")}
        row |= _in_shares(bases)
    row["says"] = _says(row, float(own["smallest_effect"].min()))
    row["note"] = idea_sentence(row, own)
    return row


def _in_shares(bases: pd.DataFrame) -> dict[str, float]:
    """The mean effect as a share of the range above the floor, where floors are known."""
    room = 1 - bases["floor"].to_numpy(dtype=float)
    if np.isnan(room).any() or (room <= 0).any():
        return {}
    return {"mean_share": summarise_bases(bases, room).mean}


def _says(row: dict[str, Any], smallest: float) -> Says:
    if row["n_bases"] < MIN_BASES:
        return "not enough evidence"
    if row["low"] > 0:
        return "helps"
    if row["high"] < 0:
        return "hurts"
    if -smallest < row["low"] and row["high"] < smallest:
        return "no difference that matters"
    return "not enough evidence"
