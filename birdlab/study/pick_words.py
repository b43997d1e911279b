"""Candidates of a pick as a table of text: rounded, intervals in one column."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

NAMES = {
    "mean": "expected private",
    "low": "80 % interval",
    "chance": "best of all",
    "picked": "pick",
}
PICK_COLUMNS = ("cv", "public", "mean", "low", "high", "chance", "picked")
NEXT_COLUMNS = ("cv", "mean", "low", "high", "promise", "teaches", "worth")
SIGNED = ("promise", "teaches", "worth")


def candidates_words(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The candidates with these columns of `Pick.table` or `rank_next` as text; `low`
    and `high` become one. A number that is not known is an empty text."""
    shown: dict[str, list[str]] = {
        "run": [str(run) for run in table["run"]],
        "name": [str(name) for name in table["name"]],
    }
    for column in columns:
        if column == "low":
            shown[NAMES[column]] = [
                f"{low:.4f} to {high:.4f}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ]
        elif column == "picked":
            shown[NAMES[column]] = ["pick" if picked else "" for picked in table["picked"]]
        elif column != "high":
            shown[NAMES.get(column, column)] = [_word(column, value) for value in table[column]]
    return pd.DataFrame(shown)


def _word(column: str, value: float) -> str:
    if pd.isna(value):
        return ""
    if column == "chance":
        return f"{100 * value:.0f} %"
    return f"{value:+.5f}" if column in SIGNED else f"{value:.4f}"
