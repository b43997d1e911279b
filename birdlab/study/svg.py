"""Figures of the study as SVG: some kilobytes each, without a script, for dark and light pages.

What Plotly draws in a browser takes 5 MB of script a page; here the same figure is drawn for a
report that is kept, logged or pasted. Only what the study's figures are made of can be drawn:
lines, markers, error bars, bars, heat maps, bands and lines across.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from birdlab.errors import DataError
from birdlab.study.svg_marks import (
    Marker,
    box_svg,
    line_svg,
    marker_svg,
    path_svg,
    shade,
    text_svg,
)
from birdlab.study.svg_scales import Scale, build_scale

WIDE, NARROW = 760, 380
LETTER, LINE = 7.4, 18
"""The width of a letter and the height of a line of text, px."""
MOST_MARKS = 40
"""A line of more points is drawn without its markers."""
TRACES = ("scatter", "bar", "heatmap")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}"
    "@media(prefers-color-scheme:dark){text{fill:#e8eaed}}"
)
GRID, AXIS = "#88888844", "#888888"


@dataclass(frozen=True)
class Frame:
    """The inside of the axes (px) and the two scales."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale


def draw_svg(figure: go.Figure, *, width: int = WIDE, title: str = "", alone: bool = True) -> str:
    """The figure as an SVG element; `alone` gives it colours of its own, for a file by itself.

    `title` is what a screen reader says. Raises DataError for a trace that it cannot draw.
    """
    for trace in figure.data:
        if trace.type not in TRACES:
            raise DataError(
                "a figure has a part that is not drawn as SVG",
                got=trace.type,
                expected=", ".join(TRACES),
            )
    height = float(figure.layout.height or 400)
    legend = list(_legend(figure, width))
    n_lines = 1 + max((line for _, line, _ in legend), default=-1)
    frame = _build_frame(figure, width, height, top=LINE * (n_lines + 0.5))
    parts = [
        *_grid(figure, frame),
        *(_shape(shape, frame) for shape in figure.layout.shapes),
        *(part for trace in figure.data for part in _trace(trace, frame)),
        *(_legend_item(trace, x, LINE * (y + 0.8)) for x, y, trace in legend),
    ]
    style = f"<style>{STYLE}</style>" if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
        f'width="{width}" role="img" aria-label="{html.escape(title)}">'
        f"{style}{''.join(parts)}</svg>"
    )


def _build_frame(figure: go.Figure, width: int, height: float, *, top: float) -> Frame:
    """Room for the labels first, then the scales over what is left."""
    xs, ys = _drawn(figure, "x"), _drawn(figure, "y")
    layout = figure.layout
    probe = build_scale(ys, layout.yaxis, 0, 1)
    longest = max((len(label) for _, label in probe.ticks), default=0)
    left = min(10 + LETTER * longest, 0.45 * width)
    top += LINE if layout.yaxis.title.text else 4
    bottom = height - (2.4 if layout.xaxis.title.text else 1.3) * LINE
    right = width - 14.0
    down = (top, bottom) if layout.yaxis.autorange == "reversed" else (bottom, top)
    x = build_scale(xs, layout.xaxis, left, right, n_ticks=max(3, round((right - left) / 75)))
    y = build_scale(ys, layout.yaxis, *down, n_ticks=max(3, round((bottom - top) / 45)))
    return Frame(left, top, right, bottom, x, y)


def _drawn(figure: go.Figure, side: str) -> list[Any]:
    """Every value that one axis has to show, ends of error bars and of shapes included."""
    values: list[Any] = []
    for trace in figure.data:
        own = list(trace[side] if trace[side] is not None else ())
        values += own
        if trace.type == "bar" and side == ("x" if trace.orientation == "h" else "y"):
            values.append(0.0)
        error = None if trace.type == "heatmap" else trace[f"error_{side}"]
        if error is not None and error.array is not None:
            lows = error.arrayminus if error.arrayminus is not None else error.array
            values += [v + e for v, e in zip(own, error.array, strict=True)]
            values += [v - e for v, e in zip(own, lows, strict=True)]
    for shape in figure.layout.shapes:
        if shape[f"{side}ref"] == side:
            values += [shape[f"{side}0"], shape[f"{side}1"]]
    return values


def _grid(figure: go.Figure, f: Frame) -> Iterator[str]:
    last = -math.inf
    for place, label in f.x.ticks:
        x, half = f.x.pixel(place), LETTER * len(label) / 2
        yield line_svg(x, f.top, x, f.bottom, GRID)
        if x - half > last:  # labels that would lie over the one before are left out
            yield text_svg(x, f.bottom + 15, label, "middle")
            last = x + half + 4
    room = int((f.left - 8) / LETTER)
    for place, label in f.y.ticks:
        y = f.y.pixel(place)
        yield line_svg(f.left, y, f.right, y, GRID)
        yield text_svg(f.left - 6, y + 4, _shorten(label, room), "end")
    layout = figure.layout
    if layout.xaxis.title.text:
        middle = (f.left + f.right) / 2
        yield text_svg(
            middle, f.bottom + 2 * LINE, html.unescape(layout.xaxis.title.text), "middle"
        )
    if layout.yaxis.title.text:
        yield text_svg(4, f.top - 8, html.unescape(layout.yaxis.title.text), "start")


