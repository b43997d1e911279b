"""Marks of a drawn figure: lines, boxes, texts, and markers in the shapes that Plotly names."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OUTLINES = {
    "square": "-1,-1 1,-1 1,1 -1,1",
    "diamond": "0,-1.3 1.3,0 0,1.3 -1.3,0",
    "triangle-up": "0,-1.2 1.15,.9 -1.15,.9",
    "triangle-down": "0,1.2 1.15,-.9 -1.15,-.9",
}
STROKES = {"x": "M-1 -1L1 1M-1 1L1 -1", "cross": "M0 -1.2L0 1.2M-1.2 0L1.2 0"}
DEFAULT, GREY = "#2E86C9", "#888888"


@dataclass(frozen=True)
class Marker:
    """How the marks of a trace look: one value for all of them, or a list with one for each."""

    size: Any
    symbol: Any
    color: Any
    opacity: Any

    @classmethod
    def of(cls, marker: Any) -> Marker:
        """As plotly's `marker` of a trace says."""
        return cls(marker.size, marker.symbol, marker.color, marker.opacity)


def marker_svg(marker: Marker, i: int, x: float, y: float, said: str, line: Any = None) -> str:
    """Marker i of a trace at a place (px), with what is said when a pointer rests on it.

    Without a colour of its own it takes that of the `line`.
    """
    radius = float(_item(marker.size, i) if marker.size is not None else 6) / 2
    symbol = str(_item(marker.symbol, i) or "circle")
    colour = html.escape(shade(marker.color or line, i))
    name = symbol.removesuffix("-open")
    opacity = _item(marker.opacity, i)
    paint = f'fill="{colour}"' if name == symbol else f'fill="none" stroke="{colour}"'
    paint += "" if opacity is None else f' opacity="{float(opacity):g}"'
    title = f"<title>{html.escape(said)}</title>" if said else ""
    if name in STROKES:
        drawn = f'<path d="{STROKES[name]}" fill="none" stroke="{colour}" stroke-width=".6"'
    elif name in OUTLINES:
        drawn = f'<polygon points="{OUTLINES[name]}" vector-effect="non-scaling-stroke" {paint}'
    else:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {paint}>{title}</circle>'
    end = "path" if name in STROKES else "polygon"
    return f'{drawn} transform="translate({x:.1f} {y:.1f}) scale({radius:g})">{title}</{end}>'


def shade(colour: Any, i: int) -> str:
    """The colour of mark i: one for all, or a list of them."""
    return str(_item(colour, i) or DEFAULT)


def _item(value: Any, i: int) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return value[i]


def path_svg(points: Sequence[tuple[float, float]], line: Any) -> str:
    """A line through the points, broken where one has no place."""
    steps, pen = [], "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            steps.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    dash = ' stroke-dasharray="5 4"' if line.dash not in (None, "solid") else ""
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="{html.escape(line.color or GREY)}" '
        f'stroke-width="{line.width or 1.5:g}"{dash}/>'
    )


def line_svg(
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    colour: str,
    dash: str | None = None,
    width: float = 1,
) -> str:
    """A line between two places (px)."""
    dashed = ' stroke-dasharray="5 4"' if dash not in (None, "solid") else ""
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" '
        f'stroke="{html.escape(colour)}" stroke-width="{width:g}"{dashed}/>'
    )


def box_svg(
    x: float, y: float, width: float, height: float, colour: str, said: str, opacity: float = 1
) -> str:
    """A filled box, with what is said when a pointer rests on it."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill="{html.escape(colour)}" fill-opacity="{opacity:.2f}">'
        f"<title>{html.escape(said)}</title></rect>"
    )


def text_svg(x: float, y: float, text: str, anchor: str) -> str:
    """A line of text; `anchor` is what of it lies at x: start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
