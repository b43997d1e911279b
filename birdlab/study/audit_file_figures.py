"""Figures of an audit: what the files are. Info functions return data, plots draw it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from birdlab.data.audit.files import LONG_S, SHORT_S, Files
from birdlab.study.figures import BLUE, COLOURS, GREY, ORANGE, PURPLE, finish_figure

VERDICT_STYLE = {
    "": (BLUE, "circle"),
    "clipped": (ORANGE, "x"),
    "silent": (PURPLE, "diamond"),
    "all zero": (GREY, "square"),
}
TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)
SLOTS = 15
N_BINS = 48


@dataclass(frozen=True)
class LengthInfo:
    """Rows per bin of length for each table; `edges_s` [N+1] rise by a constant factor."""

    edges_s: list[float]
    counts: dict[str, list[int]]


@dataclass(frozen=True)
class FormatInfo:
    """Files per format, most last (so that it is drawn on top)."""

    names: list[str]
    n_files: list[int]


@dataclass(frozen=True)
class LoudnessInfo:
    """A point per file: shares of it that are silent and clipped, 0 to 1, and its verdict."""

    names: list[str]
    silent: list[float]
    clipped: list[float]
    verdicts: list[str]


def get_length_info(files: Files) -> LengthInfo:
    """Rows per bin of length and table, over the rows of known length above zero."""
    known = files.lengths[files.lengths["length_s"] > 0]
    if known.empty:
        return LengthInfo([], {})
    low, high = float(known["length_s"].min()), float(known["length_s"].max())
    edges = np.geomspace(low * 0.999, max(high, low * 1.5) * 1.001, N_BINS + 1)
    counts = {
        f"{role} {dataset}": np.histogram(part["length_s"], edges)[0].tolist()
        for (role, dataset), part in known.groupby(["role", "dataset"], sort=False)
    }
    return LengthInfo(edges.tolist(), counts)


def plot_lengths(info: LengthInfo) -> go.Figure:
    """Bars over a logarithmic axis of length, tables on top of each other."""
    figure = go.Figure()
    edges = np.array(info.edges_s)
    for i, (name, counts) in enumerate(info.counts.items()):
        figure.add_bar(
            x=np.sqrt(edges[:-1] * edges[1:]).tolist(),
            y=counts,
            width=np.diff(edges).tolist(),
            name=html.escape(name),
            marker={"color": COLOURS[i % len(COLOURS)], "line": {"width": 0}},
            text=[f"{a:.1f} to {b:.1f} s" for a, b in pairwise(edges)],
            textposition="none",
            hovertemplate="%{text}: %{y:,} rows<extra>%{fullData.name}</extra>",
        )
    for mark in (SHORT_S, LONG_S):
        figure.add_vline(mark, line={"color": GREY, "width": 1, "dash": "dot"})
    inside = [t for t in TICKS if edges[0] <= t <= edges[-1]] if len(edges) else []
    figure.update_xaxes(
        title="length in seconds", type="log", tickvals=inside, ticktext=[f"{t:g}" for t in inside]
    )
    figure.update_yaxes(title="rows")
    figure.update_layout(barmode="stack", bargap=0, showlegend=True)
    return finish_figure(figure, height=380)


def get_format_info(files: Files) -> FormatInfo:
    """The formats by number of files; those after the first 14 are one bar."""
    table = files.formats
    names = [
        f"{f.sample_rate_hz:,} Hz · {f.codec or 'unknown'} · {_channels(f.channels)}"
        for f in table.itertuples()
    ]
    n_files = [int(n) for n in table["n_files"]]
    if len(names) > SLOTS:
        rest = sum(n_files[SLOTS - 1 :])
        more = len(names) - SLOTS + 1
        names, n_files = (
            [*names[: SLOTS - 1], f"{more} other formats"],
            [*n_files[: SLOTS - 1], rest],
        )
    return FormatInfo(names[::-1], n_files[::-1])


def plot_formats(info: FormatInfo) -> go.Figure:
    """A bar per sample rate, codec and number of channels."""
    figure = go.Figure(
        go.Bar(
            x=info.n_files,
            y=[html.escape(name) for name in info.names],
            orientation="h",
            marker={"color": BLUE},
            text=[f"{n:,}" for n in info.n_files],
            textposition="auto",
            hovertemplate="%{y}: %{x:,} files<extra></extra>",
        )
    )
    figure.update_xaxes(title="files")
    figure.update_yaxes(ticksuffix="  ")
    figure.update_layout(bargap=0.35)
    return finish_figure(figure, height=110 + 30 * len(info.names))


def get_loudness_info(files: Files) -> LoudnessInfo:
    """The points of every file whose samples are known."""
    table = files.loudness
    return LoudnessInfo(
        [f"{f.dataset}/{f.recording}" for f in table.itertuples()],
        [float(share) for share in table["silent_share"]],
        [float(share) for share in table["clipped_share"]],
        [str(verdict) for verdict in table["verdict"]],
    )


def plot_loudness(info: LoudnessInfo) -> go.Figure:
    """Clipped share over silent share of each file, marked by verdict."""
    figure = go.Figure()
    for verdict, (colour, symbol) in VERDICT_STYLE.items():
        chosen = [i for i, v in enumerate(info.verdicts) if v == verdict]
        if chosen:
            figure.add_scatter(
                x=[info.silent[i] for i in chosen],
                y=[info.clipped[i] for i in chosen],
                mode="markers",
                name=verdict or "neither",
                text=[html.escape(info.names[i]) for i in chosen],
                marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.7},
                hovertemplate="%{text}<br>silent %{x:.1%}<br>clipped %{y:.2%}<extra></extra>",
            )
    figure.update_xaxes(title="silent share of the file", range=[-0.02, 1.02], tickformat=".0%")
    top = max([*info.clipped, 0.01])
    figure.update_yaxes(title="clipped share", tickformat=".2~%", range=[-0.05 * top, 1.1 * top])
    return finish_figure(figure, height=380)


def _channels(n: int) -> str:
    return {1: "mono", 2: "stereo"}.get(n, f"{n} channels")
