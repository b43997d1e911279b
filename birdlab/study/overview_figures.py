"""Figures of a lab as a whole."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from birdlab.study.figures import BLUE, ORANGE, finish_figure


def plot_progress(progress: pd.DataFrame, *, metric: str) -> go.Figure:
    """Every run over its time, and the best until then as steps; columns at, score, best, name."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(progress["at"]),
        y=progress["score"].tolist(),
        mode="markers",
        name="a run",
        text=[html.escape(str(name)) for name in progress["name"]],
        marker={"color": BLUE, "size": 7, "opacity": 0.7},
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=list(progress["at"]),
        y=progress["best"].tolist(),
        mode="lines",
        name="best so far",
        line={"color": ORANGE, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )
    figure.update_xaxes(type="date")
    figure.update_yaxes(title=html.escape(metric))
    return finish_figure(figure, height=320)
