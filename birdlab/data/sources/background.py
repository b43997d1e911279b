"""Background noise: listed stretches, or the background recordings that a folder brings along."""

from __future__ import annotations

import math

import pandas as pd

from birdlab.data.catalog import Dataset, NoiseClip
from birdlab.data.csvfile import read_text_table, text_column, time_column
from birdlab.data.paths import audio_below, first_folder, lab_file, refuse_leaving
from birdlab.data.sources.birdclef import find_table
from birdlab.data.sources.place import Place
from birdlab.data.sources.recordings import name_recordings
from birdlab.errors import DataError
from birdlab.spec.kinds import implements
from birdlab.spec.sources import AutoSource, BackgroundSource, SourceSpec


def list_clips(source: BackgroundSource, place: Place) -> list[NoiseClip]:
    """The stretches that the source's CSV of the lab names, sorted by file and start.

    An empty start_s or end_s, or a table without these columns, means from the start and to the
    end of the file. Raises DataError for a table without a row.
    """
    path = lab_file(place.lab_root, source.table, f"data.{place.name}.table")
    raw = read_text_table(path, ["filename"])
    findings = place.findings.at(path)
    rows = pd.DataFrame(
        {
            "filename": text_column(raw, "filename"),
            "start_s": time_column(raw, "start_s", findings),
            "end_s": time_column(raw, "end_s", findings),
        }
    ).drop_duplicates()
    findings.add(
        "end_s is not after start_s",
        rows["filename"][rows["end_s"] <= rows["start_s"].fillna(0.0)],
    )
    place.check_names(rows["filename"].tolist(), place.root, findings)
    rows = rows[~rows["filename"].isin(place.refused.keys())]
    if rows.empty:
        raise DataError(
            "a table of background noise has no usable row",
            where=str(path),
            expected="a row whose file is in the folder, with end_s after start_s",
        )
    rows = rows.sort_values(["filename", "start_s"], na_position="first")
    return [
        NoiseClip(place.root / name, start_s, end_s)
        for name, start_s, end_s in zip(
            rows["filename"], rows["start_s"], rows["end_s"], strict=True
        )
    ]


@implements(BackgroundSource, noise=list_clips)
def load_background(source: BackgroundSource, place: Place) -> Dataset:
    """The data set of the files that the clips are cut from, without labels."""
    paths = sorted({clip.path for clip in list_clips(source, place)})
    names = [path.relative_to(place.root).as_posix() for path in paths]
    return Dataset(place.name, place.root, name_recordings(place.name, place.root, names))


def list_folder_clips(source: SourceSpec, place: Place) -> list[NoiseClip]:
    """The background recordings of a folder, whole, sorted by name.

    Those that `background.csv` names (in `background/` or beside it), else all audio in
    `background/`, else all audio of a folder that only its path is known of and that has no table.
    Raises DataError when there are none, so that no table of birds and no soundscapes become noise
    by mistake.
    """
    root = place.root
    folder = first_folder(root, ("background",)) or root
    listed = root / "background.csv"
    names: list[str] = []
    if listed.is_file():
        names = sorted(set(read_text_table(listed, ["filename"])["filename"]))
        refuse_leaving(names, folder)
    elif folder != root or (isinstance(source, AutoSource) and not _has_table(place)):
        names = audio_below(folder)
    if not names:
        raise DataError(
            f"the data set {place.name} has no background recordings",
            where=str(root),
            expected="background.csv, a folder background/, or a folder of audio without a table",
            fix="silent windows of soundscapes make a table of them: birdlab data nocall",
        )
    return [NoiseClip(folder / file, math.nan, math.nan) for file in names]


def _has_table(place: Place) -> bool:
    known = ("recordings.csv", "annotations.csv", "soundscapes.csv", "soundscape_labels.csv")
    return find_table(place.root) is not None or any((place.root / n).exists() for n in known)
