"""The plan of an experiment: tables, cells and their ids, before anything is trained.

No torch here: planning, dry runs and sweeps answered from the cache need none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from birdlab.cellplan import CellBuilder, CellPlan, Rows
from birdlab.data.catalog import Dataset
from birdlab.data.clean import MAIN_TABLE, Waterfall
from birdlab.data.demo import DemoSettings, build_demo
from birdlab.data.facts import Facts
from birdlab.data.hashes import hash_files
from birdlab.data.quarantine import load_quarantine
from birdlab.data.sources import load_source, load_source_noise
from birdlab.data.table import DataTable, NoiseKey, build_table
from birdlab.data.waves import open_waves
from birdlab.errors import DataError, LabError, SpecError
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest, spec_id
from birdlab.spec.kinds import nearest
from birdlab.spec.parts import StageSpec
from birdlab.spec.sources import DemoSource

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything known before training.

    cells: in the order to train them, starts before what starts from them, seed-major;
    missing: what the lab does not have, in words (only from a plan that is not strict);
    notes: what reading the data sets left out or found odd.
    """

    spec: ExperimentSpec
    spec_id: str
    base: Dataset
    data: DataTable
    rows: Rows
    cells: tuple[CellPlan, ...]
    noise: Mapping[str, tuple[NoiseKey, ...]]
    paths: Mapping[str, Path]
    missing: tuple[str, ...] = ()
    unknown_stages: tuple[StageSpec, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    absent: tuple[Path, ...] = ()

    @property
    def final_cells(self) -> tuple[CellPlan, ...]:
        """The cells of the last stage: the ones that are scored."""
        return tuple(c for c in self.cells if c.stage is self.spec.stages[-1])

    @property
    def sample_rate_hz(self) -> int:
        """The rate of every waveform."""
        return _sample_rate(self.spec)


def _sample_rate(spec: ExperimentSpec) -> int:
    return int(getattr(spec.model.frontend, "sample_rate_hz", 32_000))


def open_dataset(
    lab: Lab,
    name: str,
    progress: Progress = silent,
    *,
    on_bad_file: Literal["fail", "skip"] = "fail",
) -> Dataset:
    """The data set of that name; the demo is generated on first use."""
    root = _folder(lab, name, progress)
    return load_source(lab.source(name), name, root, lab.root, on_bad_file=on_bad_file)


def _folder(lab: Lab, name: str, progress: Progress) -> Path:
    root = lab.dataset_root(name)
    source = lab.source(name)
    if isinstance(source, DemoSource):
        build_demo(
            root,
            DemoSettings(seed=source.seed),
            jobs=lab.jobs,
            progress=lambda done, total: progress(f"generating {name}", done, total),
        )
    return root


class _Planner:
    """Collects what a plan needs; `strict` raises for what the lab lacks, else it is noted."""

    def __init__(self, spec: ExperimentSpec, lab: Lab, strict: bool, progress: Progress) -> None:
        self.spec, self.lab, self.strict, self.progress = spec, lab, strict, progress
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.paths: dict[str, Path] = {}
        self.absent: list[Path] = []
        self.store = open_waves(lab, _sample_rate(spec))
        self.hashes = lab.waves / "hashes.sqlite"
        self.left_out = Waterfall()

    @cached_property
    def skipped(self) -> dict[str, str]:
        """The quarantine list as it is after cleaning, which may have met bad files."""
        return load_quarantine(self.lab) if self.spec.data.on_bad_file == "skip" else {}

    def dataset(self, name: str, role: str) -> Dataset | None:
        bad = self.spec.data.on_bad_file
        try:
            dataset = open_dataset(self.lab, name, self.progress, on_bad_file=bad)
        except (LabError, DataError):
            if self.strict or role == "base" or self._is_there(name):
                raise
            self.missing.append(f"{role} {name}: unknown rows")
            return None
        self.notes += [f"{name}: {note}" for note in dataset.notes]
        self.notes += [f"{name}: {file} refused ({why})" for file, why in dataset.refused.items()]
        return dataset

    def _is_there(self, name: str) -> bool:
        """Whether the lab has the folder: then what is wrong with it is no lack but a fault."""
        return name in self.lab.file.data and self.lab.dataset_root(name).is_dir()

    def table(
        self, base: Dataset, extras: Sequence[Dataset | None], stages: Sequence[Dataset | None]
    ) -> DataTable:
        facts = Facts(
            self.store,
            self.hashes,
            build=self.strict,
            jobs=self.lab.jobs,
            progress=lambda done, total: self.progress("listening to audio", done, total),
        )
        return build_table(
            base,
            [extra for extra in extras if extra is not None],
            self.spec.data,
            self.lab.root,
            facts,
            stages=[stage for stage in stages if stage is not None],
            window_s=self.spec.competition.window_s,
            lenient=not self.strict,
            complete=None not in extras and None not in stages,
        )

    def keys(self, paths: Sequence[Path]) -> tuple[str | None, ...]:
        hashes = hash_files(paths, self.hashes)
        keys = tuple(None if h is None else self.store.key(h) for h in hashes)
        self.paths |= {k: p for k, p in zip(keys, paths, strict=True) if k is not None}
        self.absent += [p for k, p in zip(keys, paths, strict=True) if k is None]
        return keys

    def left_out_of(self, paths: Sequence[Path], keys: Sequence[str | None]) -> list[bool]:
        """Whether `on_bad_file: skip` leaves out each file: one on the quarantine list, and a
        folder or another thing that holds no content. A file that is missing is no bad file.
        """
        if self.spec.data.on_bad_file == "fail":
            return [False] * len(paths)
        return [
            os.path.lexists(path) if key is None else key in self.skipped
            for path, key in zip(paths, keys, strict=True)
        ]

    def rows(self, name: str, table: pd.DataFrame) -> Rows:
        paths = [Path(p) for p in table["path"].tolist()]
        keys = self.keys(paths)
        kept = [i for i, out in enumerate(self.left_out_of(paths, keys)) if not out]
        if len(kept) == len(keys):
            return Rows(table, keys)
        left = table.iloc[kept].reset_index(drop=True)
        self.left_out.add(name, "cannot be decoded", table, left)
        self.notes.append(f"{len(keys) - len(kept)} recordings that cannot be decoded are left out")
        return Rows(left, tuple(keys[i] for i in kept))

    def noise(self, augment: Sequence[AugmentationSpec]) -> dict[str, tuple[NoiseKey, ...]]:
        found: dict[str, tuple[NoiseKey, ...]] = {}
        names = {n for a in augment for n in getattr(a, "noise", ())}
        for name in sorted(names):
            try:
                root = _folder(self.lab, name, self.progress)
                clips = load_source_noise(
                    self.lab.source(name),
                    name,
                    root,
                    self.lab.root,
                    on_bad_file=self.spec.data.on_bad_file,
                )
            except (LabError, DataError) as error:
                if self.strict:
                    raise
                self.missing.append(f"noise {name}: not there ({error.what})")
                continue
            paths = [clip.path for clip in clips]
            keys = self.keys(paths)
            found[name] = tuple(
                NoiseKey(key, clip.start_s, clip.end_s)
                for key, clip, out in zip(keys, clips, self.left_out_of(paths, keys), strict=True)
                if not out
            )
        return found


def plan_experiment(
    spec: ExperimentSpec, lab: Lab, *, strict: bool = True, progress: Progress = silent
) -> Plan:
    """The plan of an experiment over the lab's data.

    Cleaning rules that need audio decode what the store misses. With `strict=False` nothing is
    decoded: missing data sets and audio, and rules that wait for audio, are noted, and stages
    whose table is missing come as `unknown_stages`: for a dry run. Raises LabError for an
    unknown data set, DataError for a table that does not hold.
    """
    _check_scopes(spec, lab)
    planner = _Planner(spec, lab, strict, progress)
    base = planner.dataset(spec.data.base, "base")
    assert base is not None
    extras = [planner.dataset(name, "extra") for name in spec.data.extra]
    tables = {
        stage.data: planner.dataset(stage.data, "stage " + stage.name)
        for stage in spec.stages
        if stage.data is not None
    }
    data = planner.table(base, extras, list(tables.values()))
    rows = planner.rows(MAIN_TABLE, data.rows)
    absent = sum(key is None for key in rows.keys)
    if absent:
        planner.missing.append(f"audio of {absent:,} of {len(rows.keys):,} recordings: not checked")
    noise = planner.noise([a for stage in spec.stages for a in stage.augment])
    stage_rows = {name: planner.rows(name, table) for name, table in data.stages.items()}
    data = _with_left_out(data, planner.left_out)
    cleaned = {name: _cleaned(dataset, data) for name, dataset in tables.items()}
    builder = CellBuilder(spec, lab, data, rows, stage_rows, cleaned, noise)
    folds = rows.table["fold"].to_numpy(np.int64)
    content = {
        "rows": rows.digest(np.arange(len(folds))),
        "folds": hashlib.sha256(folds.tobytes()).hexdigest(),
        "classes": data.classes.digest,
        "stages": {n: r.digest(np.arange(len(r.keys))) for n, r in stage_rows.items()},
        "noise": {name: [clip.content for clip in clips] for name, clips in noise.items()},
        "weights": builder.weights_hash,
    }
    unknown = tuple(s for s in spec.stages if s.data is not None and tables[s.data] is None)
    return Plan(
        spec,
        spec_id(spec, digest(content)),
        base,
        data,
        rows,
        tuple(builder.cells()),
        noise,
        planner.paths,
        tuple(planner.missing),
        unknown,
        planner.skipped,
        tuple(dict.fromkeys(planner.notes)),
        tuple(dict.fromkeys(planner.absent)),
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


def _check_scopes(spec: ExperimentSpec, lab: Lab) -> None:
    """SpecError for a rule whose `tables` names neither a role nor a data set.

    A data set that the lab knows and this experiment does not use is no error: an ablation may
    have switched its stage off.
    """
    used = [spec.data.base, *spec.data.extra, *(s.data for s in spec.stages if s.data is not None)]
    known = ["base", "extra", "pretrain", *used, *lab.file.data, *BUILT_IN_DATA]
    for rule in spec.data.clean:
        unknown = [name for name in rule.tables if name not in known]
        if unknown:
            raise SpecError(
                f"a cleaning rule names the unknown table {unknown[0]!r}",
                where=f"data.clean.{rule.name}.tables",
                expected=nearest(unknown[0], list(dict.fromkeys(known))),
            )
