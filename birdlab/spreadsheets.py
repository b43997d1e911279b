"""Tables as CSV that a spreadsheet may open."""

from __future__ import annotations

from typing import Any

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets calculate."""


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV; a text that a spreadsheet would run as a formula gets a leading quote.

    So do the names of columns, which may be those of species.
    """
    return str(table.map(_as_text).rename(columns=_as_text).to_csv(index=False))


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
