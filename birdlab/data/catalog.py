"""Data sets as tables: what every source gives, whichever way its folder was laid out.

A recording is named by its file name as the table gives it, a posix path below the folder of
the audio. Audio need not be there: tables are planned with before they are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.errors import DataError

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
NUMBERS = ("rating", "latitude", "longitude", "duration_s")
RESERVED = ("role", "start_s", "end_s", "copies", "apart", "content", "file_key")
"""Columns that an experiment's table or its audit adds; a raw one of such a name is left out."""
SOUNDSCAPES = ("filename", "path", "split", "duration_s")
SPLITS = ("train", "public", "private", "unlabelled")
ANNOTATIONS = ("filename", "path", "start_s", "end_s", "label")


class NoiseClip(NamedTuple):
    """A stretch of a background recording in seconds; NaN = from its start, to its end."""

    path: Path
    start_s: float
    end_s: float


def no_soundscapes() -> pd.DataFrame:
    """SOUNDSCAPES without a row."""
    return pd.DataFrame({column: [] for column in SOUNDSCAPES})


def no_annotations() -> pd.DataFrame:
    """ANNOTATIONS without a row."""
    return pd.DataFrame({column: [] for column in ANNOTATIONS})


def no_labels() -> pd.DataFrame:
    """Labels of soundscape windows without a row."""
    return pd.DataFrame({"row_id": []})


def recordist_keys(authors: pd.Series) -> pd.Series:
    """Authors without case and outer spaces, "" where unknown: equal for one recordist."""
    return authors.fillna("").astype(str).str.strip().str.casefold()


@dataclass(frozen=True, eq=False)
class Dataset:
    """One named data set.

    `recordings` has COLUMNS, a row per file in table order, then every other column of the raw
    table as text; unknown text is "", an unknown number NaN. `classes` is the list the folder
    states, or None. `soundscapes` has SOUNDSCAPES, a row per long recording, its split one of
    SPLITS; `soundscape_labels` has row_id and a float32 column per class; `annotations` has
    ANNOTATIONS, a row per label and stretch of time, label "" for a sound that a label map
    names no class for. A soundscape that was looked through and has no row there is silent; one
    that nobody looked through is `unlabelled`. All three are empty where there are none.
    `notes` says in words what was left out or is odd. `refused` names the files that may not be
    read, with the reason, and has no row in `recordings`.
    """

    name: str
    root: Path
    recordings: pd.DataFrame
    classes: ClassList | None = None
    soundscapes: pd.DataFrame = field(default_factory=no_soundscapes)
    soundscape_labels: pd.DataFrame = field(default_factory=no_labels)
    annotations: pd.DataFrame = field(default_factory=no_annotations)
    notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

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
                expected="train_metadata.csv or train.csv with primary_label and filename",
                fix='a table of another name or with other columns: kind = "table" under '
                "[data.NAME] of birdlab.toml (docs/data.md)",
            )
        return ClassList(tuple(labels))
