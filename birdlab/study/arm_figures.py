"""Figures of one arm against the base: its cells, its species, its training."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from birdlab.study.arm_view import Curve
from birdlab.study.figures import BLUE, COLOURS, GREEN, GREY, ORANGE, finish_figure, label_rows
from birdlab.study.run_figures import SYMBOLS

WIDTH = 0.6
"""The part of a fold's place on the axis that its seeds take."""


def plot_cells(cells: pd.DataFrame) -> go.Figure:
    """The difference of each cell: folds side by side, a marker per seed, a bar per fold mean."""
    figure = go.Figure()
    figure.add_hline(0, line={"color": GREY, "width": 1})
    folds = {fold: place for place, fold in enumerate(sorted(cells["fold"].unique()))}
    seeds = sorted(cells["seed"].unique())
    means = cells.groupby("fold")["difference"].mean()
    figure.add_scatter(
        x=[x for fold in means.index for x in (folds[fold] - 0.35, folds[fold] + 0.35, None)],
        y=[y for mean in means for y in (mean, mean, None)],
        mode="lines",
        name="mean of the fold",
        line={"color": GREY, "width": 3},
        hovertemplate="%{y:+.4f}<extra>mean of the fold</extra>",
    )
    for place, seed in enumerate(seeds):
        inside = cells[cells["seed"] == seed]
        shift = WIDTH * ((place + 0.5) / len(seeds) - 0.5)
        figure.add_scatter(
            x=[folds[fold] + shift for fold in inside["fold"]],
            y=inside["difference"].tolist(),
            mode="markers",
            name=f"seed {seed}",
            marker={
                "color": COLOURS[place % len(COLOURS)],
                "symbol": SYMBOLS[place % len(SYMBOLS)],
                "size": 10,
            },
            hovertemplate=f"%{{y:+.4f}}<extra>seed {seed}</extra>",
        )
    figure.update_xaxes(tickvals=list(folds.values()), ticktext=[f"fold {fold}" for fold in folds])
    figure.update_yaxes(title="difference to the base")
    return finish_figure(figure, height=340)


def plot_species(species: pd.DataFrame) -> go.Figure:
    """Differences of species with their 95 % intervals, the largest gain on top."""
    table = species.iloc[::-1]
    labels = label_rows([f"{row.code} ({row.support})" for row in table.itertuples()])
    delta, low, high = (table[name].to_numpy(dtype=float) for name in ("delta", "low", "high"))
    sides = {
        "gain": (delta >= 0, GREEN, "triangle-up"),
        "loss": (delta < 0, ORANGE, "triangle-down"),
    }
    figure = go.Figure()
    figure.add_vline(0, line={"color": GREY, "width": 1})
    for name, (at, colour, symbol) in sides.items():
        figure.add_scatter(
            x=delta[at].tolist(),
            y=[label for label, inside in zip(labels, at, strict=True) if inside],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.nan_to_num(high - delta)[at].tolist(),
                "arrayminus": np.nan_to_num(delta - low)[at].tolist(),
                "color": colour,
                "thickness": 1.5,
            },
            hovertemplate="%{y}<br>%{x:+.3f}<extra></extra>",
        )
    figure.update_xaxes(title="difference in average precision")
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    return finish_figure(figure, height=130 + 26 * len(labels))


def plot_curve(curve: Curve) -> go.Figure:
    """The mean over cells of each arm, with a band from its lowest to its highest cell."""
    figure = go.Figure()
    names = label_rows(list(curve.lines))
    for name, line, colour in zip(names, curve.lines.values(), (GREY, BLUE), strict=False):
        epochs = line["epoch"].tolist()
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        figure.add_scatter(
            x=[*epochs, *reversed(epochs)],
            y=[*line["high"], *reversed(line["low"].tolist())],
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},.2)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=epochs,
            y=line["mean"].tolist(),
            mode="lines",
            name=name,
            line={"color": colour, "width": 2, "dash": "dash" if colour == GREY else "solid"},
        )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=html.escape(curve.key))
    return finish_figure(figure, height=300)
