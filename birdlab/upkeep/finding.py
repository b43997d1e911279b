"""One line of what `birdlab doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, in words, and what to do where it is not well."""

    level: Literal["ok", "warn", "bad"]
    what: str
    said: str
    fix: str = ""
