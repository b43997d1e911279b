"""Bets against outcomes: which claims came true, and whether people were as sure as they are right.

What is judged was placed before its result was there. A bet that the evidence leaves open has no
outcome, and still counts in the calibration for what its evidence is worth (`calibration`).
Source: Brier (1950), Monthly Weather Review 78, for the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from birdlab.errors import SpecError
from birdlab.spec.bets import BetSpec, Claim, build_claim
from birdlab.study.bet_claims import Decision, decide_claim
from birdlab.study.bet_evidence import weigh_claims
from birdlab.study.calibration import Calibration, bin_by_sureness, calibrate
from birdlab.words import count_words

MIN_DECIDED = 10
"""From fewer decided bets nobody's sureness is judged."""
COLUMNS = (
    *("sweep", "bet", "sure", "outcome", "counts", "why", "estimate", "low", "high"),
    *("placed_at", "margin", "error"),
)
EVERYTHING = "*"
"""As a known arm: all results of the sweep were there."""
OUTCOMES = {"true": "came true", "false": "did not come true", "open": "open"}
"""In words."""


@dataclass(frozen=True)
class PlacedBet:
    """A bet as it stood in the file when the sweep was started.

    placed_at: ISO time, "" where nobody noted it; known: the arms that had a score in the lab by
    then; again: whether the same was claimed before, surer or less sure.
    """

    bet: BetSpec
    placed_at: str = ""
    known: frozenset[str] = frozenset()
    again: bool = False


@dataclass(frozen=True, eq=False)
class BetEvidence:
    """What a sweep found, as far as bets are judged by it.

    scores: arm, fold, seed, score, with those of arms that the race `stopped`; points: what each
    arm takes of each entry; control: the arm that others are compared with, None for the best.
    """

    scores: pd.DataFrame
    points: Mapping[str, Mapping[str, object]]
    control: str | None = None
    stopped: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class BetScores:
    """All bets with their outcomes, and what is said of whoever bets.

    `table` has a row per bet: sweep, bet (in words), sure, outcome (true, false, open, words),
    counts ("yes", else why it has no score), why (it is open), estimate, low, high (of one
    difference, 90 %), placed_at, margin and error (by how much the claim holds as the cells see it,
    and how well). `brier` is over decided bets that count, `brier_base` what their share of true
    ones gives each time; NaN and None without enough evidence. `reliability`: by sureness.
    """

    table: pd.DataFrame
    sentences: tuple[str, ...]
    brier: float = float("nan")
    brier_base: float = float("nan")
    calibration: Calibration | None = None
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)


def score_bets(
    bets: Mapping[str, Sequence[PlacedBet]],
    evidence: Mapping[str, BetEvidence],
) -> BetScores:
    """The bets of sweeps by name, judged by their evidence; one without any is open."""
    tables = [judge_bets(name, placed, evidence.get(name)) for name, placed in bets.items()]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    return score_table(table)


def score_table(table: pd.DataFrame) -> BetScores:
    """What a table of judged bets, with COLUMNS, says."""
    counted = table[table["counts"] == "yes"]
    decided = counted[counted["outcome"] != "open"]
    said = _count_sentences(table)
    if (table["outcome"] == "words").all():
        return BetScores(table, said)
    if len(decided) < MIN_DECIDED:
        return BetScores(table, (*said, _too_few(len(decided))))
    came = (decided["outcome"] == "true").to_numpy(float)
    brier = float(np.mean((decided["sure"].to_numpy(float) - came) ** 2))
    base = float(came.mean() * (1 - came.mean()))
    told = counted[np.isfinite(counted["margin"].astype(float)) & (counted["sure"] != 0.5)]
    columns = [told[name].to_numpy(float) for name in ("sure", "margin", "error")]
    if told.empty:
        return BetScores(table, (*said, "All bets are at .5: nothing to calibrate."), brier, base)
    found = calibrate(*columns)
    said = (*said, _calibration_sentence(found), _brier_sentence(len(decided), brier, base))
    return BetScores(table, said, brier, base, found, bin_by_sureness(*columns))


