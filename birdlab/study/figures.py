"""Figures of a study: `get_..._info` returns plain data, `plot_...` draws it.

Names of runs and species are text: they are escaped where Plotly would read tags in them.
Backgrounds are transparent, and page.css colours text and grid for dark and light pages. The
palette follows Okabe and Ito, with a blue that shows on dark and light; markers differ in shape
as well.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from birdlab.study.ranking import Ranking

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2E86C9", "#D55E00", "#009E73", "#CC79A7", "#888888"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00")
"""For things that are told apart and mean nothing by their colour."""
VERDICT_STYLE = {
    "better": (GREEN, "triangle-up"),
    "worse": (ORANGE, "triangle-down"),
    "within noise": (BLUE, "circle"),
    "undecided": (PURPLE, "diamond"),
    "no verdict": (GREY, "x"),
    "base": (GREY, "square"),
}

RANKING_LEGEND = (
    "Bars: 95 % intervals. Band: differences too small to matter. Dotted: two equal recipes differ "
    "by less than this in about 95 % of such studies. Open circles: what a difference is worth."
)
"""What `plot_ranking` draws."""


@dataclass(frozen=True)
class RankingInfo:
    """A line per arm, best last (so that it is drawn on top): difference, interval, verdict.

    `expected`: what each difference is worth, NaN where that is not known; empty: of none.
    `noise`: what the differences of equal arms stay below in about 95 % of such studies, NaN where
    that is not known.
    """

    arms: list[str]
    deltas: list[float]
    low: list[float]
    high: list[float]
    verdicts: list[str]
    base: str
    smallest_effect: float
    noise: float = float("nan")
    expected: list[float] = field(default_factory=list)


def get_ranking_info(ranking: Ranking, *, smallest_effect: float = 0.005) -> RankingInfo:
    """The lines of a forest plot; an arm that shares no cell with the base is left out."""
    table = ranking.table[ranking.table["delta"].notna()].iloc[::-1]
    return RankingInfo(
        arms=list(table["arm"]),
        deltas=list(table["delta"]),
        low=list(table["low"]),
        high=list(table["high"]),
        verdicts=list(table["verdict"]),
        base=ranking.base,
        smallest_effect=smallest_effect,
        noise=_noise_width(ranking),
        expected=list(table["expected"]),
    )


def _noise_width(ranking: Ranking) -> float:
    """Two standard errors of a difference over the folds of the base."""
    folds = ranking.table.loc[ranking.table["verdict"] == "base", "n_folds"].iloc[0]
    return float(2 * ranking.residual_sd * np.sqrt(2 / folds))


def plot_ranking(info: RankingInfo) -> go.Figure:
    """Differences to the base with their intervals; the band is the smallest effect of interest."""
    figure = go.Figure()
    effect = info.smallest_effect
    figure.add_vrect(-effect, effect, fillcolor=GREY, opacity=0.15, line_width=0)
    figure.add_vline(0, line={"color": GREY, "width": 1})
    for side in (-info.noise, info.noise) if np.isfinite(info.noise) else ():
        figure.add_vline(side, line={"color": GREY, "width": 1, "dash": "dot"})
    labels = label_rows(info.arms)
    for verdict, (colour, symbol) in VERDICT_STYLE.items():
        chosen = [i for i, v in enumerate(info.verdicts) if v == verdict]
        if not chosen:
            continue
        delta, low, high = (
            np.array([values[i] for i in chosen]) for values in (info.deltas, info.low, info.high)
        )
        figure.add_scatter(
            x=delta.tolist(),
            y=[labels[i] for i in chosen],
            mode="markers",
            name=verdict,
            text=escape_all([info.arms[i] for i in chosen]),
            customdata=[info.arms[i] for i in chosen],
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - delta).tolist(),
                "arrayminus": np.nan_to_num(delta - low).tolist(),
                "color": colour,
                "thickness": 1.5,
            },
            hovertemplate="%{text}<br>%{x:+.4f}<extra></extra>",
        )
    known = [i for i, worth in enumerate(info.expected) if np.isfinite(worth)]
    if known:
        figure.add_scatter(
            x=[info.expected[i] for i in known],
            y=[labels[i] for i in known],
            mode="markers",
            name="expected",
            text=escape_all([info.arms[i] for i in known]),
            customdata=[info.arms[i] for i in known],
            marker={"color": GREY, "symbol": "circle-open", "size": 8},
            hovertemplate="%{text}<br>expected %{x:+.4f}<extra></extra>",
        )
    figure.update_xaxes(title="difference to the base")
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    return finish_figure(figure, height=150 + 32 * len(info.arms))


def escape_all(names: list[str]) -> list[str]:
    """The names as Plotly shows them: tags in them are text."""
    return [html.escape(name, quote=False) for name in names]


def _shorten(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def label_rows(names: list[str]) -> list[str]:
    """Escaped names that fit beside a plot and still differ: zero-width spaces keep twins apart."""
    labels: list[str] = []
    for name in names:
        label = html.escape(_shorten(name), quote=False)
        while label in labels:
            label += "\u200b"
        labels.append(label)
    return labels


def label_above(figure: go.Figure) -> go.Figure:
    """The figure with the name of each row above it, not beside it: so it fits a narrow page.

    Its rows are the categories of its y axis, in `categoryarray`.
    """
    labels = figure.layout.yaxis.categoryarray
    for label in labels:
        figure.add_annotation(
            x=0,
            xref="paper",
            y=label,
            text=label,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            yshift=6,
        )
    figure.update_yaxes(showticklabels=False, range=[-0.5, len(labels) - 0.25])
    figure.update_layout(height=figure.layout.height + 12 * len(labels))
    return figure


def finish_figure(figure: go.Figure, height: int) -> go.Figure:
    """The figure on a transparent ground, its grid and font fit for dark and light pages."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": GREY},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hoverlabel={"namelength": -1},
        template="none",
    )
    grid = {"gridcolor": "rgba(128,128,128,.25)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    return figure
