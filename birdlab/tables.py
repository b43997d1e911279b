"""The tables of an experiment, loaded, cleaned and folded, once for all that need the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.clean import MAIN_TABLE, Waterfall
from birdlab.data.leaks import find_leaks
from birdlab.data.table import DataTable, NoiseKey
from birdlab.datasets import Collector, Needs, Progress, silent
from birdlab.lab import Lab
from birdlab.rows import Rows
from birdlab.soundscapes import SoundscapeSet, collect_soundscapes
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.stages import teachers_of
from birdlab.unlabelled import UnlabelledSet, collect_unlabelled


@dataclass(frozen=True, eq=False)
class Tables:
    """What the lab holds of what an experiment needs; the fields are those of a Plan.

    datasets: of each stage's table, with the rows and classes that cleaning left, None where the
    lab lacks it; soundscapes: without the identity of outputs on them; backgrounds: of synthetic
    soundscapes.
    """

    needs: Needs
    base: Dataset
    datasets: Mapping[str, Dataset | None]
    data: DataTable
    rows: Rows
    stage_rows: Mapping[str, Rows]
    noise: Mapping[str, tuple[NoiseKey, ...]]
    soundscapes: SoundscapeSet | None
    backgrounds: Mapping[str, tuple[NoiseKey, ...]]
    paths: Mapping[str, Path]
    missing: tuple[str, ...]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    absent: tuple[Path, ...]
    unlabelled: Mapping[str, UnlabelledSet] = field(default_factory=dict)
    _leaks: dict[object, pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def noise_digests(self) -> dict[str, str]:
        """A hash over the clips of each set of backgrounds that is there."""
        return {n: digest([clip.content for clip in clips]) for n, clips in self.noise.items()}

    @cached_property
    def content(self) -> dict[str, object]:
        """What names all that the tables and backgrounds hold."""
        folds = self.rows.table["fold"].to_numpy(np.int64)
        stages = self.stage_rows.items()
        labelled = {name: files.content for name, files in self.unlabelled.items()}
        return {
            **({"unlabelled": labelled} if labelled else {}),
            "rows": self.rows.digest(np.arange(len(folds))),
            "folds": hashlib.sha256(folds.tobytes()).hexdigest(),
            "classes": self.data.classes.digest,
            "stages": {n: r.digest(np.arange(len(r.keys))) for n, r in stages},
            "noise": {name: [clip.content for clip in clips] for name, clips in self.noise.items()},
        }

    def leaks(self, folds: tuple[int, ...], names: frozenset[str]) -> pd.DataFrame:
        """What stage tables of these names share with the rows of `folds`, see data.leaks."""
        key = folds, names
        if key not in self._leaks:
            table = self.rows.table
            held = table["fold"].isin(folds) & ~table["apart"].astype(bool)
            tables = {n: rows.with_keys() for n, rows in self.stage_rows.items() if n in names}
            self._leaks[key] = find_leaks(self.rows.with_keys()[held.to_numpy(bool)], tables)
        return self._leaks[key]


class Shelf:
    """Tables and hashes of weights files by what was asked for, each read once.

    What lies in it is as the lab was when it was first asked for: a shelf is made for one list of
    plans and left with it.
    """

    def __init__(self, lab: Lab, *, strict: bool, progress: Progress = silent) -> None:
        self.lab, self.strict, self.progress = lab, strict, progress
        self._tables: dict[str, Tables] = {}
        self._weights: dict[str, str] = {}
        self._teachers: dict[str, str] = {}

    def tables(self, needs: Needs) -> Tables:
        """The tables of `needs`; raises as `load_tables`."""
        if needs.key not in self._tables:
            self._tables[needs.key] = load_tables(needs, self.lab, self.strict, self.progress)
        return self._tables[needs.key]

    def weights_hash(self, name: str | None) -> str | None:
        """The first 32 hex digits of the SHA-256 of a weights file; None for none."""
        if name is None:
            return None
        if name not in self._weights:
            with self.lab.weights_path(name).open("rb") as file:
                self._weights[name] = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        return self._weights[name]

    def teacher_ids(self, spec: ExperimentSpec) -> dict[str, str]:
        """What names the outputs of each model that teaches a stage or labels for it, by its name.

        Raises as `open_teacher`.
        """
        models = {t.model for stage in spec.stages for t in teachers_of(stage) if t.model}
        for name in models - self._teachers.keys():
            from birdlab.teachers import open_teacher

            self._teachers[name] = open_teacher(self.lab, name).identity
        return {name: self._teachers[name] for name in sorted(models)}


def load_tables(needs: Needs, lab: Lab, strict: bool, progress: Progress = silent) -> Tables:
    """What `needs` names, cleaned and with folds.

    With `strict=False` nothing is decoded, and what the lab lacks is noted. Raises LabError for
    an unknown data set and DataError for a table that does not hold.
    """
    collector = Collector(needs, lab, strict, progress)
    base = collector.dataset(needs.data.base, "base")
    assert base is not None
    extras = [collector.dataset(name, "extra") for name in needs.data.extra]
    datasets = {data: collector.dataset(data, "stage " + stage) for stage, data in needs.stages}
    data = collector.table(base, extras, list(datasets.values()))
    rows = collector.rows(MAIN_TABLE, data.rows)
    absent = sum(key is None for key in rows.keys)
    if absent:
        collector.missing.append(
            f"audio of {absent:,} of {len(rows.keys):,} recordings: not checked"
        )
    noise = collector.noise(needs.noise)
    stage_rows = {name: collector.rows(name, table) for name, table in data.stages.items()}
    data = _with_left_out(data, collector.left_out)
    soundscapes = collect_soundscapes(collector, data.classes)
    unlabelled = collect_unlabelled(collector, [base, *extras, *datasets.values()])
    return Tables(
        needs,
        base,
        {name: _cleaned(dataset, data) for name, dataset in datasets.items()},
        data,
        rows,
        stage_rows,
        noise,
        soundscapes,
        collector.noise(needs.backgrounds),
        collector.paths,
        tuple(collector.missing),
        collector.skipped,
        tuple(dict.fromkeys(collector.notes)),
        tuple(dict.fromkeys(collector.absent)),
        unlabelled,
    )


def _cleaned(dataset: Dataset | None, data: DataTable) -> Dataset | None:
    """The data set of a stage with the rows and classes that cleaning left."""
    if dataset is None:
        return None
    name = dataset.name
    return replace(dataset, recordings=data.stages[name], classes=data.stage_classes[name])


def _with_left_out(data: DataTable, left_out: Waterfall) -> DataTable:
    """The table whose waterfall ends with the rows that cannot be decoded."""
    if left_out.lines.empty:
        return data
    lines, dropped = (
        pd.concat([part for part in parts if len(part)], ignore_index=True)
        for parts in ((data.waterfall, left_out.lines), (data.dropped, left_out.dropped))
    )
    return replace(data, waterfall=lines, dropped=dropped)
