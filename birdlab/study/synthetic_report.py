"""Synthetic soundscapes as one HTML page: what is heard in them, and when each species sings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from birdlab.data.audio import Waveform
from birdlab.study.figures import BLUE, finish_figure
from birdlab.study.listening_figures import add_spectrogram
from birdlab.study.report import (
    BESIDE_POLICY,
    escape,
    figure_html,
    list_html,
    page_html,
    section_html,
)
from birdlab.study.spectrogram import PLAIN, Spectrogram, draw_spectrogram
from birdlab.words import count_words


@dataclass(frozen=True, eq=False)
class ShownSoundscape:
    """A soundscape as it is shown: the file beside the page that it was written to, its truth."""

    file: str
    wave: Waveform
    truth: pd.DataFrame


def plot_truth(image: Spectrogram, truth: pd.DataFrame, seconds: float) -> go.Figure:
    """The spectrogram, and below it a line for each species while it sings.

    `truth` has start_s, end_s and label.
    """
    labels = sorted(set(truth["label"]))
    shares = [200, 24 * max(1, len(labels))]
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=shares, vertical_spacing=0.05)
    add_spectrogram(figure, image)
    for label in labels:
        own = truth[truth["label"] == label]
        times = [t for a, b in zip(own["start_s"], own["end_s"], strict=True) for t in (a, b, None)]
        figure.add_scatter(
            x=times,
            y=[escape(label)] * len(times),
            mode="lines",
            line={"color": BLUE, "width": 9},
            hovertemplate="%{y}: %{x:.1f} s<extra></extra>",
            row=2,
            col=1,
        )
    figure.update_yaxes(type="category", row=2, col=1)
    figure.update_xaxes(ticksuffix=" s", range=[0, seconds], row=2, col=1)
    figure.update_layout(showlegend=False)
    return finish_figure(figure, height=sum(shares) + 80)


def synthetic_report_html(name: str, fold: int, shown: Sequence[ShownSoundscape]) -> str:
    """The page; it needs no network and the sound files beside it. All names are text."""
    answer = (
        f"{count_words(len(shown), 'synthetic soundscape')} of fold {fold} of {name}, as its "
        "models are scored on them."
    )
    notes = [
        "Parts of held-out recordings of one species each, over backgrounds. A line is where its "
        "species stands out of the noise of its own recording; faint song has none.",
        PLAIN,
    ]
    parts = [f"<p class='answer'>{escape(answer)}</p>", list_html(notes)]
    for one in shown:
        figure = plot_truth(draw_spectrogram(one.wave), one.truth, one.wave.duration_s)
        sound = f"<audio controls preload='none' src='{escape(one.file)}'></audio>"
        parts.append(section_html(one.file, sound + figure_html(figure)))
    return page_html(f"Synthetic soundscapes of {name}", parts, policy=BESIDE_POLICY)
