"""Data sets as tables: the layouts of competition folders, and plain folders of audio.

A recording is named by its file name as the table gives it, a posix path below the folder of
the audio. Audio need not be there: tables are planned with before they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.data.csvfile import (
    Findings,
    label_lists,
    number_column,
    read_text_table,
    text_column,
)
from birdlab.data.paths import audio_below, first_folder, leaving, refuse_leaving, tidy
from birdlab.errors import DataError

TABLES = ("train_metadata.csv", "train.csv")
AUDIO_FOLDERS = ("train_audio", "train_short_audio")
SOUNDSCAPE_FOLDERS = (
    "soundscapes",
    "test_soundscapes",
    "train_soundscapes",
    "unlabeled_soundscapes",
)
SPLITS = ("public", "private", "unlabelled")
COLUMNS = (
    "recording",
    "dataset",
    "primary_label",
    "secondary_labels",
    "author",
    "xc_id",
    "license",
    "rating",
    "type",
    "latitude",
    "longitude",
    "duration_s",
    "scientific_name",
    "common_name",
    "path",
)


ANNOTATIONS = ("filename", "path", "start_s", "end_s", "label")


class NoiseClip(NamedTuple):
    """A stretch of a background recording in seconds; NaN = from its start, to its end."""

    path: Path
    start_s: float
    end_s: float


def no_annotations() -> pd.DataFrame:
    """ANNOTATIONS without a row."""
    return pd.DataFrame({column: [] for column in ANNOTATIONS})


@dataclass(frozen=True, eq=False)
class Dataset:
    """One named data set.

    `recordings` has COLUMNS, a row per file in table order; unknown text is "", an unknown
    number NaN. `classes` is the list the folder states, or None. `soundscapes` has filename,
    path, split (public, private, unlabelled) and duration_s; `soundscape_labels` has row_id
    and a float32 column per class; `annotations` has ANNOTATIONS, a row per label and stretch of
    time. All are empty where the folder has none.
    """

    name: str
    root: Path
    recordings: pd.DataFrame
    classes: ClassList | None
    soundscapes: pd.DataFrame
    soundscape_labels: pd.DataFrame
    annotations: pd.DataFrame = field(default_factory=no_annotations)

    @property
    def class_list(self) -> ClassList:
        """The stated classes, else the sorted primary labels; DataError when there are neither."""
        if self.classes is not None:
            return self.classes
        labels = sorted(set(self.recordings["primary_label"]) - {""})
        if not labels:
            raise DataError(
                f"the data set {self.name} has no labels",
                where=str(self.root),
                expected=f"a table {' or '.join(TABLES)} with primary_label",
            )
        return ClassList(tuple(labels))


def load_dataset(name: str, root: Path) -> Dataset:
    """The data set in `root`: a competition folder, or all audio of a folder without a table.

    A competition folder has train_metadata.csv or train.csv, with the audio in train_audio/ or
    train_short_audio/; a file name without a folder lies in the folder of its label unless the
    audio folder itself holds it. Raises DataError, with everything that is wrong in a table, for
    names that repeat or leave the audio folder, empty labels, lists that cannot be read and
    durations that are no numbers. Missing audio is no error here.
    """
    root = root.absolute()
    if not root.is_dir():
        raise DataError(
            f"the data set {name} has no folder",
            where=str(root),
            fix="correct its path under [data] in birdlab.toml",
        )
    table = next((root / file for file in TABLES if (root / file).is_file()), None)
    recordings = _load_table(name, root, table) if table else _list_folder(name, root)
    classes = _load_classes(root)
    return Dataset(
        name, root, recordings, classes, _load_soundscapes(root), _load_labels(root, classes)
    )


def load_noise(name: str, root: Path) -> list[Path]:
    """The background recordings of a data set, sorted by name.

    Those that `background.csv` names (in `background/` or beside it), else all audio in
    `background/`, else all audio of a folder that has no table of its own. Raises DataError when
    there are none, so that no table of birds becomes noise by mistake.
    """
    root = root.absolute()
    folder = first_folder(root, ("background",)) or root
    listed = root / "background.csv"
    names: list[str] = []
    if listed.is_file():
        names = sorted(set(read_text_table(listed, ["filename"])["filename"]))
        refuse_leaving(names, folder)
    elif folder != root or not any((root / table).exists() for table in TABLES):
        names = audio_below(folder)
    if not names:
        raise DataError(
            f"the data set {name} has no background recordings",
            where=str(root),
            expected="background.csv, a folder background/, or a folder of audio without a table",
        )
    return [folder / file for file in names]


def _load_table(name: str, root: Path, table: Path) -> pd.DataFrame:
    raw = read_text_table(table, ["primary_label", "filename"])
    findings = Findings(table)
    folder = first_folder(root, AUDIO_FOLDERS) or root / AUDIO_FOLDERS[0]
    labels = text_column(raw, "primary_label")
    files = _recording_names(text_column(raw, "filename"), labels, folder)
    recordings = pd.DataFrame(
        {
            "recording": files,
            "dataset": name,
            "primary_label": labels,
            "secondary_labels": label_lists(raw, "secondary_labels", findings),
            "author": text_column(raw, "author", as_written=True),
            "xc_id": _xeno_canto_ids(text_column(raw, "url"), files),
            "license": text_column(raw, "license"),
            "rating": number_column(raw, "rating"),
            "type": text_column(raw, "type"),
            "latitude": number_column(raw, "latitude"),
            "longitude": number_column(raw, "longitude"),
            "duration_s": number_column(raw, "duration_s", findings),
            "scientific_name": text_column(raw, "scientific_name"),
            "common_name": text_column(raw, "common_name"),
            "path": [f"{folder}/{file}" for file in files.tolist()],
        },
        columns=list(COLUMNS),
    )
    findings.add("duration_s is negative", files[recordings["duration_s"] < 0])
    findings.add("primary_label is empty", files[labels == ""])
    findings.add("filename occurs again", files[files.duplicated()])
    refused = leaving(files.tolist(), folder)
    findings.add("filename leaves the audio folder", (f"{n!r} ({r})" for n, r in refused.items()))
    findings.raise_if_any()
    if recordings.empty:
        raise DataError("the table has no rows", where=str(table))
    return recordings


def _recording_names(files: pd.Series, labels: pd.Series, folder: Path) -> pd.Series:
    """File names as posix paths below the audio folder, the label's folder added where needed."""
    flat = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    names = [
        f"{label}/{file}" if file and "/" not in file and file not in flat else file
        for file, label in zip(files.tolist(), labels.tolist(), strict=True)
    ]
    return pd.Series([tidy(name) for name in names], index=files.index, dtype=str)


