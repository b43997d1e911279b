"""Figures of one run: training curves, and the score of each class over its support."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from birdlab.study.figures import BLUE, COLOURS, GREY, finish_figure

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


@dataclass(frozen=True)
class CurvesInfo:
    """Lines over training steps, one per cell, of one logged value."""

    key: str
    lines: dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class ClassInfo:
    """Average precision of each class over its number of positive recordings.

    floor: what a constant predictor gets, as (support, score) in rising order; may be empty.
    """

    names: list[str]
    support: list[int]
    scores: list[float]
    score_label: str
    floor: list[tuple[int, float]] = field(default_factory=list)


def get_curves_info(curves: pd.DataFrame) -> list[CurvesInfo]:
    """One figure per logged key from a long table: fold, seed, step, key, value."""
    infos = []
    for key, table in curves.sort_values("step").groupby("key", sort=True):
        lines = {
            f"fold {fold}, seed {seed}": (list(map(float, t["step"])), list(map(float, t["value"])))
            for (fold, seed), t in table.groupby(["fold", "seed"])
        }
        infos.append(CurvesInfo(str(key), lines))
    return infos


def plot_curves(info: CurvesInfo) -> go.Figure:
    """One line per cell over the training steps."""
    figure = go.Figure()
    for i, (name, (steps, values)) in enumerate(info.lines.items()):
        figure.add_scatter(
            x=steps,
            y=values,
            name=html.escape(name),
            mode="lines+markers",
            line={"color": COLOURS[i % len(COLOURS)], "width": 1.5},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 5},
        )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=html.escape(info.key))
    return finish_figure(figure, height=340)


def get_class_info(classes: pd.DataFrame, *, score_label: str) -> ClassInfo:
    """A point per class from a table with class, support and ap; undefined scores are left out."""
    table = classes[classes["ap"].notna()]
    return ClassInfo(
        [str(name) for name in table["class"]],
        [int(n) for n in table["support"]],
        [float(v) for v in table["ap"]],
        score_label,
    )


def plot_class_scores(info: ClassInfo) -> go.Figure:
    """Average precision over the number of positive recordings, on a logarithmic axis.

    Classes without positives sit at the left edge: their padded score says nothing.
    """
    figure = go.Figure(
        go.Scatter(
            x=[max(n, 0.5) for n in info.support],
            y=info.scores,
            mode="markers",
            text=[f"{html.escape(n)} ({k})" for n, k in zip(info.names, info.support, strict=True)],
            marker={
                "color": [BLUE if n else GREY for n in info.support],
                "size": 8,
                "opacity": 0.8,
            },
            hovertemplate="%{text}<br>%{y:.3f}<extra></extra>",
            name="species",
        )
    )
    if info.floor:
        figure.add_scatter(
            x=[n for n, _ in info.floor],
            y=[score for _, score in info.floor],
            mode="lines",
            name="a constant predictor",
            line={"color": GREY, "dash": "dash", "width": 1.5},
            hoverinfo="skip",
        )
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    figure.update_xaxes(
        type="log",
        title="positive recordings",
        tickvals=ticks,
        ticktext=["0", *map(str, ticks[1:])],
    )
    figure.update_yaxes(title=html.escape(info.score_label))
    return finish_figure(figure, height=380)
