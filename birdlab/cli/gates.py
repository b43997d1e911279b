"""Gates of a promotion as a command prints them: a table, then what brings what is lacking."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdlab.study.ensemble_gates import Gate

STATE_WIDTH, NAME_WIDTH = 11, 37
LEAST_WIDTH, MOST_WIDTH = 40, 140
SIDE_BY_SIDE = 100
"""From so many characters on, what was found and what is wanted stand in columns."""


def gate_lines(gates: Sequence[Gate], width: int) -> list[str]:
    """The table as lines of at most `width` characters: state, gate, found, wanted.

    In a narrow terminal found and wanted stand below their gate. At the end comes, for each gate
    that refuses, the command or the change that helps, and for notices what would tell more.
    """
    width = min(max(width, LEAST_WIDTH), MOST_WIDTH)
    lines = _columns(gates, width) if width >= SIDE_BY_SIDE else _blocks(gates, width)
    lines += _help_lines("what helps:", gates, ("not met", "no evidence"))
    return lines + _help_lines("what would tell more:", gates, ("notice",))


def _help_lines(heading: str, gates: Sequence[Gate], states: Sequence[str]) -> list[str]:
    """What the gates in these states ask for, gates that ask for the same together."""
    told: dict[str, list[str]] = {}
    for gate in gates:
        if gate.state in states and gate.command:
            told.setdefault(gate.command, []).append(gate.name)
    lines = ["", heading] if told else []
    for command, names in told.items():
        lines += [f"  {', '.join(names)}", f"    {command}"]
    return lines


def count_states(gates: Sequence[Gate]) -> str:
    """How many gates are in which state, in words."""
    states = [gate.state for gate in gates]
    said = [
        f"{states.count(state)} {state}"
        for state in ("met", "notice", "not met", "no evidence")
        if state in states
    ]
    return f"{len(gates)} gates: {', '.join(said)}"


def _columns(gates: Sequence[Gate], width: int) -> list[str]:
    """A row a gate."""
    rest = width - STATE_WIDTH - NAME_WIDTH - 6
    found_width = rest * 3 // 5
    widths = (STATE_WIDTH, NAME_WIDTH, found_width, rest - found_width)
    lines = _row(("state", "gate", "found", "wanted"), widths)
    for gate in gates:
        lines += _row((gate.state, gate.name, gate.number, gate.threshold), widths)
    return lines


def _blocks(gates: Sequence[Gate], width: int) -> list[str]:
    """A gate a line, and below it what was found and what is wanted."""
    lines, rest = [], width - STATE_WIDTH - 10
    for gate in gates:
        lines += _row((gate.state, gate.name), (STATE_WIDTH, width - STATE_WIDTH - 2))
        for label, text in (("found", gate.number), ("wanted", gate.threshold)):
            lines += _row(("", label, text), (STATE_WIDTH, 6, rest - 1))
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row of the table as lines, each cell wrapped in its column."""
    wrapped = [textwrap.wrap(cell, w) or [""] for cell, w in zip(cells, widths, strict=True)]
    height = max(map(len, wrapped))
    padded = [column + [""] * (height - len(column)) for column in wrapped]
    return [
        "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    ]