def judge_bets(
    sweep: str,
    placed: Sequence[PlacedBet],
    evidence: BetEvidence | None,
) -> pd.DataFrame:
    """A row per bet of one sweep, with COLUMNS."""
    scores = pd.DataFrame(columns=["arm", "fold", "seed", "score"])
    scores = scores if evidence is None else evidence.scores
    cells = scores.pivot(index="arm", columns=["fold", "seed"], values="score").sort_index(axis=1)
    claims, decisions = [], []
    for one in placed:
        claim, decision = _judge(one.bet, cells, evidence)
        claims.append(claim)
        decisions.append(decision)
    weights = [(float("nan"), float("nan"))] * len(placed)
    meant = [n for n, claim in enumerate(claims) if claim is not None]
    if meant and len(cells) > 1 and evidence is not None:
        wanted = [claim for claim in claims if claim is not None]
        found = weigh_claims(wanted, cells, control=evidence.control)
        for n, weight in zip(meant, found, strict=True):
            weights[n] = weight
    rows = [
        {
            "sweep": sweep,
            "bet": one.bet.words,
            "sure": float("nan") if one.bet.sure is None else one.bet.sure,
            "outcome": d.outcome if one.bet.kind else "words",
            "counts": _counts(one, claim),
            "why": d.why,
            "estimate": d.estimate,
            "low": d.low,
            "high": d.high,
            "placed_at": one.placed_at,
            "margin": weight[0],
            "error": weight[1],
        }
        for one, claim, d, weight in zip(placed, claims, decisions, weights, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _judge(
    bet: BetSpec, cells: pd.DataFrame, evidence: BetEvidence | None
) -> tuple[Claim | None, Decision]:
    if bet.kind is None:
        return None, Decision("open", "")
    if evidence is None:
        return None, Decision("open", "the sweep has not ended")
    try:
        claim = build_claim(bet, evidence.points, evidence.control)
    except SpecError as error:
        return None, Decision("open", f"{error.what}: {error.got}")
    assert claim is not None
    return claim, decide_claim(claim, cells, control=evidence.control, stopped=evidence.stopped)


def _counts(placed: PlacedBet, claim: Claim | None) -> str:
    """`yes` for a bet that is scored, else why it is not."""
    if placed.bet.kind is None:
        return "words alone"
    if placed.bet.sure is None:
        return "not said how sure"
    if placed.again:
        return "changed after the start"
    if not placed.placed_at:
        return "not noted before the start"
    titles = set() if claim is None else set(claim.titles)
    if EVERYTHING in placed.known or (titles and titles <= placed.known):
        return "placed after the result"
    return "yes"


def outcome_sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """How each bet of a sweep went, a sentence per bet; none for words alone."""
    said = []
    for row in table[table["outcome"] != "words"].to_dict("records"):
        seen = f", seen {row['estimate']:+.4f}" if row["estimate"] == row["estimate"] else ""
        why = f" ({row['why']}{seen})" if row["why"] else f" ({seen[2:]})" if seen else ""
        late = "" if row["counts"] in ("yes", "not said how sure") else f"; {row['counts']}"
        said.append(f"{OUTCOMES[row['outcome']]}: {row['bet']}{why}{late}.")
    return tuple(said)


def _count_sentences(table: pd.DataFrame) -> tuple[str, ...]:
    claims = table[table["outcome"] != "words"]
    if claims.empty:
        return ("Nobody has bet on anything that an outcome decides.",)
    n = {name: int((claims["outcome"] == name).sum()) for name in ("true", "false", "open")}
    bets, sweeps = count_words(len(claims), "bet"), count_words(claims["sweep"].nunique(), "sweep")
    said = [
        f"{bets} on {sweeps}: {n['true']} came true, {n['false']} did not, {n['open']} open "
        "(not enough evidence)."
    ]
    uncounted = claims[claims["counts"] != "yes"]["counts"].value_counts()
    if len(uncounted):
        parts = ", ".join(f"{count} {why}" for why, count in uncounted.items())
        said.append(f"Without a score: {parts}.")
    return tuple(said)


def _too_few(n_decided: int) -> str:
    return (
        f"Not enough evidence of how sure to be: {count_words(n_decided, 'bet')} with `sure` "
        f"decided, and {MIN_DECIDED} are needed."
    )


def _calibration_sentence(found: Calibration) -> str:
    tail = {
        "overconfident": "overconfident",
        "underconfident": "underconfident",
        "as sure as right": "no difference is shown",
    }[found.verdict]
    return (
        f"Sure of {found.sure:.2f} on average; such bets come true in {found.right:.2f} of cases "
        f"({found.low:.2f} to {found.high:.2f}, by {count_words(found.n, 'bet')}, open ones for "
        f"what they are worth): {tail}."
    )


def _brier_sentence(n: int, brier: float, base: float) -> str:
    return (
        f"Brier score of the {n} decided bets {brier:.3f} (0 is best); saying their share of true "
        f"ones each time gives {base:.3f}."
    )
