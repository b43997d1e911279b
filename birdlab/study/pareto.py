"""Which arms are not beaten in score and cost at once, and their figure."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from birdlab.study.figures import GREY, VERDICT_STYLE, finish_figure

Flags = npt.NDArray[np.bool_]

PARETO_LEGEND = (
    "An arm is on the line where none scores as high for less, by what was seen. Hollow: not shown "
    "to differ from the base."
)
"""What `plot_pareto` draws."""
DECIDED = frozenset({"better", "worse", "base"})
"""Verdicts whose markers are filled."""


def find_undominated(gains: npt.ArrayLike, *costs: npt.ArrayLike) -> Flags:
    """For each arm whether no other is as good in everything and better in something: [N].

    gains: [N], higher is better; costs: [N] each, lower is better. Equal arms do not beat each
    other. An arm with a NaN is never undominated and beats none. O(N²).
    """
    values = np.column_stack([-np.asarray(gains, float), *(np.asarray(c, float) for c in costs)])
    known = ~np.isnan(values).any(axis=1)
    found = np.zeros(len(values), bool)
    rest = values[known]
    at_least = (rest[:, None, :] <= rest[None, :, :]).all(axis=2)
    more = (rest[:, None, :] < rest[None, :, :]).any(axis=2)
    found[known] = ~(at_least & more).any(axis=0)
    return found


@dataclass(frozen=True, eq=False)
class ParetoInfo:
    """What a Pareto figure shows.

    `points`: arm, x (cost), y (mean score), verdict, frontier, cheapest first; arms without a cost
    are left out. `label` is that of the cost.
    """

    points: pd.DataFrame
    label: str
    metric: str


def get_pareto_info(
    table: pd.DataFrame, cost: str, label: str, *, metric: str = "padded cmAP"
) -> ParetoInfo:
    """The points of a table of values (arm, mean, verdict) over one of its columns of costs."""
    there = table[table[cost].notna() & table["mean"].notna()]
    points = pd.DataFrame(
        {
            "arm": there["arm"],
            "x": there[cost].astype(float),
            "y": there["mean"].astype(float),
            "verdict": there["verdict"],
            "frontier": find_undominated(there["mean"], there[cost]),
        }
    )
    return ParetoInfo(points.sort_values(["x", "y"], kind="stable"), label, metric)


def plot_pareto(info: ParetoInfo) -> go.Figure:
    """The score of each arm over its cost; steps through the arms that none beats in both.

    These and the base have their names beside them.
    """
    figure = go.Figure()
    points = info.points
    xs, ys = _steps(points[points["frontier"]].drop_duplicates(["x", "y"]))
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        name="not beaten in both",
        line={"color": GREY, "width": 2},
        hoverinfo="skip",
    )
    for verdict in VERDICT_STYLE:
        of_kind = points[points["verdict"] == verdict]
        named = of_kind["frontier"] | (of_kind["verdict"] == "base")
        for part, mode in ((of_kind[named], "markers+text"), (of_kind[~named], "markers")):
            if len(part):
                _add_arms(figure, part, verdict, mode, legend=mode == "markers" or named.all())
    room = 0.12 * ((points["x"].max() - points["x"].min()) or 1.0)
    figure.update_xaxes(range=[points["x"].min() - room, points["x"].max() + room])
    figure.update_xaxes(title=html.escape(info.label))
    figure.update_yaxes(title=html.escape(info.metric))
    return finish_figure(figure, height=380)


def _add_arms(
    figure: go.Figure, part: pd.DataFrame, verdict: str, mode: str, *, legend: bool
) -> None:
    """Markers of arms with one verdict, their names above them where the mode says so."""
    colour, symbol = VERDICT_STYLE[verdict]
    hollow = "" if verdict in DECIDED else "-open"
    figure.add_scatter(
        x=part["x"].tolist(),
        y=part["y"].tolist(),
        mode=mode,
        name=verdict,
        showlegend=bool(legend),
        text=[html.escape(str(arm), quote=False) for arm in part["arm"]],
        textposition="top center",
        marker={"color": colour, "symbol": f"{symbol}{hollow}", "size": 10},
        hovertemplate="%{text}<br>%{x:.4g}, %{y:.4f}<extra></extra>",
    )


def _steps(front: pd.DataFrame) -> tuple[list[float], list[float]]:
    """The corners of the steps from each point to the next dearer one."""
    xs, ys = front["x"].tolist(), front["y"].tolist()
    across = [x for pair in zip(xs, [*xs[1:], *xs[-1:]], strict=True) for x in pair]
    return across, [y for y in ys for _ in (0, 1)]
