"""Bets against outcomes, as a part of the page of ideas."""

from __future__ import annotations

import pandas as pd
from dash import html

from birdlab.study.bets import BetScores
from birdlab.study.lab_bets import load_bets
from dashboards.parts import Part, table_part
from dashboards.source import LabSource

TITLE = "Bets"
SHOWN = ["sweep", "bet", "outcome", "why", "estimate", "low", "high", "counts", "placed_at"]
NUMBERS = ("estimate", "low", "high")


def bets_part(source: LabSource) -> list[Part]:
    """What was bet on, how it came out, and whether people are as sure as they are right."""
    found = _load(source)
    parts: list[Part] = [html.H2(TITLE), html.Ul([html.Li(said) for said in found.sentences])]
    if len(found.reliability):
        shown = found.reliability.round(2)
        parts.append(table_part(shown, "reliability", title="how often bets come true"))
    claims = found.table[found.table["outcome"] != "words"]
    if len(claims):
        parts.append(table_part(_as_shown(claims), "bets", data=claims))
    return parts


def _load(source: LabSource) -> BetScores:
    """The bets of the lab, kept until a sweep, a run or a bet is written."""
    folder = source.lab.stores / "bets"
    placed = [(p.name, p.stat().st_mtime_ns) for p in sorted(folder.glob("*.jsonl"))]
    ended = {name: record.get("updated_at") for name, record in source.sweeps().items()}
    state = (placed, ended, source.state())
    return source.keep("bets", "", state, lambda: load_bets(source.lab))


def _as_shown(claims: pd.DataFrame) -> pd.DataFrame:
    shown = claims[SHOWN].copy()
    for name in NUMBERS:
        shown[name] = ["" if v != v else f"{v:+.4f}" for v in claims[name].astype(float)]
    return shown.rename(columns={"placed_at": "placed", "estimate": "difference"})
