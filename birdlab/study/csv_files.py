"""Tables as CSV that a spreadsheet may open."""

from __future__ import annotations

import pandas as pd


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV; a text that a spreadsheet would run as a formula gets a leading quote."""
    safe = table.map(lambda v: f"'{v}" if isinstance(v, str) and v[:1] in tuple("=+-@\t\r") else v)
    return str(safe.to_csv(index=False))
