"""The page of benchmarks says what was measured, and what is behind a peer or a bound."""

from __future__ import annotations

from pathlib import Path

import page
import pytest
from machine import describe_machine
from page import Measured, load_kept, render
from rows import Row, note

HERE = Path(__file__).parent


class Report:
    """What pytest-benchmark gives to a test, as far as a row needs it."""

    def __init__(self) -> None:
        self.extra_info: dict[str, list[dict[str, object]]] = {}


def test_rows_are_told_with_what_was_asked_and_what_is_behind() -> None:
    fast = Row("Data", "crops", "1 ms", "3 ms, decoding", 3.0).told("at least 2 x", True)
    slow = Row("Training", "steps", "2 s", "1 s, a loop", 0.5).told("ahead", False, "It does more.")
    alone = Row("Commands", "help", ".2 s")
    report = Report()
    for row in (fast, slow, alone):
        note(report, row)
    rows = [Row(**said) for said in report.extra_info["rows"]]  # type: ignore[arg-type]
    assert rows == [fast, slow, alone]
    machine = describe_machine(page.ROOT)
    text = render([Measured(row, "make bench ONLY=x") for row in rows], machine, 60.0)
    cells = "| crops | 1 ms | 3 ms, decoding | 3 x | at least 2 x | yes | `make bench ONLY=x` |"
    assert cells in text
    assert "Of 2 bounds 1 are held; not held: steps." in text
    behind = text.partition("## Behind a peer")[2]
    assert "- steps: 0.50 x. It does more." in behind and "crops" not in behind
    assert str(page.ROOT) not in text and machine.cpu in text


def test_a_row_of_no_theme_or_without_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="theme"):
        Row("Birds", "x", "1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="what was asked for"):
        Row("Data", "x", "1", held=True)


def test_every_benchmark_is_on_the_page() -> None:
    """Each notes a row, and each kept row is one that the page can show."""
    for path in HERE.glob("test_*.py"):
        text = path.read_text()
        assert "benchmark: Any" not in text or "note(" in text, path.name
    kept = load_kept()
    assert {m.command for m in kept} and all(m.when for m in kept)
