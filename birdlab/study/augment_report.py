"""Clips before and after each augmentation as one HTML page: to look at and to listen to."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import soundfile
from plotly.subplots import make_subplots

from birdlab.clipshow import READ, ClipShow, Look, ShownClip
from birdlab.study.augment_numbers import label_words, list_numbers, summarise_steps
from birdlab.study.figures import BLUE, finish_figure
from birdlab.study.report import escape, figure_html, list_html, page_html, section_html, table_html

N_POINTS = 400
"""Points of a drawn waveform: each shows the lowest and highest of the samples it stands for."""
TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16_000)
CARDS = (
    "<style>.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));"
    "gap:.9rem}.card{background:var(--card);border:1px solid var(--line);border-radius:6px;"
    "padding:.5rem .7rem;min-width:0}h2{overflow-wrap:anywhere}"
    ".card h3{font-size:.95rem;margin:0}.card p{margin:.2rem 0}"
    ".card audio{width:100%;height:2.2rem}</style>"
)


@dataclass(frozen=True, eq=False)
class LookInfo:
    """A look as it is drawn.

    Waveform: time_s, low and high, [N_POINTS] each; spectrogram: levels [M, T] 0..255, frame_s
    [T], tick_bands and tick_words of its axis.
    """

    time_s: npt.NDArray[np.float32]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    levels: npt.NDArray[np.uint8]
    frame_s: npt.NDArray[np.float32]
    tick_bands: list[float]
    tick_words: list[str]


def get_look_info(look: Look, show: ClipShow) -> LookInfo:
    """The curves and the image of a look: the first channel of its spectrogram."""
    duration_s = len(look.wave) / show.sample_rate_hz
    pieces = np.array_split(look.wave, min(N_POINTS, len(look.wave)))
    image = look.mel[0]
    bands = show.bands_hz
    ticks = [hz for hz in TICKS_HZ if bands is not None and bands[0] <= hz <= bands[-1]]
    return LookInfo(
        time_s=np.linspace(0, duration_s, len(pieces), dtype=np.float32),
        low=np.array([piece.min() for piece in pieces], np.float32),
        high=np.array([piece.max() for piece in pieces], np.float32),
        levels=np.rint(255 * image.clip(0, 1)).astype(np.uint8),
        frame_s=np.linspace(0, duration_s, image.shape[1], dtype=np.float32),
        tick_bands=[] if bands is None else np.interp(ticks, bands, np.arange(len(bands))).tolist(),
        tick_words=[f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz" for hz in ticks],
    )


def plot_look(info: LookInfo) -> go.Figure:
    """The waveform above its spectrogram."""
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.3, 0.7], vertical_spacing=0.04)
    line = {"color": BLUE, "width": 0.5}
    hover = "%{x:.2f} s: %{y:.3f}<extra></extra>"
    figure.add_scatter(x=info.time_s, y=info.low, line=line, hovertemplate=hover)
    figure.add_scatter(
        x=info.time_s, y=info.high, line=line, fill="tonexty", fillcolor=BLUE, hovertemplate=hover
    )
    figure.add_heatmap(
        x=info.frame_s,
        z=info.levels,
        zmin=0,
        zmax=255,
        colorscale="Viridis",
        showscale=False,
        hovertemplate="%{x:.2f} s, band %{y}: %{z} of 255<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_yaxes(range=[-1.02, 1.02], tickvals=[-1, 0, 1], row=1, col=1)
    if info.tick_bands:
        figure.update_yaxes(tickvals=info.tick_bands, ticktext=info.tick_words, row=2, col=1)
    figure.update_xaxes(ticksuffix=" s", row=2, col=1)
    figure.update_layout(showlegend=False)
    finish_figure(figure, height=250)
    return figure.update_layout(margin={"l": 52, "r": 6, "t": 12, "b": 24})


def augment_report_html(show: ClipShow, name: str) -> str:
    """The page of `show`: for each clip the looks that differ, with sound, numbers and labels.

    All names are text; the page needs no network. About 0.6 MB a look.
    """
    numbers = list_numbers(show)
    parts = [
        CARDS,
        f"<p class='answer'>{escape(f'{name}: {show.title}, as training meets them.')}</p>",
        section_html("What each step does", table_html(summarise_steps(numbers))),
        list_html(
            [
                "Level and peak are over full scale; the centroid is the mean frequency, weighed "
                "by power. Differences are those of the clips that the step changed, to the look "
                "before it.",
                "The level of a clip hardly matters to the network, whose front-end scales each "
                "spectrogram by itself; it does matter to what is mixed in later.",
            ]
        ),
        *(_clip_html(i, clip, show) for i, clip in enumerate(show.clips)),
    ]
    return page_html(f"Augmentations of {name}", parts)


def wav_uri(wave: npt.NDArray[np.float32], sample_rate_hz: int) -> str:
    """A waveform as a data URI of a WAV file, 16 bits; what lies beyond full scale is cut off."""
    file = io.BytesIO()
    soundfile.write(file, wave.clip(-1, 1), sample_rate_hz, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


def _clip_html(i: int, clip: ShownClip, show: ClipShow) -> str:
    shown = [n for n, look in enumerate(clip.looks) if look.step == READ or look.changed]
    cards = "".join(_card_html(clip, n, show, is_last=0 < n == shown[-1]) for n in shown)
    quiet = [look.step for n, look in enumerate(clip.looks) if n not in shown]
    left = f"<p class='soft'>Left alone by {escape(', '.join(quiet))}.</p>" if quiet else ""
    before, after = (label_words(clip.looks[n].labels) or "none" for n in (0, -1))
    return section_html(
        f"Clip {i + 1}: {clip.recording}",
        f"<p>Labels before: <strong>{escape(before)}</strong>; after: "
        f"<strong>{escape(after)}</strong></p><div class='cards'>{cards}</div>{left}",
    )


def _card_html(clip: ShownClip, n: int, show: ClipShow, *, is_last: bool) -> str:
    """A look as a card: title, waveform and spectrogram, sound, numbers, what was drawn."""
    look, before = clip.looks[n], clip.looks[max(0, n - 1)]
    title = "as it is read" if look.step == READ else f"after {look.step}"
    title += ", as it is trained on" if is_last else ""
    sound = (
        "<p class='soft'>The waveform is as before.</p>"
        if n > 0 and np.array_equal(look.wave, before.wave)
        else f"<audio controls preload='none' aria-label='{escape(title)}' "
        f"src='{wav_uri(look.wave, show.sample_rate_hz)}'></audio>"
    )
    s, labels = look.sound, label_words(look.labels)
    level = f"{s.rms_db:.1f} dB, peak {s.peak:.3f}, centroid {s.centroid_hz:.0f} Hz"
    lines = [level if s.peak > 0 else "silent", look.drawn]
    if n > 0 and labels != label_words(before.labels):
        lines.append(f"labels {labels}")
    words = "".join(f"<p class='soft'>{escape(line)}</p>" for line in lines if line)
    figure = figure_html(plot_look(get_look_info(look, show)))
    return f"<div class='card'><h3>{escape(title)}</h3>{figure}{sound}{words}</div>"
