"""Long recordings: those of a competition folder, and sets with labels in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.catalog import (
    ANNOTATIONS,
    SOUNDSCAPES,
    SPLITS,
    Dataset,
    no_annotations,
    no_labels,
    no_soundscapes,
)
from birdlab.data.classes import ClassList
from birdlab.data.csvfile import number_column, read_any_table, read_text_table, text_column
from birdlab.data.paths import audio_below, first_folder
from birdlab.data.sources.annotations import Labelled, read_annotations, read_raven_folder
from birdlab.data.sources.place import Place
from birdlab.data.sources.recordings import no_recordings
from birdlab.spec.kinds import implements
from birdlab.spec.sources import SoundscapesSource

FOLDERS = ("soundscapes", "test_soundscapes", "train_soundscapes", "unlabeled_soundscapes")
LABEL_TABLES = ("train_soundscape_labels.csv", "train_soundscapes_labels.csv")
"""The tables of 2021 and of 2026."""
WINDOW_S = 5.0


@implements(SoundscapesSource)
def load_soundscapes(source: SoundscapesSource, place: Place) -> Dataset:
    """A data set of long recordings with annotations and nothing to train clips on.

    Files that no table names are `unlabelled`. A name is looked for below the audio folder as it
    stands, then by its last part, then without its suffix: sets are unpacked into folders and
    converted from wav to flac. Raises DataError for a table whose columns cannot be told.
    """
    where = place.root / source.annotations
    findings = place.findings.at(where)
    folder = place.root / source.audio
    if where.is_dir():
        labelled = read_raven_folder(where, source.columns, findings)
    else:
        table = read_any_table(where, codes=[source.columns.get("label", "label")])
        labelled = read_annotations(table, source.columns, source.window_s, findings)
    there = audio_below(folder) if folder.is_dir() else []
    soundscapes, annotations = _place_files(labelled, there, folder, source.split, place, where)
    return Dataset(
        place.name,
        place.root,
        no_recordings(),
        soundscapes=soundscapes,
        annotations=annotations,
    )


def load_competition_soundscapes(place: Place) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SOUNDSCAPES and ANNOTATIONS of a competition folder; both empty where it has none.

    `soundscapes.csv` lists them where it is there; else they are all audio in FOLDERS, those
    that a label table names as `public`, the others as `unlabelled`.
    """
    root = place.root
    listed = root / "soundscapes.csv"
    table = next((root / name for name in LABEL_TABLES if (root / name).is_file()), None)
    if listed.is_file() and table is None:
        return _load_listed(listed, place), no_annotations()
    if table is not None:
        folder = first_folder(root, ("train_soundscapes",)) or root / "train_soundscapes"
        there = audio_below(folder) if folder.is_dir() else []
        labelled = read_annotations(read_text_table(table), {}, WINDOW_S, place.findings.at(table))
        return _place_files(labelled, there, folder, "public", place, table)
    tables = [_unlabelled(root / name) for name in FOLDERS if (root / name).is_dir()]
    filled = [part for part in tables if len(part)]
    found = pd.concat(filled, ignore_index=True) if filled else no_soundscapes()
    return found[~found["filename"].duplicated()].reset_index(drop=True), no_annotations()


def load_window_labels(place: Place, classes: ClassList | None) -> pd.DataFrame:
    """Labels of soundscape windows from soundscape_labels.csv: row_id, a float32 column a class."""
    listed = place.root / "soundscape_labels.csv"
    if not listed.is_file():
        return no_labels()
    raw = read_text_table(listed, ["row_id"])
    findings = place.findings.at(listed)
    codes = [str(column) for column in raw.columns if column != "row_id"]
    if classes is not None:
        findings.add("column is no class", classes.unknown(codes))
    findings.add("row_id occurs again", raw["row_id"][raw["row_id"].duplicated()])
    labels = {"row_id": raw["row_id"]}
    for code in codes:
        numbers = pd.to_numeric(raw[code], errors="coerce")
        wrong = ~numbers.between(0, 1)
        findings.add(f"{code} is not within 0..1", raw.loc[wrong, "row_id"])
        labels[code] = numbers.astype(np.float32)
    return pd.DataFrame(labels)


