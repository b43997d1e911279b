"""Figures of CV against the leaderboard: the runs, their ranks, the resolution, the estimators."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from birdlab.study.cvlb_estimators import EstimatorComparison
from birdlab.study.cvlb_order import RIGHT_SHARE, Resolution
from birdlab.study.figures import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    escape_all,
    finish_figure,
    label_rows,
)
from birdlab.study.run_figures import SYMBOLS

OTHERS = "others"
MOST_RANKED = 30


@dataclass(frozen=True)
class CvLbInfo:
    """A point per run: CV with the lowest and highest fold, the leaderboard score, its group.

    `groups` names the group of each run ("" where runs are not told apart); past the five largest
    they are "others".
    """

    names: list[str]
    cv: list[float]
    fold_low: list[float]
    fold_high: list[float]
    lb: list[float]
    cv_label: str
    lb_label: str
    groups: list[str]

    @property
    def equal_rank(self) -> tuple[list[float], list[float]]:
        """The line of equal rank: the sorted CV scores, and the sorted leaderboard scores."""
        return sorted(self.cv), sorted(self.lb)


@dataclass(frozen=True)
class RankInfo:
    """Of the runs that are first by CV: name, rank by CV and rank on the leaderboard (1 best)."""

    names: list[str]
    by_cv: list[int]
    by_lb: list[int]
    n: int


def get_cv_lb_info(
    pairs: pd.DataFrame, *, cv_label: str, lb_label: str, colour: str = ""
) -> CvLbInfo:
    """The points of a CV-against-leaderboard scatter from what `pair_cv_lb` returns.

    The bar of a run goes from its lowest to its highest fold; where no folds are stored, one SD
    to both sides; where that is not known either, there is none. `colour` is the column whose
    values tell runs apart.
    """
    low: list[float] = []
    high: list[float] = []
    for folds, cv, sd in zip(pairs["fold_scores"], pairs["cv"], pairs["cv_sd"], strict=True):
        spread = 0.0 if np.isnan(sd) else float(sd)
        low.append(min(folds) if folds else cv - spread)
        high.append(max(folds) if folds else cv + spread)
    groups = _largest(pairs[colour]) if colour else [""] * len(pairs)
    return CvLbInfo(
        [str(name) for name in pairs["name"]],
        [float(v) for v in pairs["cv"]],
        low,
        high,
        [float(v) for v in pairs["lb"]],
        cv_label,
        lb_label,
        groups,
    )


def plot_cv_lb(info: CvLbInfo) -> go.Figure:
    """CV to the right, leaderboard up, a bar per run from its lowest to its highest fold.

    The dotted line is where a run has the same rank on both: above it the leaderboard likes the
    run better than CV does.
    """
    figure = go.Figure()
    x, y = info.equal_rank
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name="same rank on both",
        line={"color": GREY, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
    )
    names = sorted(set(info.groups), key=lambda name: (name == OTHERS, -info.groups.count(name)))
    for place, (name, label) in enumerate(zip(names, label_rows(names), strict=True)):
        at = [i for i, group in enumerate(info.groups) if group == name]
        colour = GREY if name == OTHERS else COLOURS[place % len(COLOURS)]
        figure.add_trace(_points(info, at, label or "runs", place, colour))
    figure.update_xaxes(title=html.escape(info.cv_label))
    figure.update_yaxes(title=html.escape(info.lb_label))
    return finish_figure(figure, height=440 + 20 * len(names))


def get_rank_info(pairs: pd.DataFrame) -> RankInfo:
    """The ranks of the up to 30 runs that are first by CV; ties share the better rank."""
    by_cv, by_lb = (
        pairs[name].rank(ascending=False, method="min").astype(int) for name in ("cv", "lb")
    )
    first = by_cv.sort_values(kind="stable").index[:MOST_RANKED]
    return RankInfo(
        [str(name) for name in pairs.loc[first, "name"]],
        by_cv[first].tolist(),
        by_lb[first].tolist(),
        len(pairs),
    )


def plot_ranks(info: RankInfo) -> go.Figure:
    """A line per run from its rank by CV, left, to its rank on the leaderboard, right."""
    figure = go.Figure()
    moves = {"rises": (GREEN, "triangle-up"), "falls": (ORANGE, "triangle-down")}
    for word, (colour, symbol) in {**moves, "stays": (GREY, "circle")}.items():
        x: list[int | None] = []
        y: list[int | None] = []
        text: list[str] = []
        for name, cv, lb in zip(escape_all(info.names), info.by_cv, info.by_lb, strict=True):
            if word == ("rises" if lb < cv else "falls" if lb > cv else "stays"):
                x += [0, 1, None]
                y += [cv, lb, None]
                text += [f"{name}<br>CV rank {cv}, leaderboard rank {lb}"] * 2 + [""]
        if x:
            figure.add_scatter(
                x=x,
                y=y,
                text=text,
                name=word,
                mode="lines+markers",
                line={"color": colour, "width": 1.5},
                marker={"symbol": symbol, "size": 7},
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_xaxes(tickvals=[0, 1], ticktext=["by CV", "by leaderboard"], range=[-0.15, 1.15])
    last = max([*info.by_cv, *info.by_lb, 1]) + 0.7
    figure.update_yaxes(range=[last, 0.3], title=f"rank of {info.n}")
    return finish_figure(figure, height=460)


def plot_resolution(curve: pd.DataFrame, found: Resolution) -> go.Figure:
    """The share of pairs in the right order over their CV gap, from `CvLbStudy.curve`."""
    figure = go.Figure()
    gaps = curve["gap"].tolist()
    figure.add_scatter(
        x=[*gaps, *reversed(gaps)],
        y=[*curve["high"], *reversed(curve["low"].tolist())],
        fill="toself",
        fillcolor="rgba(46,134,201,.2)",
        line={"width": 0},
        hoverinfo="skip",
        name="95 % interval",
    )
    figure.add_scatter(
        x=gaps,
        y=curve["share"].tolist(),
        mode="lines",
        line={"color": BLUE, "width": 2},
        name="pairs with this gap or more",
        customdata=curve["n_pairs"].tolist(),
        hovertemplate="CV gap %{x:.4f} or more<br>%{y:.0%} of %{customdata} pairs<extra></extra>",
    )
    figure.add_hline(RIGHT_SHARE, line={"color": GREY, "width": 1, "dash": "dot"})
    if np.isfinite(found.gap) and found.gap > 0:
        figure.add_vline(found.gap, line={"color": ORANGE, "width": 1.5})
    figure.update_xaxes(title="CV gap", tickformat=".3~f")
    figure.update_yaxes(title="in the right order", tickformat=".0%")
    return finish_figure(figure, height=360)


def plot_estimators(comparison: EstimatorComparison) -> go.Figure:
    """Spearman of each estimator with its 95 % interval; the line is what chance alone reaches."""
    table = comparison.table.iloc[::-1]
    labels = label_rows([str(name) for name in table["estimator"]])
    value = table["spearman"].to_numpy(dtype=float)
    figure = go.Figure(
        go.Scatter(
            x=value.tolist(),
            y=labels,
            mode="markers",
            marker={"color": BLUE, "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (table["high"] - value).tolist(),
                "arrayminus": (value - table["low"]).tolist(),
                "color": BLUE,
                "thickness": 1.5,
            },
            hovertemplate="%{y}<br>Spearman %{x:.2f}<extra></extra>",
        )
    )
    figure.add_vline(0, line={"color": GREY, "width": 1})
    if np.isfinite(comparison.chance_high):
        figure.add_vline(
            comparison.chance_high, line={"color": ORANGE, "width": 1.5, "dash": "dot"}
        )
    figure.update_xaxes(title="Spearman with the leaderboard")
    figure.update_yaxes(categoryorder="array", categoryarray=labels)
    return finish_figure(figure, height=110 + 34 * len(labels))


def _points(info: CvLbInfo, at: Sequence[int], label: str, place: int, colour: str) -> go.Scatter:
    cv = np.array([info.cv[i] for i in at])
    low, high = (np.array([values[i] for i in at]) for values in (info.fold_low, info.fold_high))
    return go.Scatter(
        x=cv.tolist(),
        y=[info.lb[i] for i in at],
        mode="markers",
        name=label,
        text=escape_all([info.names[i] for i in at]),
        marker={
            "color": colour,
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "size": 9,
            "opacity": 0.85,
            "line": {"width": 0},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.maximum(high - cv, 0).tolist(),
            "arrayminus": np.maximum(cv - low, 0).tolist(),
            "color": _faint(colour),
            "thickness": 1,
            "width": 0,
        },
        hovertemplate="%{text}<br>CV %{x:.4f}<br>LB %{y:.4f}<extra></extra>",
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},.35)"


def _largest(values: pd.Series, most: int = 5) -> list[str]:
    """The value of each run as text; those beyond the largest groups are "others"."""
    names = values.map(lambda value: str(value) or "not known")
    counts = names.value_counts()
    kept = set(counts.index if len(counts) <= most + 1 else counts.index[:most])
    return [name if name in kept else OTHERS for name in names]
