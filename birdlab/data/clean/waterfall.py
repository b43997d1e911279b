"""The waterfall: how many rows and species each rule left, and which rows it dropped."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

WATERFALL = (
    "table",
    "rule",
    "rows_before",
    "rows_after",
    "species_before",
    "species_after",
    "note",
)
DROPPED = ("table", "dataset", "recording", "rule")
IDENTITY = ["dataset", "recording"]
"""What names a recording; a recording may have several rows, one per kept time range."""


class Waterfall:
    """Collects a line per rule and table, and the rows that went, in the order of the rules."""

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[object, ...]]] = {}
        self._dropped: list[pd.DataFrame] = []

    def add(
        self,
        table: str,
        rule: str,
        before: pd.DataFrame | None,
        after: pd.DataFrame,
        note: str = "",
    ) -> None:
        """Note what a rule made of a table; `before` is None where rows first come in."""
        rows = (0 if before is None else len(before), len(after))
        species = (0 if before is None else _species(before), _species(after))
        self._lines.setdefault(table, []).append((table, rule, *rows, *species, note))
        if before is not None and before is not after:
            self._dropped.append(_lost(before, after).assign(table=table, rule=rule))

    def refuse(self, table: str, dataset: str, files: Mapping[str, str]) -> None:
        """Note files that never became rows of a table, each with the reason."""
        for name, reason in files.items():
            line = pd.DataFrame({"dataset": [dataset], "recording": [name]})
            self._dropped.append(line.assign(table=table, rule=f"refused: {reason}"))

    @property
    def lines(self) -> pd.DataFrame:
        """The columns WATERFALL, a line per table and rule, table by table."""
        lines = [line for of_table in self._lines.values() for line in of_table]
        return pd.DataFrame(lines, columns=list(WATERFALL))

    @property
    def dropped(self) -> pd.DataFrame:
        """The columns DROPPED, a line per row that a rule dropped."""
        parts = [part for part in self._dropped if len(part)]
        if not parts:
            return pd.DataFrame({column: pd.Series(dtype=str) for column in DROPPED})
        return pd.concat(parts, ignore_index=True)[list(DROPPED)]


def _species(table: pd.DataFrame) -> int:
    return int(table["primary_label"].nunique())


def _lost(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """A row per row of a recording that is not in `after` any more."""
    had, has = (table.groupby(IDENTITY, sort=False).size() for table in (before, after))
    fewer = had - has.reindex(had.index, fill_value=0)
    fewer = fewer[fewer > 0]
    return fewer.index.repeat(fewer.to_numpy()).to_frame(index=False)