def _xeno_canto_ids(urls: pd.Series, files: pd.Series) -> pd.Series:
    """The digits that end a xeno-canto address, else those after XC in the file name, else ""."""
    from_url = urls.str.extract(r"(?i)xeno-canto\.org/.*?(\d+)/?$", expand=False)
    from_file = files.str.extract(r"(?i)(?:^|[^a-z])XC(\d+)", expand=False)
    return from_url.fillna(from_file).fillna("")


def _list_folder(name: str, root: Path) -> pd.DataFrame:
    files = audio_below(root)
    if not files:
        raise DataError(
            f"the data set {name} holds neither a table nor audio",
            where=str(root),
            expected=f"{' or '.join(TABLES)}, or audio files",
        )
    recordings = pd.DataFrame("", index=range(len(files)), columns=list(COLUMNS), dtype=object)
    numbers = ["rating", "latitude", "longitude", "duration_s"]
    recordings[numbers] = np.nan
    recordings = recordings.astype(dict.fromkeys(numbers, np.float64))
    recordings["recording"] = files
    recordings["dataset"] = name
    recordings["secondary_labels"] = pd.Series([()] * len(files), dtype=object)
    recordings["path"] = [f"{root}/{file}" for file in files]
    return recordings


def _load_classes(root: Path) -> ClassList | None:
    submission, taxonomy = root / "sample_submission.csv", root / "taxonomy.csv"
    if submission.is_file():
        columns = read_text_table(submission, ["row_id"]).columns
        return ClassList(tuple(str(code) for code in columns if code != "row_id"))
    if taxonomy.is_file():
        return ClassList(tuple(read_text_table(taxonomy, ["primary_label"])["primary_label"]))
    return None


def _load_soundscapes(root: Path) -> pd.DataFrame:
    listed = root / "soundscapes.csv"
    if not listed.is_file():
        return pd.DataFrame({column: [] for column in ("filename", "path", "split", "duration_s")})
    raw = read_text_table(listed, ["filename"])
    findings = Findings(listed)
    folder = first_folder(root, SOUNDSCAPE_FOLDERS) or root
    files = text_column(raw, "filename")
    split = text_column(raw, "split").replace("", "unlabelled")
    findings.add(f"split is none of {', '.join(SPLITS)}", split[~split.isin(SPLITS)].map(repr))
    findings.add("filename occurs again", files[files.duplicated()])
    refused = leaving(files.tolist(), folder)
    findings.add("filename leaves the folder", (f"{n!r} ({r})" for n, r in refused.items()))
    duration_s = number_column(raw, "duration_s", findings)
    findings.raise_if_any()
    paths = [f"{folder}/{file}" for file in files]
    return pd.DataFrame(
        {"filename": files, "path": paths, "split": split, "duration_s": duration_s}
    )


def _load_labels(root: Path, classes: ClassList | None) -> pd.DataFrame:
    listed = root / "soundscape_labels.csv"
    if not listed.is_file():
        return pd.DataFrame({"row_id": []})
    raw = read_text_table(listed, ["row_id"])
    findings = Findings(listed)
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
    findings.raise_if_any()
    return pd.DataFrame(labels)
