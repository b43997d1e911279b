"""Tables of recordings that are no competition's: the user's own, and Xeno-canto downloads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from birdlab.data.catalog import COLUMNS, Dataset
from birdlab.data.csvfile import read_any_table, require_columns, text_column
from birdlab.data.paths import tidy
from birdlab.data.sources.place import Place
from birdlab.data.sources.recordings import build_recordings, refuse_no_rows
from birdlab.errors import DataError
from birdlab.spec.kinds import implements, nearest
from birdlab.spec.sources import TableSource, XenoCantoSource

XENO_CANTO_TABLE = "recordings.csv"
XENO_CANTO_AUDIO = "audio"
MAP_NAMES = 'name them in the lab file: columns = {primary_label = "THEIRS", filename = "THEIRS"}'
MAPPED = ("filename", "url", *(name for name in COLUMNS if name not in ("dataset", "path")))
"""Our columns that a source may find under other names ("recording" is the file name, too)."""


@implements(TableSource)
def load_table(source: TableSource, place: Place) -> Dataset:
    """A data set from a CSV, .tsv or Parquet file; `columns` maps our names to the file's.

    File names are relative to `audio`. Columns that are not mapped and have one of our names are
    ours. Raises DataError for a mapping that names an unknown column, and for a table without
    file names or primary labels.
    """
    path = place.root / source.file
    theirs = source.columns.get("primary_label", "primary_label")
    raw = read_any_table(path, codes=[theirs])
    return _dataset(
        _renamed(raw, source.columns, path, place), path, place.root / source.audio, place
    )


@implements(XenoCantoSource)
def load_xeno_canto(source: XenoCantoSource, place: Place) -> Dataset:
    """A data set that `birdlab data xenocanto` wrote: recordings.csv and the files in audio/."""
    path = place.root / XENO_CANTO_TABLE
    return _dataset(read_any_table(path), path, place.root / XENO_CANTO_AUDIO, place)


def _renamed(raw: pd.DataFrame, columns: dict[str, str], path: Path, place: Place) -> pd.DataFrame:
    where = f"data.{place.name}.columns"
    for ours, theirs in columns.items():
        if ours not in MAPPED:
            raise DataError(
                f"{ours!r} is no column that can be mapped",
                where=where,
                expected=nearest(ours, list(MAPPED)),
            )
        if theirs not in raw.columns:
            raise DataError(
                f"the table has no column {theirs!r}",
                where=f"{where} and {path}",
                expected=nearest(theirs, [str(name) for name in raw.columns]),
            )
    ours_already = [name for name in columns if name in raw.columns and columns[name] != name]
    renamed = raw.drop(columns=ours_already).assign(
        **{name: raw[theirs] for name, theirs in columns.items()}
    )
    used = {theirs for theirs in columns.values() if theirs not in columns}
    renamed = renamed.drop(columns=[name for name in used if name in renamed.columns])
    return renamed.rename(columns={"recording": "filename"} if "filename" not in renamed else {})


def _dataset(raw: pd.DataFrame, path: Path, folder: Path, place: Place) -> Dataset:
    require_columns(raw, ["filename", "primary_label"], path, fix=MAP_NAMES)
    refuse_no_rows(raw, path)
    names = [tidy(name) for name in text_column(raw, "filename").tolist()]
    files = pd.Series(names, index=raw.index, dtype=str)
    rows = build_recordings(raw, files, folder, place, place.findings.at(path))
    return Dataset(place.name, place.root, rows)
