"""Figures of ideas: the verdicts on one with their mean, and the ideas of a lab side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import special

from birdlab.study.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    finish_figure,
    label_above,
    label_rows,
)
from birdlab.study.ideas import IdeaLedger

FOREST_LEGEND = (
    "Bars: 95 % intervals, of a verdict by its own standard error. Grey crosses do not count. "
    "On a new base: where the true effect on another base lies, 95 %."
)
"""What `plot_forest` draws."""
IDEAS_LEGEND = "Thick: 95 % interval of the mean over bases. Thin: the effect on a new base."
"""What `plot_ideas` draws."""
SAYS_STYLE = {
    "helps": (GREEN, "triangle-up"),
    "hurts": (ORANGE, "triangle-down"),
    "no difference that matters": (BLUE, "circle"),
    "not enough evidence": (PURPLE, "diamond"),
}
FOREST_STYLE = {
    "verdict": (BLUE, "circle", "a verdict"),
    "left out": (GREY, "x", "does not count"),
    "mean": (GREEN, "diamond", "the mean"),
    "new base": (PURPLE, "square", "on a new base"),
}


@dataclass(frozen=True)
class ForestInfo:
    """A line per verdict, mean and prediction last: label, effect, 95 % interval, what it is.

    kind: `verdict`, `left out`, `mean` or `new base`; intervals are NaN where nothing is known.
    """

    labels: list[str]
    effects: list[float]
    low: list[float]
    high: list[float]
    kinds: list[str]


def get_forest_info(ledger: IdeaLedger, idea: str) -> ForestInfo:
    """The forest plot of one idea: its verdicts in its own direction, the oldest first."""
    own = ledger.of(idea)
    width = special.stdtrit(own["df"].clip(lower=1).to_numpy(dtype=float), 0.975) * own["se"]
    labels = [f"{row.sweep}: {row.arm} ({row.data}, {row.decided_at})" for row in own.itertuples()]
    kinds = ["left out" if why else "verdict" for why in own["left_out"]]
    effects = own["gain"].tolist()
    low, high = (own["gain"] - width).tolist(), (own["gain"] + width).tolist()
    row = ledger.ideas.set_index("idea").loc[idea]
    if row["n_bases"] > 1:
        labels += ["mean over bases", "on a new base"]
        kinds += ["mean", "new base"]
        effects += [row["mean"], row["mean"]]
        low += [row["low"], row["predict_low"]]
        high += [row["high"], row["predict_high"]]
    return ForestInfo(labels, effects, low, high, kinds)


def plot_forest(info: ForestInfo) -> go.Figure:
    """Effects with their intervals, the oldest verdict on top."""
    labels = label_rows(info.labels)
    figure = go.Figure()
    figure.add_vline(0, line={"color": GREY, "width": 1})
    for kind, (colour, symbol, name) in FOREST_STYLE.items():
        at = [i for i, own in enumerate(info.kinds) if own == kind]
        if at:
            lines = [(labels[i], info.effects[i], info.low[i], info.high[i]) for i in at]
            _add_lines(figure, lines, colour, symbol, name)
    figure.update_xaxes(title="effect of the idea on padded cmAP")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1])
    return label_above(finish_figure(figure, height=130 + 34 * len(labels)))


def plot_ideas(ideas: pd.DataFrame) -> go.Figure:
    """The ideas (IdeaLedger.ideas) that were tried on more than one base, the best mean on top."""
    shown = ideas[ideas["n_bases"] > 1].sort_values("mean", ascending=False, kind="stable")
    labels = label_rows([f"{row.title} ({row.n_bases} bases)" for row in shown.itertuples()])
    figure = go.Figure()
    figure.add_vline(0, line={"color": GREY, "width": 1})
    for says, (colour, symbol) in SAYS_STYLE.items():
        at = np.flatnonzero((shown["says"] == says).to_numpy())
        if not len(at):
            continue
        rows = shown.iloc[at]
        names = [labels[i] for i in at]
        ahead = zip(names, rows["mean"], rows["predict_low"], rows["predict_high"], strict=True)
        _add_lines(figure, list(ahead), colour, symbol, says, thickness=1.0, legend=False)
        mean = zip(names, rows["mean"], rows["low"], rows["high"], strict=True)
        _add_lines(figure, list(mean), colour, symbol, says, thickness=4.0)
    figure.update_xaxes(title="effect on padded cmAP")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1])
    return label_above(finish_figure(figure, height=130 + 34 * len(labels)))


def _add_lines(
    figure: go.Figure,
    lines: list[tuple[str, float, float, float]],
    colour: str,
    symbol: str,
    name: str,
    *,
    thickness: float = 1.5,
    legend: bool = True,
) -> None:
    labels, effects, low, high = (list(column) for column in zip(*lines, strict=True))
    x = np.array(effects, dtype=float)
    figure.add_scatter(
        x=x.tolist(),
        y=labels,
        mode="markers",
        name=name,
        showlegend=legend,
        marker={"color": colour, "symbol": symbol, "size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.nan_to_num(np.array(high) - x).tolist(),
            "arrayminus": np.nan_to_num(x - np.array(low)).tolist(),
            "color": colour,
            "thickness": thickness,
        },
        hovertemplate="%{y}<br>%{x:+.4f}<extra></extra>",
    )
