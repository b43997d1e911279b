"""The report of a campaign: cases by kind and outcome as a table, and how to run a fault again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .campaign import KINDS, Outcome, read_outcome

_HEAD = ("kind", "cases", "exit 0", "exit 1", "exit 2", "faults", "longest s")


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes of a report, by number; a last line that was cut by a kill is left out."""
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return sorted(map(read_outcome, lines), key=lambda outcome: outcome.number)


def report_lines(outcomes: Sequence[Outcome], seed: int) -> list[str]:
    """A Markdown table with a row for each kind and for all, then a line for each fault."""
    rows = [_row(kind, [o for o in outcomes if o.kind == kind]) for kind in KINDS]
    rows.append(_row("all", outcomes))
    lines = [f"| {' | '.join(_HEAD)} |", f"|---|{'---:|' * (len(_HEAD) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    faults = [o for o in outcomes if o.ended.fault]
    lines += [""] if faults else []
    for fault, n in Counter(o.ended.fault[:90] for o in faults).most_common():
        lines.append(f"{n} x {fault}")
        for outcome in [o for o in faults if o.ended.fault[:90] == fault][:5]:
            typed = " ".join(outcome.ended.argv)[:90]
            lines.append(f"    --seed {seed} --case {outcome.name}   # birdlab {typed}")
    return lines


def _row(kind: str, outcomes: Sequence[Outcome]) -> list[str]:
    codes = Counter(o.ended.code for o in outcomes if not o.ended.fault)
    faults = sum(bool(o.ended.fault) for o in outcomes)
    longest = max((o.ended.seconds for o in outcomes), default=0.0)
    counts = (len(outcomes), codes[0], codes[1], codes[2], faults)
    return [kind, *(f"{n:,}" for n in counts), f"{longest:.1f}"]
