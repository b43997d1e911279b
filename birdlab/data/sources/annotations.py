"""Labels in time: annotation tables as published, Raven selection tables, competition tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.csvfile import (
    Findings,
    number_column,
    read_any_table,
    text_column,
    time_column,
)
from birdlab.errors import DataError
from birdlab.spec.kinds import nearest

NAMES = {
    "filename": ("filename", "begin file", "begin path"),
    "start_s": ("start_s", "start time (s)", "begin time (s)", "start"),
    "end_s": ("end_s", "end time (s)", "end"),
    "label": ("label", "species ebird code", "primary_label", "species", "annotation"),
}
"""What published tables call our columns, in lower case, the surest name first."""

SILENT = "nocall"
"""How competitions label a window in which nobody is heard."""

_RAVEN_SUFFIX = re.compile(r"(\.table\.\d+)?(\.selections)?\.(txt|tsv)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Annotations before their files are looked for.

    `rows` has filename, start_s, end_s, label; `files` are all names that were looked through,
    those in which nothing was heard among them.
    """

    rows: pd.DataFrame
    files: tuple[str, ...]


def read_annotations(
    table: pd.DataFrame, columns: Mapping[str, str], window_s: float, findings: Findings
) -> Labelled:
    """The annotations of a table: a row per label and stretch of time.

    `columns` says which of its columns is our filename, start_s, end_s or label; the others are
    told by NAMES. Several labels of a cell are separated by `;`. A table with row_id and birds
    (2021) labels the `window_s` before each end. Rows labelled SILENT give none. Raises
    DataError when a column cannot be told; times that are none, ends before starts and missing
    names go to `findings`.
    """
    if {"row_id", "birds"} <= set(table.columns) and not columns:
        rows = _competition_rows(table, window_s, findings)
    else:
        rows = _published_rows(table, columns, window_s, findings)
    lines = rows.index[rows["filename"] == ""].unique() + 2
    findings.add("filename is empty", (f"line {line}" for line in lines))
    sounding = rows[rows["label"] != SILENT]
    wrong = ~(sounding["end_s"] > sounding["start_s"]) & (sounding["filename"] != "")
    findings.add("end is not after start", sounding["filename"][wrong])
    again = sounding.duplicated()
    findings.note("annotation occurs again: counted once", sounding["filename"][again])
    files = tuple(dict.fromkeys(rows["filename"]))
    return Labelled(sounding[~again].reset_index(drop=True), files)


def read_raven_folder(folder: Path, columns: Mapping[str, str], findings: Findings) -> Labelled:
    """The annotations of every Raven selection table (.txt) of a folder.

    A table without a column for the file belongs to the one it is named after; one without a
    row says that this file is silent. Raises DataError when there is no table.
    """
    tables = sorted(path for path in folder.iterdir() if _RAVEN_SUFFIX.search(path.name))
    if not tables:
        raise DataError(
            "a folder holds no selection tables", where=str(folder), expected="files in .txt"
        )
    parts: list[pd.DataFrame] = []
    files: list[str] = []
    for path in tables:
        table = read_any_table(path)
        stem = _RAVEN_SUFFIX.sub("", path.name)
        if _column(table, "filename", columns, path) is None:
            table = table.assign(filename=stem)
        part = read_annotations(table, columns, 1.0, findings.at(path))
        parts.append(part.rows)
        files += part.files or (stem,)
    return Labelled(pd.concat(parts, ignore_index=True), tuple(dict.fromkeys(files)))


def _competition_rows(table: pd.DataFrame, window_s: float, findings: Findings) -> pd.DataFrame:
    """Rows of train_soundscape_labels.csv: row_id, site, audio_id, seconds, birds."""
    row_id = text_column(table, "row_id").str.rpartition("_")
    named = {"audio_id", "site"} <= set(table.columns)
    files = table["audio_id"] + "_" + table["site"] if named else row_id[0]
    ends = table if "seconds" in table.columns else pd.DataFrame({"seconds": row_id[2]})
    end_s = number_column(ends, "seconds", findings)
    labels = text_column(table, "birds").str.split()
    return _exploded(files, end_s - window_s, end_s, labels)


def _published_rows(
    table: pd.DataFrame, columns: Mapping[str, str], window_s: float, findings: Findings
) -> pd.DataFrame:
    found = {name: _column(table, name, columns, findings.where) for name in NAMES}
    lacking = [name for name in ("filename", "label") if found[name] is None]
    lacking += ["start_s or end_s"] * (found["start_s"] is None and found["end_s"] is None)
    if lacking:
        raise DataError(
            f"an annotation table has no column that is {', '.join(lacking)}",
            where=str(findings.where),
            got=", ".join(map(str, table.columns)),
            fix="name it in `columns` of the source",
        )
    ours = table.rename(columns={theirs: name for name, theirs in found.items() if theirs})
    files = text_column(ours, "filename")
    if str(found["filename"]).lower() == "begin path":
        files = files.str.replace("\\", "/", regex=False).str.rpartition("/")[2]
    times = {
        name: time_column(ours, name, findings)
        for name in ("start_s", "end_s")
        if found[name] is not None
    }
    start_s = times["start_s"] if "start_s" in times else times["end_s"] - window_s
    end_s = times["end_s"] if "end_s" in times else start_s + window_s
    labels = text_column(ours, "label").str.split(";")
    return _exploded(files, start_s, end_s, labels)


def _exploded(
    files: pd.Series, start_s: pd.Series, end_s: pd.Series, labels: pd.Series
) -> pd.DataFrame:
    """A row per label of each cell, under the index of the table; one with "" without any."""
    rows = pd.DataFrame({"filename": files, "start_s": start_s, "end_s": end_s, "label": labels})
    rows = rows.explode("label")
    rows["label"] = rows["label"].fillna("").astype(str).str.strip()
    return rows.astype({"start_s": np.float64, "end_s": np.float64})


def _column(table: pd.DataFrame, name: str, columns: Mapping[str, str], where: Path) -> str | None:
    """The table's column that is our `name`: the one the source says, else by NAMES, or None."""
    unknown = [key for key in columns if key not in NAMES]
    absent = [theirs for theirs in columns.values() if theirs not in table.columns]
    if unknown or absent:
        got = (unknown or absent)[0]
        known = list(NAMES) if unknown else [str(column) for column in table.columns]
        raise DataError(
            f"`columns` of a source names the unknown column {got!r}",
            where=str(where),
            expected=nearest(got, known),
        )
    if name in columns:
        return columns[name]
    lower = {str(column).strip().lower(): str(column) for column in table.columns}
    return next((lower[known] for known in NAMES[name] if known in lower), None)
