"""A finding, and how shares stand in its sentence."""

from __future__ import annotations

from typing import NamedTuple

LEAK, WARNING, NOTE = "leak", "warning", "note"


class Finding(NamedTuple):
    """One thing worth knowing: how bad, what, and what to do ("" = nothing)."""

    severity: str
    finding: str
    fix: str = ""


def percent(share: float) -> str:
    """A share as text: `77.2 %`, small ones not rounded to nothing; "" for NaN."""
    if share != share:
        return ""
    return f"{100 * share:.1f} %" if share == 0 or share >= 5e-4 else "< 0.1 %"


def percents(low: float, high: float) -> str:
    """A range of shares as text: `1.0 % to 2.0 %`, or one of them where they read the same."""
    texts = dict.fromkeys((percent(low), percent(high)))
    return " to ".join(texts)
