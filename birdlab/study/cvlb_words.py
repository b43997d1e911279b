"""What a study of CV against the leaderboard says in words, made from its intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from birdlab.study.cvlb_bands import MIN_RUNS, Band
from birdlab.study.cvlb_best import BestRun
from birdlab.study.cvlb_correlations import Correlation
from birdlab.study.cvlb_order import CLAIMED_GAPS, RIGHT_SHARE, Resolution
from birdlab.study.cvlb_resamples import MIN_LINEAGES
from birdlab.study.cvlb_shake import Shake
from birdlab.words import count_words

SAFE = 0.7
NO_GAP = 0.00005
ONE_RUN = 0.25
"""From this part of the pairs on, a sentence says that one run is in them."""
TOP_WORDS = {
    "ranked": "its top included",
    "not ranked": "and not its top",
    "open": "and of its top nothing can be said",
}


def word_refusal(n: int, value: float, metric: str) -> str:
    """Why there is no verdict over `n` runs; empty where there is one."""
    if n < MIN_RUNS:
        have = f"{count_words(n, 'run')} {'has' if n == 1 else 'have'}"
        return (
            f"No verdict: {have} both a CV and a leaderboard score ({metric}); "
            f"under {MIN_RUNS} nearly any correlation could be chance."
        )
    if np.isnan(value):
        return f"No verdict: over {n} runs one of the two scores ({metric}) never changes."
    return ""


def word_answer(rho: Correlation, top: Band | None) -> str:
    """The answer in one sentence: does CV rank the field, and does it rank the top of it."""
    low, high = rho.ends
    if np.isnan(low):
        return "CV and leaderboard put the runs in " + (
            "the same order." if rho.value > 0 else "exactly the opposite order."
        )
    if high < 0:
        return "CV ranks the runs the wrong way round."
    if low <= 0:
        return "CV cannot be told from no ranking at all."
    field = "CV ranks the field well" if low >= SAFE else "CV ranks the field"
    if top is None:
        return f"{field}; its top has too few runs to say more."
    return f"{field}, {TOP_WORDS[judge_top(top)]}."


def judge_top(top: Band) -> str:
    """Is the top "ranked", "not ranked", or is it "open"?

    Ranked: the whole interval is above 0. Not ranked: it is not, Spearman is lower than the cut
    alone would leave, and what the cut would leave on average lies above the interval. Open: it is
    neither, so the cut may explain it.
    """
    low, high = top.ends
    if top.spearman == 1 or low > 0:
        return "ranked"
    lower = top.spearman < top.alone_low and not high >= top.alone
    return "not ranked" if lower else "open"


def word_field(rho: Correlation, metric: str) -> str:
    """The overall correlation with its interval, and how many lineages it rests on."""
    found = f"Over {rho.n} runs ({metric}) Spearman is {_spread(rho.value, *rho.ends)}"
    if rho.n_lineages >= rho.n:
        return found + "."
    if np.isnan(rho.cluster_low):
        few = f"They descend from {count_words(rho.n_lineages, 'lineage')}"
        if rho.n_lineages >= MIN_LINEAGES:
            return f"{found}. {few}."
        return f"{found}. {few}, too few to see how much wider it should be."
    return f"{found}, counting their {rho.n_lineages} lineages."


def word_top(top: Band | None, within: Sequence[Band]) -> str:
    """The top band by CV beside what the cut alone would leave, and the tops within splits."""
    if top is None:
        return f"A top quarter or half of {MIN_RUNS} runs is needed to look at the top alone."
    if np.isnan(top.spearman):
        return f"In the {top.part} by CV ({top.n} runs) one of the two scores never changes."
    said = (
        f"In the {top.part} by CV ({top.n} runs) it is {_spread(top.spearman, *top.ends)}, "
        f"where the cut alone would leave "
        f"{_spread(top.alone, top.alone_low, top.alone_high)}."
    )
    inside = [
        f"{band.spearman:+.2f} over {band.n} runs ({band.ends[0]:+.2f} to {band.ends[1]:+.2f})"
        for band in within
        if not np.isnan(band.low)
    ]
    if inside:
        said += f" In the {within[0].part} of a split it is {', '.join(inside)}."
    return said


def word_resolution(found: Resolution) -> str:
    """The CV gap that orders pairs, with its interval."""
    percent = f"{100 * RIGHT_SHARE:.0f} %"
    if np.isnan(found.gap):
        return f"No CV gap orders the leaderboard rightly in {percent} of the pairs."
    if found.gap < NO_GAP:
        return f"Any two runs are in the right order in {100 * found.share:.0f} % of the cases."
    said = (
        f"From a CV gap of {found.gap:.4f} on, {percent} of the pairs or more are in the right "
        "order on the leaderboard"
    )
    if np.isnan(found.low):
        return f"{said}."
    if np.isinf(found.low):
        return f"{said}; of resampled runs hardly any has such a gap."
    high = "no such gap at all" if np.isinf(found.high) else f"{found.high:.4f}"
    return f"{said} (95 % {found.low:.4f} to {high})."


def word_claim(shares: pd.DataFrame) -> str:
    """Pairs within one split whose CV differs by .01 or more: the claim of 2023, tested."""
    scope = "within split" if (shares["scope"] == "within split").any() else "all pairs"
    at = shares[(shares["scope"] == scope) & (shares["gap"] == CLAIMED_GAPS[-1])].iloc[0]
    where = "within a split" if scope == "within split" else "of runs"
    if not at["n_pairs"]:
        return f"No pair {where} has a CV gap of {CLAIMED_GAPS[-1]} or more."
    if at["n_pairs"] == 1:
        order = "the same order" if at["share"] else "the other order"
        return (
            f"The only pair {where} with a CV gap of {CLAIMED_GAPS[-1]} or more has {order} on "
            "the leaderboard."
        )
    said = (
        f"Of the {at['n_pairs']} pairs {where} with a CV gap of {CLAIMED_GAPS[-1]} or more the "
        f"leaderboard orders {100 * at['share']:.0f} % alike"
    )
    if not np.isnan(at["low"]):
        said += f" (95 % {100 * at['low']:.0f} to {100 * at['high']:.0f} %)"
    if at["one_run"] >= ONE_RUN:
        said += f"; one run is in {100 * at['one_run']:.0f} % of them"
    return f"{said}."


def word_best(best: BestRun) -> str:
    """How surely the CV-best is the leaderboard-best; empty where folds are unknown."""
    if np.isnan(best.probability):
        return ""
    return (
        f"The CV-best of these {best.n} runs is the leaderboard-best in "
        f"{_percent(best.probability)} of resampled folds (a blind draw: "
        f"{_percent(best.chance)}); on average it stays {best.shortfall:.3f} below."
        + "".join(f" Left out: {said}" for said in best.left_out)
    )


def word_shake(shake: Shake | None, n_submissions: int | None) -> tuple[str, ...]:
    """Public against private, the regret of each way of choosing, and how much was looked at.

    Without private scores only the last, if the number of submissions is known.
    """
    if shake is None:
        return () if n_submissions is None else (f"{_word_spent(n_submissions)}.",)
    first = (
        f"Over {shake.n} runs with both scores, private is {shake.change:+.4f} against public "
        f"(95 % {shake.change_low:+.4f} to {shake.change_high:+.4f})"
    )
    if shake.n >= MIN_RUNS and not np.isnan(shake.spearman.value):
        first += f", and ranks them alike with Spearman {shake.spearman.value:+.2f}"
    told = [f"{row.choice} {row.regret:.4f}" for row in shake.regrets.itertuples()]
    spent = _word_spent(shake.n_submissions)
    if shake.n_records is not None:
        runs = "1 run was" if shake.n_records == 1 else f"{shake.n_records} runs were"
        spent += f"; {runs} a new public best on the day"
    return (f"{first}.", f"Behind the best private score stay: {', '.join(told)}. {spent}.")


def _word_spent(n_submissions: int) -> str:
    return f"{count_words(n_submissions, 'submission')} had a public score to choose by"


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _spread(value: float, low: float, high: float) -> str:
    return f"{value:+.2f}" if np.isnan(low) else f"{value:+.2f} (95 % {low:+.2f} to {high:+.2f})"
