"""How much it may be worth to try an idea again on today's base, given how far bases differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from birdlab.study.ideas import TURNED, IdeaLedger
from birdlab.study.meta_analysis import between_variance, settle_errors
from birdlab.study.prospects import MIN_IDEAS, Floats, Spread, fit_spread, foresee
from birdlab.words import count_words

MIN_DF = 4
"""So many differences between bases make an estimate of their spread for one idea or family."""

REOPEN_COLUMNS = (
    *("idea", "title", "try", "worth", "chance", "expected", "sd", "tau", "tau_of", "observed"),
    *("observed_se", "n_bases", "last_verdict", "n_changed", "changed_since", "cells", "hours"),
    *("worth_per_hour", "command"),
)
Bases = Mapping[str, pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Reopening:
    """Ideas that today's base has not taken, the one most worth a new try first.

    table: REOPEN_COLUMNS. worth: E[max(0, effect on today's base)]; chance: P(effect > 0);
    expected, sd: the effect as it is expected; observed: what was seen in the direction of `try`
    (`add` or `take back`), on today's base where it was tried there, else the mean over bases;
    tau_of: whose spread it is (`idea`, `family`, `lab`; "" on a base that did not change, where
    none is needed); cells, hours: what its newest verdict took. Where the spreads are not known
    worth to tau are NaN. sentences: in words.
    """

    table: pd.DataFrame
    spread: Spread | None
    sentences: tuple[str, ...]


def rank_reopening(
    ledger: IdeaLedger,
    compared: pd.DataFrame,
    *,
    commands: Mapping[str, str] | None = None,
) -> Reopening:
    """The ideas that today's base has not taken, ranked by what a new try is worth.

    compared: every verdict beside today's base (`stale.hold_against`). An idea that the base is
    without can be added, one that it has can be taken back; one of which it holds another value is
    left out, and counted. commands: what re-runs a sweep, by its name.
    """
    bases = {idea: ledger.bases(idea) for idea in ledger.ideas["idea"]}
    known = {idea: own for idea, own in bases.items() if len(own)}
    spread = fit_spread(*_arrays(known)) if known else None
    families = _fit_families(ledger, known)
    rows, elsewhere, here = [], 0, 0
    for idea in ledger.ideas.to_dict("records"):
        own = compared[compared.index.isin(ledger.of(idea["idea"]).index)]
        if idea["idea"] not in known or own.empty:
            continue
        newest = _closest(own, ledger)
        if newest["today"] == "another value":
            elsewhere += 1
            continue
        here += bool(newest["here"])
        family = families.get(idea["family"])
        rows.append(_row(ledger, idea, newest, known[idea["idea"]], spread, family))
        rows[-1]["command"] = (commands or {}).get(newest["sweep"], "")
    table = pd.DataFrame(rows, columns=list(REOPEN_COLUMNS))
    table = table.sort_values(["worth", "observed"], ascending=False, kind="stable")
    return Reopening(
        table.reset_index(drop=True), spread, _say(table, spread, known, elsewhere, here)
    )


def _closest(compared: pd.DataFrame, ledger: IdeaLedger) -> pd.Series:
    """Of the verdicts on an idea the newest on today's very base, else the newest of all."""
    counts = ledger.verdicts.loc[compared.index, "left_out"] == ""
    here = counts & (compared["n_changed"] == 0) & compared["same_data"].astype(bool)
    order = compared.assign(here=here).sort_values(
        ["here", "decided_at", "n_changed"], ascending=[True, True, False], kind="stable"
    )
    return order.iloc[-1]


def _arrays(bases: Bases) -> tuple[list[Floats], list[Floats]]:
    """Gains and settled standard errors of each idea."""
    joined = pd.concat(list(bases.values()), keys=range(len(bases)))
    settled = settle_errors(joined["se"].to_numpy(dtype=float), joined["df"].to_numpy(dtype=float))
    ends = np.cumsum([len(own) for own in bases.values()])[:-1]
    gains = np.split(joined["gain"].to_numpy(dtype=float), ends)
    return gains, np.split(settled, ends)


def _fit_families(ledger: IdeaLedger, known: Bases) -> dict[str, float]:
    """The spread over bases of each family that has enough of them."""
    ideas = ledger.ideas[ledger.ideas["idea"].isin(list(known))]
    found = {
        str(family): fit_tau({idea: known[idea] for idea in own})
        for family, own in ideas.groupby("family")["idea"]
    }
    return {family: tau for family, tau in found.items() if tau is not None}


def fit_tau(bases: Bases) -> float | None:
    """How far these ideas vary over bases; None with fewer than 4 differences between bases."""
    if sum(len(own) - 1 for own in bases.values()) < MIN_DF:
        return None
    return float(np.sqrt(between_variance(*_arrays(bases))))


def _row(
    ledger: IdeaLedger,
    idea: Mapping[str, Any],
    newest: pd.Series,
    bases: pd.DataFrame,
    spread: Spread | None,
    family: float | None,
) -> dict[str, Any]:
    """One idea in the direction that today's base leaves open."""
    turn = 1 if newest["today"] == "without" else -1
    verdict = ledger.verdicts.loc[newest.name]
    row: dict[str, Any] = {name: idea[name] for name in ("title", "n_bases")}
    row |= {"idea": idea["idea"], "try": "add" if turn > 0 else "take back"}
    row |= {"observed": turn * idea["mean"], "observed_se": idea["se"]}
    row |= {name: newest[name] for name in ("n_changed", "changed_since")}
    row |= {"last_verdict": _directed(str(newest["verdict"]), turn * int(verdict["sign"]))}
    row |= {"cells": len(verdict["cells"]), "hours": float(verdict["hours"])}
    if spread is None:
        return row
    same = bool(newest["here"])
    seen = bases[[newest.name in own for own in bases["verdicts"]]] if same else bases
    alone = fit_tau({"": bases})
    tau, whose = next(
        (found, name)
        for found, name in ((alone, "idea"), (family, "family"), (spread.tau, "lab"))
        if found is not None
    )
    gains, ses = (part[0] for part in _arrays({"": seen}))
    if same:
        row |= {"observed": turn * float(gains[0]), "observed_se": float(ses[0])}
    ahead = foresee(turn * gains, ses, spread, tau=None if whose == "lab" else tau, same_base=same)
    row |= {name: getattr(ahead, name) for name in ("worth", "chance", "expected", "sd")}
    row |= {"tau": tau, "tau_of": "" if same else whose}
    row |= {"worth_per_hour": ahead.worth / row["hours"] if row["hours"] > 0 else float("nan")}
    return row


def _directed(verdict: str, direction: int) -> str:
    return verdict if direction > 0 else TURNED.get(verdict, verdict)


def _say(
    table: pd.DataFrame,
    spread: Spread | None,
    known: Mapping[str, Any],
    elsewhere: int,
    here: int,
) -> tuple[str, ...]:
    said = []
    if spread is None:
        said.append(
            "Not enough evidence to rank: it takes 5 ideas with a verdict that counts, one of them "
            f"on two bases; the lab has {count_words(len(known), 'such idea')}"
            + (", none on two bases." if len(known) >= MIN_IDEAS else ".")
        )
    else:
        said.append(
            f"Ideas scatter by an SD of {spread.scatter:.4f} (from {spread.n_ideas}), one over "
            f"bases by {spread.tau:.4f} (from {count_words(spread.df, 'difference')} of bases)."
        )
        if spread.df < MIN_DF:
            said.append("That spread is from few bases: take the order for a hint, no more.")
        if len(table):
            best = table.sort_values("worth", ascending=False).iloc[0]
            said.append(
                f"Most worth a new try: {best['try']} {best['title']}, expected gain "
                f"{best['worth']:.4f}, chance of a gain {100 * best['chance']:.0f} %."
            )
    if here:
        said.append(
            f"{count_words(here, 'idea')} tried on today's base itself: their sweeps find those "
            "cells in the cache, so give them more seeds (`cells`) to learn more."
        )
    if elsewhere:
        said.append(f"{count_words(elsewhere, 'idea')} left out: today's base holds another value.")
    return tuple(said)
