"""Tables that fit a terminal: what all rows share is said once, what is left is cut last."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from birdlab.words import cut_text

LEAST_CHARACTERS = 24
"""Columns are left out until so much of the last one, which is a name, is shown."""


@dataclass(frozen=True)
class Column:
    """A column as text: its head, a text a row, and how it stands.

    need: 0 for what is always shown, else what is left out first has the highest; gap: spaces
    before it; width: characters at least; called: its name in a sentence, where not the head.
    """

    head: str
    texts: tuple[str, ...]
    need: int = 0
    gap: int = 2
    width: int = 0
    to_right: bool = False
    called: str = ""

    @property
    def full_width(self) -> int:
        """Characters of the widest text, or of the head, where that is more than `width`."""
        return max(self.width, len(self.head), *map(len, self.texts))

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return self.called or self.head.strip()


def terminal_width() -> int | None:
    """The columns of the terminal that results go to; None for a pipe or a file."""
    from birdlab.cli.progress import console

    return console.width if sys.stdout.isatty() else None


def column_lines(columns: Sequence[Column], width: int | None, more: str) -> list[str]:
    """A head and a line a row; within `width` characters where that is given.

    `more` is where what was left out is found. The first column and those without a need stay.
    """
    if width is None:
        return _lines(columns)
    shown = list(columns)
    alike = [c for c in shown if c.need and len(c.texts) > 1 and len(set(c.texts)) == 1]
    shown = [c for c in shown if c not in alike]
    said = [f"{c.name} {c.texts[0].strip()}" for c in alike if c.texts[0].strip()]
    left_out = []
    while _room(shown, width) < LEAST_CHARACTERS and any(c.need for c in shown):
        last = max((c for c in shown if c.need), key=lambda c: c.need)
        left_out.append(last.name)
        shown.remove(last)
    room = max(LEAST_CHARACTERS, _room(shown, width))
    names = shown[-1]
    shown[-1] = replace(names, texts=tuple(cut_text(text, room) for text in names.texts))
    lines = _lines(shown)
    notes = [f"all rows: {', '.join(said)}"] if said else []
    if left_out:
        notes.append(f"not shown in {width} columns: {', '.join(left_out)}; see {more}")
    return [*lines, *(line for note in notes for line in textwrap.wrap(note, width))]


def _room(columns: Sequence[Column], width: int) -> int:
    """The characters that are left for the last column."""
    *others, last = columns
    return width - sum(c.gap + c.full_width for c in others) - last.gap


def _lines(columns: Sequence[Column]) -> list[str]:
    widths = [column.full_width for column in columns]
    rows = zip(*([c.head, *c.texts] for c in columns), strict=True)
    return [
        "".join(
            " " * c.gap + (text.rjust(width) if c.to_right else text.ljust(width))
            for c, text, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
