"""Competition folders of 2020 to 2026, and the Xeno-canto extension of 2020.

| year | table | audio | soundscapes |
|---|---|---|---|
| 2020 | train.csv with ebird_code | train_audio/<code>/*.mp3 | |
| extension of 2020 | train_extended.csv | A-M/<code>/ and N-Z/<code>/ | |
| 2021 | train_metadata.csv | train_short_audio/<code>/ | train_soundscapes/, labelled |
| 2022, 2023 | train_metadata.csv | train_audio/<code>/ | |
| 2024 | train_metadata.csv | train_audio/<code>/ | unlabeled_soundscapes/ |
| 2025 | train.csv | train_audio/<code>/ | train_soundscapes/ |
| 2026 | train.csv | train_audio/<code>/ | train_soundscapes/, some labelled |

Classes are those of sample_submission.csv where it has a column each, else of taxonomy.csv, else
the primary labels. `scored_birds.json` (2022) and the eBird taxonomy are not read: the first
says which classes that year's leaderboard looked at, and codes need no look-up.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.csvfile import Findings, read_text_table, require_columns, text_column
from birdlab.data.paths import first_folder
from birdlab.data.sources.names2020 import codes_for_names
from birdlab.data.sources.place import Place
from birdlab.data.sources.recordings import build_recordings, label_folders, refuse_no_rows
from birdlab.data.sources.soundscapes import load_competition_soundscapes, load_window_labels
from birdlab.errors import DataError
from birdlab.spec.kinds import implements
from birdlab.spec.sources import BirdclefSource

TABLES = ("train_metadata.csv", "train.csv", "train_extended.csv")
AUDIO_FOLDERS = ("train_audio", "train_short_audio")
PARTS = ("A-M", "N-Z")
"""Folders of the Xeno-canto extension, by the first letter of the code."""


@implements(BirdclefSource)
def load_birdclef(source: BirdclefSource, place: Place) -> Dataset:
    """The data set of a competition folder, whichever year's layout it has.

    A file name without a folder lies in the folder of its label unless the audio folder itself
    holds it. Raises DataError when the folder holds none of TABLES.
    """
    table = find_table(place.root)
    if table is None:
        raise DataError(
            f"the data set {place.name} is no competition folder",
            where=str(place.root),
            expected=" or ".join(TABLES),
        )
    classes = load_classes(place.root)
    soundscapes, annotations = load_competition_soundscapes(place)
    return Dataset(
        place.name,
        place.root,
        _load_table(table, place),
        classes,
        soundscapes,
        load_window_labels(place, classes),
        annotations,
    )


def find_table(root: Path) -> Path | None:
    """The table of recordings of a competition folder, or None."""
    return next((root / file for file in TABLES if (root / file).is_file()), None)


def load_classes(root: Path) -> ClassList | None:
    """The classes that sample_submission.csv or taxonomy.csv states, in their order, or None.

    The submissions of 2020 to 2022 have one column `birds` or `target` and state no class.
    """
    submission, taxonomy = root / "sample_submission.csv", root / "taxonomy.csv"
    if submission.is_file():
        columns = [str(name) for name in read_text_table(submission, ["row_id"]).columns]
        codes = tuple(code for code in columns if code != "row_id")
        if codes not in (("birds",), ("target",)):
            return ClassList(codes)
    if taxonomy.is_file():
        return ClassList(tuple(read_text_table(taxonomy, ["primary_label"])["primary_label"]))
    return None


def _load_table(table: Path, place: Place) -> pd.DataFrame:
    findings = place.findings.at(table)
    raw = read_text_table(table, ["filename"])
    if "ebird_code" in raw.columns:
        raw = codes_for_names(raw, findings)
    require_columns(raw, ["primary_label"], table)
    refuse_no_rows(raw, table)
    if table.name == "train_extended.csv":
        raw, files, folder = _extension(raw, place.root, findings)
    else:
        folder = first_folder(place.root, AUDIO_FOLDERS) or place.root / AUDIO_FOLDERS[0]
        labels = text_column(raw, "primary_label")
        files = label_folders(text_column(raw, "filename"), labels, folder)
    return build_recordings(raw, files, folder, place, findings)


def _extension(
    raw: pd.DataFrame, root: Path, findings: Findings
) -> tuple[pd.DataFrame, pd.Series, Path]:
    """The rows, names and folder of the extension: the whole, or the part that this folder holds.

    Each part comes with the table of both. Where only one of the two folders is there, the rows
    of the other belong to another data set and are left out.
    """
    labels = text_column(raw, "primary_label")
    part = pd.Series([PARTS[code[:1].lower() > "m"] for code in labels.tolist()], index=raw.index)
    there = [name for name in PARTS if (root / name).is_dir()]
    if len(there) == 1:
        other = part != there[0]
        findings.note("row is of the other part of the extension: left out", labels[other])
        raw, part = raw[~other].reset_index(drop=True), part[~other].reset_index(drop=True)
        refuse_no_rows(raw, root / "train_extended.csv")
    folders = part + "/" + text_column(raw, "primary_label")
    return raw, label_folders(text_column(raw, "filename"), folders, root), root
