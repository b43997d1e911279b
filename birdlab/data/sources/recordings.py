"""Recordings in canonical columns, from a raw table or from the files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.catalog import COLUMNS, NUMBERS, RESERVED
from birdlab.data.csvfile import Findings, label_lists, number_column, text_column
from birdlab.data.paths import audio_below, tidy
from birdlab.data.sources.place import Place
from birdlab.errors import DataError

UNKNOWN = frozenset({"nan", "none", "null", "unknown", "not specified"})
"""How tables write an author whom nobody knows, without case."""


def build_recordings(
    raw: pd.DataFrame, files: pd.Series, folder: Path, place: Place, findings: Findings
) -> pd.DataFrame:
    """COLUMNS from a raw table whose columns have our names, then its other columns as text.

    `files` are the names below `folder`. What is wrong goes to `findings`; a row whose file may
    not be read is left out when the policy is to skip those.
    """
    labels = text_column(raw, "primary_label")
    rating, stated = number_column(raw, "rating"), text_column(raw, "rating")
    findings.note(
        "rating is not a number: unrated", stated[rating.isna() & (stated != "")].map(repr)
    )
    known = {
        "recording": files,
        "dataset": pd.Series(place.name, index=raw.index, dtype=str),
        "primary_label": labels,
        "secondary_labels": label_lists(raw, "secondary_labels", findings),
        "author": _authors(raw, findings),
        "xc_id": _xeno_canto_ids(raw, files),
        "license": text_column(raw, "license"),
        "rating": rating,
        "type": text_column(raw, "type"),
        "latitude": number_column(raw, "latitude"),
        "longitude": number_column(raw, "longitude"),
        "duration_s": number_column(raw, "duration_s", findings),
        "scientific_name": text_column(raw, "scientific_name"),
        "common_name": text_column(raw, "common_name"),
        "path": pd.Series([f"{folder}/{file}" for file in files.tolist()], raw.index, dtype=str),
    }
    taken = {*COLUMNS, *RESERVED, "filename"}
    others = {name: raw[name] for name in raw.columns if name not in taken}
    rows = pd.DataFrame(known | others)
    findings.note(
        "column has a name that birdlab needs: left out", sorted({*raw.columns} & {*RESERVED})
    )
    findings.add("duration_s is negative", files[rows["duration_s"] < 0])
    findings.add("primary_label is empty", files[labels == ""])
    same = raw.duplicated()
    findings.add("row occurs again", files[same])
    findings.add("filename occurs again", files[files.duplicated() & ~same])
    place.check_names(files.tolist(), folder, findings)
    if place.refused:
        rows = rows[~rows["recording"].isin(place.refused.keys())].reset_index(drop=True)
    return rows


def label_folders(files: pd.Series, labels: pd.Series, folder: Path) -> pd.Series:
    """File names as posix paths below the audio folder, the label's folder added where needed."""
    flat = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    names = [
        f"{label}/{file}" if file and "/" not in file and file not in flat else file
        for file, label in zip(files.tolist(), labels.tolist(), strict=True)
    ]
    return pd.Series([tidy(name) for name in names], index=files.index, dtype=str)


def refuse_no_rows(rows: pd.DataFrame, table: Path) -> None:
    """DataError when a table of recordings has no row."""
    if rows.empty:
        raise DataError("the table has no rows", where=str(table), expected="one row per recording")


def no_recordings() -> pd.DataFrame:
    """COLUMNS without a row."""
    return pd.DataFrame({name: [] for name in COLUMNS}).astype(dict.fromkeys(NUMBERS, np.float64))


def list_recordings(name: str, root: Path) -> pd.DataFrame:
    """COLUMNS for all audio below `root`, of which nothing but the name is known.

    Raises DataError when there is none.
    """
    files = audio_below(root)
    if not files:
        raise DataError(
            f"the data set {name} holds neither a table nor audio",
            where=str(root),
            expected="train_metadata.csv, train.csv or recordings.csv, or audio files",
        )
    return name_recordings(name, root, files)


def name_recordings(name: str, folder: Path, files: list[str]) -> pd.DataFrame:
    """COLUMNS for files below `folder` of which nothing but the name is known."""
    recordings = pd.DataFrame("", index=range(len(files)), columns=list(COLUMNS), dtype=object)
    recordings[list(NUMBERS)] = np.nan
    recordings = recordings.astype(dict.fromkeys(NUMBERS, np.float64))
    recordings["recording"] = files
    recordings["dataset"] = name
    recordings["secondary_labels"] = pd.Series([()] * len(files), dtype=object)
    recordings["path"] = [f"{folder}/{file}" for file in files]
    return recordings


def _authors(raw: pd.DataFrame, findings: Findings) -> pd.Series:
    """Authors as written; "" for those whom the table calls unknown in one way or another."""
    authors = text_column(raw, "author", as_written=True)
    nobody = authors.str.strip().str.lower().isin(UNKNOWN)
    findings.note("author is written but unknown", authors[nobody].map(repr))
    return authors.where(~nobody, "")


def _xeno_canto_ids(raw: pd.DataFrame, files: pd.Series) -> pd.Series:
    """A column xc_id, else the digits that end a xeno-canto address, else those after XC, or ""."""
    given = text_column(raw, "xc_id").str.removeprefix("XC")
    url = text_column(raw, "url")
    from_url = url.str.extract(r"(?i)xeno-canto\.org/.*?(\d+)(?:/?|/download/?)$", expand=False)
    from_file = files.str.extract(r"(?i)(?:^|[^a-z])XC(\d+)", expand=False)
    return given.where(given != "", from_url.fillna(from_file).fillna(""))
