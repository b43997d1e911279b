"""The private scores of candidates as expected, beside CV and public score."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from birdlab.study.figures import BLUE, GREY, ORANGE, finish_figure, label_rows

MOST_SHOWN = 25


@dataclass(frozen=True)
class PickInfo:
    """A row per candidate, the highest expected private score first: name, the ends of its 80 %
    interval, public score (None without one) and CV, and whether it is picked."""

    names: list[str]
    mean: list[float]
    low: list[float]
    high: list[float]
    public: list[float | None]
    cv: list[float]
    picked: list[bool]


def get_pick_info(table: pd.DataFrame) -> PickInfo:
    """The first 25 candidates of `Pick.table`, and those that are picked."""
    shown = table[(table.index < MOST_SHOWN) | table["picked"]]
    mean, low, high, cv = (
        [float(value) for value in shown[column]] for column in ("mean", "low", "high", "cv")
    )
    return PickInfo(
        [str(name) for name in shown["name"]],
        mean,
        low,
        high,
        [None if pd.isna(value) else float(value) for value in shown["public"]],
        cv,
        [bool(value) for value in shown["picked"]],
    )


def plot_pick(info: PickInfo) -> go.Figure:
    """A dot per candidate with its 80 % interval, the picked ones filled orange, and a cross where
    its public score lies; CV is told on hovering, since it has another scale."""
    labels = label_rows(info.names)
    told = [f"CV {cv:.4f}" for cv in info.cv]
    figure = go.Figure()
    for picked, name, colour in ((True, "picked", ORANGE), (False, "not picked", BLUE)):
        at = [place for place, own in enumerate(info.picked) if own is picked]
        figure.add_scatter(
            x=[info.mean[i] for i in at],
            y=[labels[i] for i in at],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 10},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [info.high[i] - info.mean[i] for i in at],
                "arrayminus": [info.mean[i] - info.low[i] for i in at],
                "color": colour,
                "thickness": 1.5,
            },
            text=[told[i] for i in at],
            hovertemplate="%{y}<br>expected private %{x:.4f}<br>%{text}<extra></extra>",
        )
    figure.add_scatter(
        x=info.public,
        y=labels,
        mode="markers",
        name="public score",
        marker={"color": GREY, "size": 8, "symbol": "x-thin", "line": {"color": GREY, "width": 2}},
        text=told,
        hovertemplate="%{y}<br>public %{x:.4f}<br>%{text}<extra></extra>",
    )
    figure.update_xaxes(title="private score, with 80 % interval")
    figure.update_yaxes(categoryorder="array", categoryarray=labels[::-1])
    return finish_figure(figure, height=130 + 30 * len(labels))
