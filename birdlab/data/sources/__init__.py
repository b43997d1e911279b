"""How the folders of data sets are read: one function per kind of source.

A source is a function `(spec, place) -> Dataset` registered for its kind with @implements; its
`noise=` lists background clips where that is not the way of `list_folder_clips`. It raises for a
table that cannot be read at all, and reports everything else to `place.findings`, so that one
error tells of all tables of the data set.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from birdlab.data.catalog import Dataset, NoiseClip
from birdlab.data.csvfile import Findings
from birdlab.data.sources import birdclef, folders, soundscapes, tables  # noqa: F401  (kinds)
from birdlab.data.sources.background import list_folder_clips
from birdlab.data.sources.labelmaps import map_labels
from birdlab.data.sources.place import Place
from birdlab.errors import DataError
from birdlab.spec.kinds import function_of
from birdlab.spec.sources import SourceSpec

__all__ = ["load_source", "load_source_noise"]

OnBadFile = Literal["fail", "skip"]


def load_source(
    source: SourceSpec,
    name: str,
    root: Path,
    lab_root: Path,
    *,
    on_bad_file: OnBadFile = "fail",
) -> Dataset:
    """The data set `name` in `root`, read as its source says, its labels mapped.

    Raises DataError when there is no such folder, and one DataError with everything that is
    wrong in any of its tables: names that repeat or leave the audio folder, empty labels, lists
    that cannot be read, times and durations that are no numbers. Missing audio is no error here
    but a note of the data set. With `on_bad_file="skip"` links that leave the folder are
    `refused` files of the data set instead of a fault.
    """
    place = _place(name, root, lab_root, on_bad_file)
    dataset: Dataset = function_of(source)(source, place)
    place.findings.raise_if_any()
    dataset = replace(dataset, notes=place.findings.notes, refused=place.refused)
    return map_labels(dataset, source, lab_root)


def load_source_noise(
    source: SourceSpec,
    name: str,
    root: Path,
    lab_root: Path,
    *,
    on_bad_file: OnBadFile = "fail",
) -> list[NoiseClip]:
    """The background clips of a data set, sorted by file and start.

    Raises DataError when it has none, for names that leave its folder and times that are none.
    """
    place = _place(name, root, lab_root, on_bad_file)
    list_clips = getattr(function_of(source), "noise", list_folder_clips)
    clips: list[NoiseClip] = list_clips(source, place)
    place.findings.raise_if_any()
    return clips


def _place(name: str, root: Path, lab_root: Path, on_bad_file: OnBadFile) -> Place:
    root = root.absolute()
    if not root.is_dir():
        raise DataError(
            f"the data set {name} has no folder",
            where=str(root),
            fix="correct its path under [data] in birdlab.toml",
        )
    return Place(name, root, lab_root, Findings(root), skip_bad=on_bad_file == "skip")
