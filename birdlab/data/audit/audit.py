"""The whole audit of a table, from its rows and, where they are known, the facts of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdlab.data.audit.files import Files, find_files
from birdlab.data.audit.findings import describe_findings
from birdlab.data.audit.overlaps import Leaks, find_leaks
from birdlab.data.audit.sentences import LEAK
from birdlab.data.audit.support import Support, find_support
from birdlab.data.table import DataTable

CONTENT_NOT_KNOWN = ""
CONTENT_BY_BYTES = "bytes of the files"
CONTENT_BY_SAMPLES = "decoded samples"


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found, as tables and numbers.

    content: how equal audio was told: by decoded samples, by the bytes of the files, or not at
    all (""). findings: severity (leak, warning, note), finding, fix; most important first.
    """

    n_base: int
    n_extra: int
    n_classes: int
    waterfall: pd.DataFrame
    content: str
    leaks: Leaks
    support: Support
    files: Files
    findings: pd.DataFrame

    @property
    def has_leaks(self) -> bool:
        """Whether any finding is a leak."""
        return bool((self.findings["severity"] == LEAK).any())


def audit_table(
    data: DataTable,
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    headers: pd.DataFrame | None = None,
    signals: pd.DataFrame | None = None,
    contents: Mapping[str, str] | None = None,
    sample_rate_hz: int = 32_000,
) -> Audit:
    """The audit of a table.

    `tables`: the data sets as loaded, by name; else counts are looked at after cleaning.
    `headers` and `signals`: facts of the files, with their paths as text for index (see Facts).
    `contents`: path to hash of the file, for equal audio where no samples were decoded.
    """
    content, known = "", None
    if signals is not None and not signals.empty:
        content, known = CONTENT_BY_SAMPLES, signals["content"].to_dict()
    elif contents:
        content, known = CONTENT_BY_BYTES, dict(contents)
    rows = _with_content(data.rows, known)
    stages = {name: _with_content(table, known) for name, table in data.stages.items()}
    if tables is None:
        tables = {str(name): part for name, part in rows.groupby("dataset", sort=False)}
        tables |= {name: table for name, table in stages.items() if name not in tables}
    leaks = find_leaks(rows, stages)
    support = find_support(rows, data.classes, tables)
    files = find_files(rows, stages, headers, signals)
    role = rows["role"]
    return Audit(
        int((role == "base").sum()),
        int((role == "extra").sum()),
        len(data.classes),
        data.waterfall,
        content,
        leaks,
        support,
        files,
        describe_findings(leaks, support, files, sample_rate_hz),
    )


def _with_content(rows: pd.DataFrame, known: Mapping[str, Any] | None) -> pd.DataFrame:
    if known is None:
        return rows
    return rows.assign(content=rows["path"].astype(str).map(known).fillna(""))
