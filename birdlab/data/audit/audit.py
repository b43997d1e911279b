"""The whole audit of a table, from its rows and, where they are known, the facts of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from birdlab.data.audit.files import Files, find_files
from birdlab.data.audit.findings import describe_findings
from birdlab.data.audit.overlaps import Leaks, find_leaks
from birdlab.data.audit.sentences import LEAK
from birdlab.data.audit.support import Support, find_support
from birdlab.data.table import DataTable

_WORDS = {"file_key": "equal bytes", "content": "equal decoded samples"}


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found, as tables and numbers.

    content: by what equal audio was told, in words; "" when no file was looked at. findings:
    severity (leak, warning, note), finding, fix; most important first.
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
    file_keys: Mapping[str, str] | None = None,
    sample_rate_hz: int = 32_000,
    skips_bad: bool = False,
) -> Audit:
    """The audit of a table.

    `tables`: the data sets as loaded, by name; else counts are looked at after cleaning.
    `headers` and `signals`: facts of the files, with their paths as text for index (see Facts).
    `file_keys`: path to hash of the file: files of equal bytes are equal audio, also where no
    samples are known. `skips_bad`: the experiment leaves out files that cannot be read.
    """
    known: dict[str, Mapping[str, str]] = {}
    if file_keys:
        known["file_key"] = file_keys
    if signals is not None and not signals.empty:
        known["content"] = signals["content"].to_dict()
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
        " or ".join(_WORDS[name] for name in known),
        leaks,
        support,
        files,
        describe_findings(leaks, support, files, sample_rate_hz, skips_bad=skips_bad),
    )


def _with_content(rows: pd.DataFrame, known: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    paths = rows["path"].astype(str)
    return rows.assign(**{name: paths.map(keys).fillna("") for name, keys in known.items()})
