"""Axes of a drawn figure: where a value lies, and which ticks are written beside it."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
PAD = 0.04
"""Room beyond the outermost values, as a share of what they span."""


@dataclass(frozen=True)
class Scale:
    """From values to a line that runs from `first` to `last` (pixels).

    kind: linear, log (base 10) or category; low, high: the ends in the axis' own measure, which
    is the logarithm, or the place of a category; names: the categories in order; ticks: places
    and labels.
    """

    kind: str
    low: float
    high: float
    first: float
    last: float
    names: tuple[str, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()

    def measure(self, value: Any) -> float:
        """A value in the axis' own measure; NaN for none, and for 0 or less on a log axis."""
        if self.kind == "category":
            return float(self.names.index(str(value)))
        number = math.nan if value is None else float(value)
        if self.kind == "log":
            return math.log10(number) if number > 0 else math.nan
        return number

    def pixel(self, measure: float) -> float:
        """Where a measure lies."""
        return self.first + (measure - self.low) / (self.high - self.low) * (self.last - self.first)

    def at(self, value: Any) -> float:
        """Where a value lies; NaN where it has no place."""
        return self.pixel(self.measure(value))


def build_scale(
    values: Sequence[Any], axis: Any, first: float, last: float, *, n_ticks: int = 6
) -> Scale:
    """The scale of an axis of a Plotly figure for the values that are drawn on it.

    Texts make it one of categories, in the order of the axis where it names one. `range`,
    `tickvals` and `ticktext` of the axis are kept to.
    """
    if any(isinstance(value, str) for value in values) or axis.type == "category":
        listed = [str(v) for v in (axis.categoryarray if axis.categoryarray is not None else ())]
        names = tuple(dict.fromkeys([*listed, *(str(v) for v in values)]))
        ticks = tuple((float(i), html.unescape(name)) for i, name in enumerate(names))
        return Scale("category", -0.6, len(names) - 0.4, first, last, names, ticks)
    kind = "log" if axis.type == "log" else "linear"
    bare = Scale(kind, 0, 1, first, last)
    low, high = _ends([bare.measure(value) for value in values], axis.range)
    if axis.tickvals is not None:
        texts = axis.ticktext if axis.ticktext is not None else [f"{v:g}" for v in axis.tickvals]
        given = zip(axis.tickvals, texts, strict=True)
        ticks = tuple((bare.measure(v), html.unescape(str(text))) for v, text in given)
    elif kind == "log":
        ticks = tuple((math.log10(v), f"{v:g}") for v in log_ticks(low, high))
    else:
        step, found = linear_ticks(low, high, n_ticks)
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if _is_quarter(step) else 0)
        ticks = tuple((v, f"{v:.{digits}f}") for v in found)
    inside = tuple(tick for tick in ticks if low <= tick[0] <= high)
    return Scale(kind, low, high, first, last, (), inside)


def linear_ticks(low: float, high: float, most: int) -> tuple[float, list[float]]:
    """A round step and its multiples between two ends, at most `most` of them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in STEPS if power * s >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return step, [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two exponents; with 2 and 5 times them where those are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    steps = (1,) if high - low > 3 else (1, 2, 5)
    return [s * 10.0**k for k in powers for s in steps if low <= math.log10(s * 10.0**k) <= high]


def _ends(measures: list[float], given: Any) -> tuple[float, float]:
    if given is not None and None not in given:
        return float(given[0]), float(given[1])
    real = [m for m in measures if math.isfinite(m)] or [0.0, 1.0]
    low, high = min(real), max(real)
    room = (high - low) * PAD or abs(high) * PAD or 1.0
    return low - room, high + room


def _is_quarter(step: float) -> bool:
    return round(step / 10.0 ** math.floor(math.log10(step) + 1e-9), 6) == 2.5
