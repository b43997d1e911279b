"""The figures of a difference: what species add, what recordings move, and two runs over time."""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from birdlab.study.figures import BLUE, GREEN, GREY, ORANGE, finish_figure, label_rows
from birdlab.study.listening_figures import KNOWN, add_spectrogram
from birdlab.study.spectrogram import Spectrogram
from birdlab.study.why import Why
from birdlab.study.why_hearing import HeardTwice, Line

SHOWN_SPECIES = 8
"""So many of the species that gain, and of those that lose, have a bar of their own."""
BASE_COLOUR, ARM_COLOUR = BLUE, ORANGE
LANE = 70
"""The height of the lines of one species, px."""
SHARES_LEGEND = (
    "What each species adds to the difference; the bars sum to it. Dotted, where seeds tell: the "
    "largest bar that two equal runs would show, by chance."
)

MOVES_LEGEND = (
    "What the difference would lose without the recording. Dotted, where seeds tell: the largest "
    "bar that two equal runs would show, by chance."
)
LINES_LEGEND = (
    "The probability in each window, the mean over seeds that did not train on the recording. "
    "● before a name: a label of the recording; labels are of whole recordings. Below the first "
    "species are those on which the recording moves the difference most."
)


@dataclass(frozen=True)
class BarsInfo:
    """Bars from top to bottom; keys: what a bar stands for, "" for a sum of several; chance: the
    largest bar of two equal runs, NaN where that is not known."""

    labels: list[str]
    keys: list[str]
    values: list[float]
    chance: float


def get_shares_info(why: Why, most: int = SHOWN_SPECIES) -> BarsInfo:
    """What species add: the `most` that gain most, the rest as a bar, the `most` that lose most."""
    table = why.species.sort_values("share", ascending=False, kind="stable")
    up, down = table[table["share"] > 0], table[table["share"] < 0]
    rest = pd.concat([up.iloc[most:], down.iloc[: max(0, len(down) - most)]])
    parts = [(f"{row.code} ({row.support})", row.code, row.share) for row in up[:most].itertuples()]
    if len(rest):
        parts.append((f"{len(rest)} others", "", float(rest["share"].sum())))
    shown_down = down.iloc[max(0, len(down) - most) :]
    parts += [
        (f"{row.code} ({row.support})", row.code, row.share) for row in shown_down.itertuples()
    ]
    chance = why.split.chance
    return BarsInfo(
        [str(label) for label, _, _ in parts],
        [str(key) for _, key, _ in parts],
        [float(value) for _, _, value in parts],
        np.nan if chance is None else chance.largest,
    )


def get_moves_info(why: Why) -> BarsInfo:
    """What the recordings that are shown move, the largest first."""
    table = why.recordings
    named = zip(table["recording"], table["primary"], strict=True)
    labels = [f"{name} ({code})" if code else str(name) for name, code in named]
    chance = why.split.chance
    return BarsInfo(
        labels,
        table["recording"].astype(str).tolist(),
        table["influence"].astype(float).tolist(),
        np.nan if chance is None else chance.largest_recording,
    )


def plot_bars(info: BarsInfo, title: str) -> go.Figure:
    """Lying bars with their names beside them: gains and losses by colour and side."""
    labels = label_rows(info.labels)
    figure = go.Figure()
    figure.add_vline(0, line={"color": GREY, "width": 1})
    for side in (-info.chance, info.chance) if np.isfinite(info.chance) else ():
        figure.add_vline(side, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.add_bar(
        x=info.values,
        y=labels,
        orientation="h",
        marker={"color": [GREEN if value >= 0 else ORANGE for value in info.values]},
        customdata=info.keys,
        hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title=title, tickformat="+.4~f")
    figure.update_yaxes(categoryorder="array", categoryarray=labels, autorange="reversed")
    return finish_figure(figure, height=90 + 24 * max(1, len(labels)))


def step_line(line: Line) -> tuple[list[float], list[float]]:
    """A line as steps: level over each window, up to where the next one begins.

    Overlapping windows are each drawn around their middle, over one hop.
    """
    middles = [(start + end) / 2 for start, end in zip(line.start_s, line.end_s, strict=True)]
    cuts = [(one + two) / 2 for one, two in pairwise(middles)]
    edges = [line.start_s[0], *cuts, line.end_s[-1]]
    xs, ys = list[float](), list[float]()
    for (left, right), prob in zip(pairwise(edges), line.probs, strict=True):
        xs += [left, right]
        ys += [prob, prob]
    return xs, ys


def plot_twice(heard: HeardTwice, image: Spectrogram | None, names: tuple[str, str]) -> go.Figure:
    """The spectrogram, and below it for each species what base and arm say over time."""
    n = len(heard.codes)
    shares = [180 if image is not None else 1, *[LANE] * n]
    total = sum(shares) + 14 * n
    figure = make_subplots(
        1 + n, 1, shared_xaxes=True, row_heights=shares, vertical_spacing=14 / total
    )
    if image is not None:
        add_spectrogram(figure, image)
    for i, code in enumerate(heard.codes):
        for line, name, colour in zip(
            heard.lines[code], names, (BASE_COLOUR, ARM_COLOUR), strict=True
        ):
            _add_line(figure, line, name, colour, row=2 + i, first=i == 0)
        figure.update_yaxes(
            title={"text": label_of(heard, code), "font": {"size": 11}},
            range=[-0.03, 1.03],
            tickvals=[0, 0.5, 1],
            row=2 + i,
            col=1,
        )
    end_s = heard.end_s if image is None else min(heard.end_s, float(image.frame_s[-1]))
    figure.update_xaxes(range=[heard.begin_s, end_s])
    figure.update_xaxes(ticksuffix=" s", row=1 + n, col=1)
    finish_figure(figure, height=round(total + 70))
    return figure.update_xaxes(showgrid=False)


def _add_line(
    figure: go.Figure, line: Line, name: str, colour: str, *, row: int, first: bool
) -> None:
    xs, ys = step_line(line)
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines",
        name=html.escape(name),
        legendgroup=html.escape(name),
        showlegend=first,
        line={"color": colour, "width": 2},
        hovertemplate="%{x:.1f} s: %{y:.3f}",
        row=row,
        col=1,
    )


def label_of(heard: HeardTwice, code: str) -> str:
    """The name of a species beside its lines, escaped; a dot before those that are labels."""
    return (KNOWN if code in heard.known else "") + html.escape(code)