def _shape(shape: Any, f: Frame) -> str:
    """A band or a line across; a side that does not follow an axis spans the whole frame."""
    x0, x1 = (f.x.at(shape.x0), f.x.at(shape.x1)) if shape.xref == "x" else (f.left, f.right)
    y0, y1 = (f.y.at(shape.y0), f.y.at(shape.y1)) if shape.yref == "y" else (f.top, f.bottom)
    if shape.type == "line":
        return line_svg(x0, y0, x1, y1, shape.line.color or AXIS, shape.line.dash)
    return (
        f'<rect x="{min(x0, x1):.1f}" y="{min(y0, y1):.1f}" width="{abs(x1 - x0):.1f}" '
        f'height="{abs(y1 - y0):.1f}" fill="{html.escape(shape.fillcolor or AXIS)}" '
        f'opacity="{1 if shape.opacity is None else shape.opacity:g}"/>'
    )


def _trace(trace: Any, f: Frame) -> Iterator[str]:
    if trace.type == "heatmap":
        yield from _heatmap(trace, f)
        return
    points = [(f.x.at(x), f.y.at(y)) for x, y in zip(trace.x, trace.y, strict=True)]
    if trace.type == "bar":
        yield from _bars(trace, points, f)
        return
    mode = trace.mode or "lines+markers"
    if "lines" in mode:
        yield path_svg(points, trace.line)
    yield from _errors(trace, f)
    if "markers" in mode and not ("lines" in mode and len(points) > MOST_MARKS):
        texts, xs, ys = _listed(trace.text, len(points)), trace.x, trace.y
        marker, line = Marker.of(trace.marker), trace.line.color  # plotly answers slowly, so once
        for i, (x, y) in enumerate(points):
            if math.isfinite(x) and math.isfinite(y):
                yield marker_svg(marker, i, x, y, _said(texts[i], xs[i], ys[i]), line)
                if "text" in mode:
                    yield text_svg(x, y - 10, html.unescape(str(texts[i] or "")), "middle")


def _errors(trace: Any, f: Frame) -> Iterator[str]:
    for side in ("x", "y"):
        error = trace[f"error_{side}"]
        if error.array is None:
            continue
        lows = error.arrayminus if error.arrayminus is not None else error.array
        colour, width = error.color or AXIS, error.thickness or 1.5
        for x, y, up, down in zip(trace.x, trace.y, error.array, lows, strict=True):
            if not up and not down:
                continue
            ends = (f.x.at(x - down), f.y.at(y), f.x.at(x + up), f.y.at(y))
            if side == "y":
                ends = (f.x.at(x), f.y.at(y - down), f.x.at(x), f.y.at(y + up))
            yield line_svg(*ends, colour, width=width)


def _bars(trace: Any, points: Sequence[tuple[float, float]], f: Frame) -> Iterator[str]:
    lying = trace.orientation == "h"
    across = f.y if lying else f.x
    n = len(across.names) or len(points)
    thick = 0.7 * abs(across.last - across.first) / max(n, 1)
    zero = f.x.at(0) if lying else f.y.at(0)
    for i, (x, y) in enumerate(points):
        box = (min(zero, x), y - thick / 2, abs(x - zero), thick)
        if not lying:
            box = (x - thick / 2, min(zero, y), thick, abs(y - zero))
        colour = shade(trace.marker.color, i)
        yield box_svg(*box, colour, _said("", trace.x[i], trace.y[i]))


def _heatmap(trace: Any, f: Frame) -> Iterator[str]:
    """A rectangle per cell, darker where its value is higher, and the text of the cell on it."""
    wide = abs(f.x.last - f.x.first) / (f.x.high - f.x.low)
    high = abs(f.y.last - f.y.first) / (f.y.high - f.y.low)
    real = [float(v) for row in trace.z for v in row if v is not None and math.isfinite(v)]
    low, span = min(real, default=0.0), (max(real, default=1.0) - min(real, default=0.0)) or 1.0
    for i, (y, row) in enumerate(zip(trace.y, trace.z, strict=True)):
        for j, (x, z) in enumerate(zip(trace.x, row, strict=True)):
            if z is None or not math.isfinite(z):
                continue
            left, top = f.x.at(x) - wide / 2, f.y.at(y) - high / 2
            strength = 0.15 + 0.7 * (float(z) - low) / span
            yield box_svg(left, top, wide - 2, high - 2, "#2E86C9", _said("", x, y), strength)
            if trace.text is not None:
                said = html.unescape(str(trace.text[i][j]))
                yield text_svg(f.x.at(x), f.y.at(y) + 4, said, "middle")


def _legend(figure: go.Figure, width: int) -> Iterator[tuple[float, int, Any]]:
    """Where the name of each trace goes: x in px, the line from the top, the trace."""
    named = [t for t in figure.data if t.name and t.type == "scatter" and t.showlegend is not False]
    x, line = 4.0, 0
    for trace in named if len(named) > 1 else []:
        needed = 26 + LETTER * len(html.unescape(trace.name))
        if x > 4 and x + needed > width:
            x, line = 4.0, line + 1
        yield x, line, trace
        x += needed


def _legend_item(trace: Any, x: float, y: float) -> str:
    mode = trace.mode or "lines+markers"
    sign = path_svg([(x, y - 4), (x + 16, y - 4)], trace.line) if "lines" in mode else ""
    if "markers" in mode:
        sign += marker_svg(Marker.of(trace.marker), 0, x + 8, y - 4, "", trace.line.color)
    return sign + text_svg(x + 20, y, html.unescape(trace.name), "start")


def _said(text: object, x: object, y: object) -> str:
    """What is said of a point: its text and values."""
    shown = (f"{v:.6g}" if isinstance(v, float) else html.unescape(str(v)) for v in (x, y))
    values = ", ".join(shown)
    own = html.unescape(str(text)).replace("<br>", ", ") if text else ""
    return f"{own}: {values}" if own else values


def _listed(value: Any, n: int) -> list[Any]:
    return [value] * n if value is None or isinstance(value, str) else list(value)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[len(text) - most + 1 :]}"