def _load_listed(listed: Path, place: Place) -> pd.DataFrame:
    raw = read_text_table(listed, ["filename"])
    findings = place.findings.at(listed)
    folder = first_folder(place.root, FOLDERS) or place.root
    files = text_column(raw, "filename")
    split = text_column(raw, "split").replace("", "unlabelled")
    findings.add(f"split is none of {', '.join(SPLITS)}", split[~split.isin(SPLITS)].map(repr))
    findings.add("filename occurs again", files[files.duplicated()])
    duration_s = number_column(raw, "duration_s", findings)
    place.check_names(files.tolist(), folder, findings)
    rows = pd.DataFrame(
        {
            "filename": files,
            "path": [f"{folder}/{file}" for file in files],
            "split": split,
            "duration_s": duration_s,
        }
    )
    return rows[~rows["filename"].isin(place.refused.keys())].reset_index(drop=True)


def _unlabelled(folder: Path) -> pd.DataFrame:
    files = audio_below(folder)
    return pd.DataFrame(
        {
            "filename": pd.Series(files, dtype=str),
            "path": pd.Series([f"{folder}/{file}" for file in files], dtype=str),
            "split": "unlabelled",
            "duration_s": np.nan,
        },
        columns=list(SOUNDSCAPES),
    )


def _place_files(
    labelled: Labelled, there: list[str], folder: Path, split: str, place: Place, table: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """SOUNDSCAPES and ANNOTATIONS with the names that a table uses led to files."""
    findings = place.findings.at(table)
    names = _FileNames(there)
    found = {name: names.find(name) for name in labelled.files}
    unclear = [name for name, files in found.items() if len(files) > 1]
    findings.add("filename fits several files", unclear)
    led = {name: files[0] if files else name for name, files in found.items()}
    place.check_names(list(dict.fromkeys(led.values())), folder, findings)
    heard = set(led.values())
    files = [*dict.fromkeys(led.values()), *(file for file in there if file not in heard)]
    files = [file for file in files if file not in place.refused]
    soundscapes = pd.DataFrame(
        {
            "filename": pd.Series(files, dtype=str),
            "path": pd.Series([f"{folder}/{file}" for file in files], dtype=str),
            "split": [split if file in heard else "unlabelled" for file in files],
            "duration_s": np.nan,
        },
        columns=list(SOUNDSCAPES),
    )
    rows = labelled.rows.copy()
    rows["filename"] = pd.Series([led[name] for name in rows["filename"]], rows.index, dtype=str)
    rows["path"] = [f"{folder}/{file}" for file in rows["filename"]]
    rows = rows[~rows["filename"].isin(place.refused.keys())]
    return soundscapes, rows[list(ANNOTATIONS)].reset_index(drop=True)


class _FileNames:
    """Files of a folder by name, by last part, and by stem.

    The label table of 2021 names a file by recording and site (7019_COR), without the date that
    its name ends with (7019_COR_20190904.ogg).
    """

    def __init__(self, there: list[str]) -> None:
        self._exact = set(there)
        self._by_last: dict[str, list[str]] = {}
        self._undated: dict[str, list[str]] = {}
        for file in there:
            last = file.rpartition("/")[2]
            stem = last.rpartition(".")[0]
            for key in (last, stem):
                self._by_last.setdefault(key, []).append(file)
            self._undated.setdefault(stem.rpartition("_")[0], []).append(file)

    def find(self, name: str) -> list[str]:
        """The files that `name` may mean, by the first way of looking that finds any."""
        if name in self._exact:
            return [name]
        last = name.rpartition("/")[2]
        stem, dot, _ = last.rpartition(".")
        by_last = self._by_last.get(last) or self._by_last.get(stem)
        return by_last or ([] if dot else self._undated.get(last, []))
