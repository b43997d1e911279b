"""Tables in a terminal: within its width, nothing silently left out; whole in a pipe."""

from __future__ import annotations

import pytest

from birdlab.cli.columns import Column, column_lines

COLUMNS = (
    Column("run", ("a1", "b2"), gap=0, width=4),
    Column("score", ("0.5", "0.75"), to_right=True),
    Column("floor", ("0.1", "0.1"), need=2, to_right=True),
    Column("AUC", ("0.6", "0.7"), need=3, gap=1, called="synthetic AUC"),
    Column("rows", ("10", "12"), need=1, to_right=True),
    Column("empty", ("", ""), need=1),
    Column("name", ("lr=0.001, or_mixup.p=0.995", "base")),
)


def test_a_pipe_gets_every_column_whole() -> None:
    assert column_lines(COLUMNS, None, "--csv") == [
        "run   score  floor AUC  rows  empty  name",
        "a1      0.5    0.1 0.6    10         lr=0.001, or_mixup.p=0.995",
        "b2     0.75    0.1 0.7    12         base",
    ]


def test_a_wide_terminal_gets_what_differs_and_once_what_does_not() -> None:
    assert column_lines(COLUMNS, 100, "--csv") == [
        "run   score AUC  rows  name",
        "a1      0.5 0.6    10  lr=0.001, or_mixup.p=0.995",
        "b2     0.75 0.7    12  base",
        "all rows: floor 0.1",
    ]


def test_a_narrow_terminal_loses_what_is_needed_least_and_says_so() -> None:
    assert column_lines(COLUMNS, 44, "--csv") == [
        "run   score  rows  name",
        "a1      0.5    10  lr=0.001, or_mixup.p=0...",
        "b2     0.75    12  base",
        "all rows: floor 0.1",
        "not shown in 44 columns: synthetic AUC; see",
        "--csv",
    ]


@pytest.mark.parametrize("width", [20, 36, 60, 200])
def test_what_is_always_shown_stays_in_any_width(width: int) -> None:
    head, *rows = column_lines(COLUMNS, width, "--csv")
    assert head.split()[:2] == ["run", "score"] and head.endswith("name")
    assert rows[0].startswith("a1") and "lr=0.001" in rows[0] and rows[1].endswith("base")
    said = " ".join(rows[2:])
    for column in COLUMNS:
        assert column.head in head or column.name in said or column.name == "empty"


def test_one_row_shares_nothing() -> None:
    one = [Column("run", ("a",)), Column("floor", ("0.1",), need=1), Column("name", ("x",))]
    assert column_lines(one, 80, "")[0].split() == ["run", "floor", "name"]
