"""The figure of a file that is listened to: its spectrogram above what the models say."""

from __future__ import annotations

import html
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from birdlab.study.figures import ORANGE, finish_figure
from birdlab.study.listening import Hearing, rank_species
from birdlab.study.spectrogram import Spectrogram

INDENT = 0.12
"""Where in a window its dot stands: beside the number, as a share of the window."""
TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16_000)
NUMBERS_UP_TO = 12
"""With more windows than this their probabilities are only colours, and numbers on hovering."""
KNOWN = "● "
"""Before the name of a species that is known to be in the file."""


@dataclass(frozen=True, eq=False)
class HearingInfo:
    """What is drawn of a file.

    edges_s: [W + 1] of the windows; codes: shown species, the highest first; known: those that are
    in the file; probs: [K, W]; true: (code, start of a window) of each label of a window, none
    where labels are of the whole file; spans: labels in time, (code, start, end), of shown species;
    spectrogram: None where the audio is not there.
    """

    edges_s: list[float]
    codes: list[str]
    known: list[str]
    probs: list[list[float]]
    true: list[tuple[str, float]]
    spans: list[tuple[str, float, float]]
    spectrogram: Spectrogram | None


def get_hearing_info(
    hearing: Hearing, spectrogram: Spectrogram | None, most: int = 8
) -> HearingInfo:
    """The figure of a file from its hearing: the `most` highest species and all true ones."""
    table = rank_species(hearing, most)
    codes = table["code"].tolist()
    columns = [hearing.codes.index(code) for code in codes]
    true = []
    if hearing.truth is not None and hearing.file.kind == "soundscape":
        true = [
            (code, float(hearing.start_s[w]))
            for code, column in zip(codes, columns, strict=True)
            for w in np.flatnonzero(hearing.truth[:, column])
        ]
    return HearingInfo(
        [*hearing.start_s.tolist(), float(hearing.end_s[-1])],
        codes,
        table.loc[table["true"] != "", "code"].tolist(),
        hearing.probs[:, columns].T.astype(float).round(4).tolist(),
        true,
        [span for span in hearing.spans if span[0] in codes],
        spectrogram,
    )


def plot_hearing(info: HearingInfo) -> go.Figure:
    """The spectrogram, and below it a row per species with its probability in each window."""
    n = len(info.codes)
    shares = [190, 30 * n] if info.spectrogram is not None else [1, 30 * n]
    figure = make_subplots(
        2, 1, shared_xaxes=True, row_heights=shares, vertical_spacing=18 / (sum(shares) + 60)
    )
    if info.spectrogram is not None:
        add_spectrogram(figure, info.spectrogram)
    labels = _labels(info)
    numbers = len(info.edges_s) - 1 <= NUMBERS_UP_TO
    figure.add_heatmap(
        x=info.edges_s,
        y=list(labels.values()),
        z=info.probs,
        zmin=0,
        zmax=1,
        colorscale="Cividis",
        text=[[f"{p:.2f}".removeprefix("0") for p in row] for row in info.probs],
        texttemplate="%{text}" if numbers else None,
        textfont={"size": 11},
        xgap=1,
        ygap=2,
        colorbar={"thickness": 10, "len": 30 * n / (sum(shares) + 60), "y": 0, "yanchor": "bottom"},
        hovertemplate="%{y}, window at %{x} s: %{z:.3f}<extra></extra>",
        row=2,
        col=1,
    )
    _add_truth(figure, info, labels)
    figure.update_yaxes(autorange="reversed", row=2, col=1)
    figure.update_xaxes(ticksuffix=" s", range=[info.edges_s[0], info.edges_s[-1]])
    finish_figure(figure, height=round(sum(shares) + 90))
    return figure.update_yaxes(showgrid=False).update_xaxes(showgrid=False)


def add_spectrogram(figure: go.Figure, image: Spectrogram) -> None:
    """Put the image into the first row of a figure, with frequencies beside it."""
    bands = image.bands_hz
    ticks = [hz for hz in TICKS_HZ if bands[0] <= hz <= bands[-1]]
    figure.add_heatmap(
        x=image.frame_s,
        z=image.levels,
        zmin=0,
        zmax=255,
        colorscale="Viridis",
        showscale=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.update_yaxes(
        tickvals=np.interp(ticks, bands, np.arange(len(bands))).tolist(),
        ticktext=[f"{hz / 1000:g} kHz" for hz in ticks],
        row=1,
        col=1,
    )


def _labels(info: HearingInfo) -> dict[str, str]:
    """What stands beside the row of each species."""
    return {code: (KNOWN if code in info.known else "") + html.escape(code) for code in info.codes}


def _add_truth(figure: go.Figure, info: HearingInfo, labels: dict[str, str]) -> None:
    """A dot on every window that a label marks, a line along every label in time."""
    if info.true:
        width_s = info.edges_s[1] - info.edges_s[0]
        figure.add_scatter(
            x=[start_s + INDENT * width_s for _, start_s in info.true],
            y=[labels[code] for code, _ in info.true],
            mode="markers",
            name="label",
            marker={
                "symbol": "circle",
                "size": 9,
                "color": ORANGE,
                "line": {"color": "#fff", "width": 1.5},
            },
            hovertemplate="%{y} is a label here<extra></extra>",
            row=2,
            col=1,
        )
    if info.spans:
        drawn = [(code, at) for code, *ends in info.spans for at in (*ends, None)]
        figure.add_scatter(
            x=[at for _, at in drawn],
            y=[labels[code] for code, _ in drawn],
            mode="lines",
            name="label in time",
            line={"color": ORANGE, "width": 3},
            hoverinfo="skip",
            row=2,
            col=1,
        )
