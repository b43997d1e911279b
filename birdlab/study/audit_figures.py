"""Figures of an audit: leaks, support, recordists. Info functions return data, plots draw it."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

import plotly.graph_objects as go

from birdlab.data.audit.overlaps import AUTHOR_SPECIES, CONTENT, RECORDING_ID, Leaks
from birdlab.data.audit.support import DOMINATED_SHARE, Support
from birdlab.study.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, finish_figure

KEY_STYLE = {
    AUTHOR_SPECIES: (BLUE, "circle"),
    RECORDING_ID: (ORANGE, "diamond"),
    CONTENT: (GREEN, "square"),
}
SUPPORT_STYLE = {
    "in every fold": (BLUE, "circle"),
    "not validated in some fold": (PURPLE, "circle-open"),
    "not trained in some fold": (ORANGE, "x"),
    "as many rows as others, cut?": (GREEN, "diamond"),
}


@dataclass(frozen=True)
class OverlapInfo:
    """A point per source of training rows, key and fold: the share of validation rows shared."""

    sources: list[str]
    keys: list[str]
    folds: list[int]
    shares: list[float]


@dataclass(frozen=True)
class SupportInfo:
    """A point per species with rows, most first: its rows, and its state over the folds."""

    species: list[str]
    n_rows: list[int]
    states: list[str]


@dataclass(frozen=True)
class DominanceInfo:
    """A point per species: its rows, the share of its largest recordist, and who that is."""

    species: list[str]
    n_rows: list[int]
    shares: list[float]
    largest: list[str]
    dominated: list[bool]


def get_overlap_info(leaks: Leaks) -> OverlapInfo:
    """The points of the overlaps; folds without validation rows are left out."""
    table = leaks.overlaps[leaks.overlaps["share"].notna()]
    named = table["source"].where(
        ~table["role"].isin(["extra", "pretrain"]), table["role"] + " " + table["source"]
    )
    return OverlapInfo(
        [str(name) for name in named],
        [str(by) for by in table["by"]],
        [int(fold) for fold in table["fold"]],
        [float(share) for share in table["share"]],
    )


def plot_overlaps(info: OverlapInfo) -> go.Figure:
    """A row per source and key, a point per fold: how much of its validation training knows."""
    figure = go.Figure()
    labels = [f"{html.escape(s)} · {by}" for s, by in zip(info.sources, info.keys, strict=True)]
    for key, (colour, symbol) in KEY_STYLE.items():
        chosen = [i for i, by in enumerate(info.keys) if by == key]
        if chosen:
            figure.add_scatter(
                x=[info.shares[i] for i in chosen],
                y=[labels[i] for i in chosen],
                mode="markers",
                name=key,
                text=[f"fold {info.folds[i]}" for i in chosen],
                marker={"color": colour, "symbol": symbol, "size": 11, "opacity": 0.7},
                hovertemplate="%{text}: %{x:.1%}<extra></extra>",
            )
    rows = list(dict.fromkeys(labels))[::-1]
    figure.update_xaxes(
        title="share of the validation rows of a fold", range=[-0.02, 1.02], tickformat=".0%"
    )
    figure.update_yaxes(
        categoryorder="array", categoryarray=rows, range=[-0.6, len(rows) - 0.4], ticksuffix="  "
    )
    return finish_figure(figure, height=130 + 34 * len(rows))


def get_support_info(support: Support) -> SupportInfo:
    """The species of the table by falling number of rows."""
    table = support.dominance.sort_values("n_rows", ascending=False, kind="stable")
    counts = support.classes
    untrained = set(counts.loc[counts["n_train"] == 0, "species"])
    unvalidated = set(counts.loc[counts["n_validation"] == 0, "species"])
    capped = {(s, cap.n_rows) for cap in support.caps.itertuples() for s in cap.species}
    every, missing, unseen, cut = SUPPORT_STYLE
    states = [
        cut
        if (species, n) in capped
        else unseen
        if species in untrained
        else missing
        if species in unvalidated
        else every
        for species, n in zip(table["species"], table["n_rows"], strict=True)
    ]
    return SupportInfo(
        [str(s) for s in table["species"]], [int(n) for n in table["n_rows"]], states
    )


def plot_support(info: SupportInfo) -> go.Figure:
    """Rows per species in falling order, on a logarithmic axis; names show under the pointer."""
    figure = go.Figure()
    for state, (colour, symbol) in SUPPORT_STYLE.items():
        chosen = [i for i, s in enumerate(info.states) if s == state]
        if chosen:
            figure.add_scatter(
                x=[i + 1 for i in chosen],
                y=[info.n_rows[i] for i in chosen],
                mode="markers",
                name=state,
                text=[html.escape(info.species[i]) for i in chosen],
                marker={"color": colour, "symbol": symbol, "size": 7},
                hovertemplate="%{text}: %{y:,} rows<extra></extra>",
            )
    step = {"dtick": 1} if len(info.species) <= 12 else {}
    figure.update_xaxes(title="species, most rows first", **step)
    figure.update_yaxes(title="rows", **_log_axis(info.n_rows))
    return finish_figure(figure, height=400)


def get_dominance_info(support: Support) -> DominanceInfo:
    """The species whose recordists are known at least in part."""
    table = support.dominance[support.dominance["n_recordists"] > 0]
    return DominanceInfo(
        [str(s) for s in table["species"]],
        [int(n) for n in table["n_rows"]],
        [float(share) for share in table["share"]],
        [str(name) for name in table["largest"]],
        [bool(d) for d in table["dominated"]],
    )


def plot_dominance(info: DominanceInfo) -> go.Figure:
    """The share of the largest recordist over the rows of a species; a line marks the half."""
    figure = go.Figure()
    figure.add_hline(DOMINATED_SHARE, line={"color": GREY, "width": 1, "dash": "dot"})
    for dominated, name, colour in ((False, "other species", BLUE), (True, "dominated", ORANGE)):
        chosen = [i for i, d in enumerate(info.dominated) if d is dominated]
        if chosen:
            figure.add_scatter(
                x=[info.n_rows[i] for i in chosen],
                y=[info.shares[i] for i in chosen],
                mode="markers",
                name=name,
                text=[html.escape(f"{info.species[i]}: {info.largest[i]}") for i in chosen],
                marker={"color": colour, "size": 8, "opacity": 0.7},
                hovertemplate="%{text}<br>%{y:.1%} of %{x:,} rows<extra></extra>",
            )
    figure.update_xaxes(title="rows of the species", **_log_axis(info.n_rows))
    figure.update_yaxes(title="share of its largest recordist", range=[0, 1.03], tickformat=".0%")
    return finish_figure(figure, height=400)


def _log_axis(values: list[int]) -> dict[str, object]:
    """A logarithmic axis from the tick below the smallest value to the one above the largest."""
    ticks = [m * 10**e for e in range(7) for m in (1, 2, 5)]
    low = max((t for t in ticks if t <= min(values, default=1)), default=1)
    high = min((t for t in ticks if t >= max(values, default=1)), default=ticks[-1])
    shown = [t for t in ticks if low <= t <= max(high, 2 * low)]
    ends = [math.log10(shown[0]) - 0.1, math.log10(shown[-1]) + 0.1]
    texts = [f"{t:,}" for t in shown]
    return {"type": "log", "tickvals": shown, "ticktext": texts, "range": ends}
