"""One line of docs/benchmarks.md, and how a benchmark leaves it in its report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Theme = Literal[
    "Data", "Training", "Sweeps", "Commands", "Tracking and pages", "Promotion and prediction",
    "Statistics",
]  # fmt: skip
THEMES: tuple[Theme, ...] = Theme.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Row:
    """What was measured of birdlab and of a peer in the same run, and what was asked for.

    `ahead` says how many times as good as the peer birdlab is: as fast, or as small; None where
    the bound is a number by itself. `held` is None where nothing was asked. `why` says what lies
    behind it where birdlab is behind.
    """

    theme: Theme
    what: str
    birdlab: str
    peer: str = ""
    ahead: float | None = None
    asked: str = ""
    held: bool | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.theme not in THEMES:
            raise ValueError(f"theme {self.theme!r} is none of {', '.join(THEMES)}")
        if self.held is not None and not self.asked:
            raise ValueError(f"{self.what}: what was asked for?")

    def told(self, asked: str, held: bool, why: str = "") -> Row:
        """The row with what was asked for, and whether that is held."""
        return replace(self, asked=asked, held=held, why=why)


def note(benchmark: Any, row: Row) -> None:
    """The row added to what the JSON report holds of this benchmark; call it before an assert."""
    benchmark.extra_info.setdefault("rows", []).append(asdict(row))
