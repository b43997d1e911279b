"""Figures of a sweep: responses, all settings side by side, the rounds of a race, importances."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from birdlab.study.figures import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    finish_figure,
    label_rows,
)
from birdlab.study.interactions import Interaction
from birdlab.study.race_rounds import Rounds
from birdlab.study.sweeping import Parallel, Response

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
BEST_SHARE, LEAST_BEST = 0.1, 3
"""How many arms stand out among all: this share, and at least so many."""
MOST_ARMS, MOST_TICKS = 40, 8
STATES = {
    "run": (BLUE, "circle", "run"),
    "stopped": (ORANGE, "x", "run, then stopped"),
    "saved": (GREY, "circle-open", "not run"),
}


def plot_response(response: Response, *, metric: str) -> go.Figure:
    """The mean over the setting with its lowest and highest fold; every cell as a small point."""
    figure = go.Figure()
    cells = response.cells
    figure.add_scatter(
        x=cells["x"].tolist(),
        y=cells["score"].tolist(),
        mode="markers",
        name="a fold and seed",
        text=[
            f"{html.escape(str(row['arm']))}<br>fold {row['fold']}, seed {row['seed']}"
            for row in cells.to_dict("records")
        ],
        marker={"color": GREY, "size": 5, "symbol": "circle-open", "opacity": 0.7},
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )
    for i, (line, table) in enumerate(response.table.groupby("line", sort=False)):
        colour = COLOURS[i % len(COLOURS)]
        figure.add_scatter(
            x=table["x"].tolist(),
            y=table["mean"].tolist(),
            mode="lines+markers" if response.is_line else "markers",
            name=html.escape(str(line)) or "mean over folds",
            text=[html.escape(str(arm)) for arm in table["arm"]],
            line={"color": colour, "width": 2},
            marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 9},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (table["high"] - table["mean"]).tolist(),
                "arrayminus": (table["mean"] - table["low"]).tolist(),
                "color": colour,
                "thickness": 1,
                "width": 3,
            },
            hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
        )
    _name_x(figure, response)
    figure.update_yaxes(title=html.escape(metric))
    return finish_figure(figure, height=380)


def _name_x(figure: go.Figure, response: Response) -> None:
    kind = "log" if response.log_x else "linear"
    figure.update_xaxes(title=html.escape(response.setting), type=kind)
    values = sorted(set(response.table["x"]))
    if response.log_x and response.is_line and len(values) <= MOST_TICKS:
        figure.update_xaxes(tickvals=values, ticktext=[f"{v:g}" for v in values])


def plot_parallel(info: Parallel, *, metric: str) -> go.Figure:
    """A line per arm over all settings to its score; the best arms stand out."""
    figure = go.Figure()
    n_best = max(LEAST_BEST, math.ceil(BEST_SHARE * len(info.scores)))
    heights = [_heights(info.places[axis.name]) for axis in info.axes]
    heights.append(_heights(info.scores))
    arms = list(info.scores.index)
    groups = {"other arms": arms[:-n_best], f"the best {n_best}": arms[-n_best:]}
    for (name, members), colour in zip(groups.items(), (GREY, ORANGE), strict=True):
        xs: list[float | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        for arm in members:
            xs += [*map(float, range(len(heights))), None]
            ys += [_or_none(height[arm]) for height in heights] + [None]
            said = f"{html.escape(str(arm))}<br>{info.scores[arm]:.4f}"
            texts += [said] * (len(heights) + 1)
        if members:
            figure.add_scatter(
                x=xs,
                y=ys,
                text=texts,
                mode="lines+markers",
                name=name,
                line={"color": colour, "width": 1 if colour == GREY else 2},
                marker={"color": colour, "size": 5},
                opacity=0.45 if colour == GREY else 0.9,
                hovertemplate="%{text}<extra></extra>",
            )
    names = [*_last_parts([axis.name for axis in info.axes]), html.escape(metric)]
    for i in range(len(names)):
        figure.add_vline(i, line={"color": GREY, "width": 1})
        for height, label in _axis_labels(info, i):
            figure.add_annotation(
                x=i, y=height, text=label, showarrow=False, xanchor="left", xshift=4, yshift=7
            )
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[-0.25, len(names) - 0.5]
    )
    figure.update_yaxes(visible=False, range=[-0.05, 1.1])
    return finish_figure(figure, height=440)


def _axis_labels(info: Parallel, i: int) -> list[tuple[float, str]]:
    """What is written at one axis, and how high."""
    if i == len(info.axes):
        low, high = info.scores.min(), info.scores.max()
        return [(0.0, f"{low:.4f}"), (1.0, f"{high:.4f}")]
    axis = info.axes[i]
    at = info.places[axis.name]
    span = (at.max() - at.min()) or 1.0
    return [
        ((tick - at.min()) / span, html.escape(label))
        for tick, label in zip(axis.ticks, axis.labels, strict=True)
    ]


def _heights(at: pd.Series) -> pd.Series:
    """Places as shares of what they span, 0 to 1."""
    return (at - at.min()) / ((at.max() - at.min()) or 1.0)


def _last_parts(names: list[str]) -> list[str]:
    """The last two parts of each dotted name; the whole name where they do not tell it apart."""
    last = [".".join(name.split(".")[-2:]) for name in names]
    return [
        html.escape(short if last.count(short) == 1 else name)
        for name, short in zip(names, last, strict=True)
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def plot_interaction(found: Interaction) -> go.Figure:
    """A line per column over the rows: parallel lines are no interaction."""
    figure = go.Figure()
    for i, (column, table) in enumerate(found.table.groupby("column", sort=False)):
        colour = COLOURS[i % len(COLOURS)]
        figure.add_scatter(
            x=[html.escape(str(row)) for row in table["row"]],
            y=table["mean"].tolist(),
            mode="lines+markers",
            name=html.escape(str(column)),
            line={"color": colour, "width": 2},
            marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 9},
            hovertemplate="%{x}<br>%{y:.4f}<extra>%{fullData.name}</extra>",
        )
    figure.update_xaxes(title=html.escape(found.names[0]), type="category")
    figure.update_yaxes(title="mean over folds")
    return finish_figure(figure, height=360)


def plot_rounds(info: Rounds) -> go.Figure:
    """A mark per arm and round: run, run and then stopped, or saved; at most MOST_ARMS arms."""
    figure = go.Figure()
    table = info.table
    stopped_first = sorted(dict.fromkeys(table["arm"]), key=lambda arm: arm not in info.reasons)
    shown = set(stopped_first[:MOST_ARMS])
    arms = [arm for arm in dict.fromkeys(table["arm"]) if arm in shown][::-1]
    labels = dict(zip(arms, label_rows(arms), strict=True))
    for state, (colour, symbol, name) in STATES.items():
        part = table[(table["state"] == state) & table["arm"].isin(shown)]
        if part.empty:
            continue
        figure.add_scatter(
            x=part["round"].tolist(),
            y=[labels[arm] for arm in part["arm"]],
            mode="markers",
            name=name,
            text=[_round_text(row, info) for row in part.to_dict("records")],
            marker={"color": colour, "symbol": symbol, "size": 11},
            hovertemplate="%{text}<extra></extra>",
        )
    rounds = list(range(1, info.n_rounds + 1))
    figure.update_xaxes(title="round", tickvals=rounds, range=[0.6, info.n_rounds + 0.4])
    figure.update_yaxes(categoryorder="array", categoryarray=[labels[arm] for arm in arms])
    return finish_figure(figure, height=130 + 30 * len(arms))


def _round_text(row: Mapping[str, object], info: Rounds) -> str:
    said = html.escape(str(row["arm"]))
    if row["state"] == "saved":
        return f"{said}<br>not run"
    said += f"<br>seed {row['seed']}, {row['n_folds']} folds: {row['mean']:.4f}"
    stop = html.escape(info.reasons[str(row["arm"])]) if row["state"] == "stopped" else ""
    return f"{said}<br>stopped {stop}" if stop else said


def plot_importance(shares: Mapping[str, float]) -> go.Figure:
    """A bar per searched entry, the largest on top: its share of the variance of the scores."""
    names = list(shares)[::-1]
    figure = go.Figure(
        go.Bar(
            x=[float(shares[name]) for name in names],
            y=label_rows(names),
            orientation="h",
            marker={"color": BLUE},
            hovertemplate="%{y}<br>%{x:.0%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="share of the variance", range=[0, 1])
    return finish_figure(figure, height=110 + 30 * len(names))
