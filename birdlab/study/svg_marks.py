"""Markers of a drawn figure, in the shapes and names that Plotly gives them."""

from __future__ import annotations

import html
from typing import Any

OUTLINES = {
    "square": "-1,-1 1,-1 1,1 -1,1",
    "diamond": "0,-1.3 1.3,0 0,1.3 -1.3,0",
    "triangle-up": "0,-1.2 1.15,.9 -1.15,.9",
    "triangle-down": "0,1.2 1.15,-.9 -1.15,-.9",
}
STROKES = {"x": "M-1 -1L1 1M-1 1L1 -1", "cross": "M0 -1.2L0 1.2M-1.2 0L1.2 0"}
DEFAULT = "#2E86C9"


def marker_svg(marker: Any, i: int, x: float, y: float, said: str, line: Any = None) -> str:
    """Marker i of a trace at a place (px), with what is said when a pointer rests on it.

    Without a colour of its own it takes that of the `line`.
    """
    size = marker.size
    radius = float(_item(size, i) if size is not None else 6) / 2
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
