"""The plan of an experiment: tables, cells and their ids, before anything is trained.

No torch here: planning, dry runs and sweeps answered from the cache need none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.cellplan import CellBuilder, CellPlan
from birdlab.data.catalog import Dataset
from birdlab.data.clean import MAIN_TABLE, Waterfall
from birdlab.data.leaks import find_leaks
from birdlab.data.table import DataTable, NoiseKey
from birdlab.datasets import Collector, Progress, open_dataset, sample_rate_of, silent
from birdlab.errors import SpecError
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.rows import Rows
from birdlab.soundscapes import SoundscapeSet, collect_soundscapes, name_soundscapes
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest, spec_id
from birdlab.spec.kinds import nearest
from birdlab.spec.parts import StageSpec
from birdlab.stages import line_of

__all__ = ["Plan", "Progress", "open_dataset", "plan_experiment", "silent"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything known before training.

    cells: in the order to train them, starts before what starts from them, seed-major;
    missing: what the lab does not have, in words (only from a plan that is not strict);
    notes: what reading the data sets left out or found odd; leaks: what pretraining tables
    share with the validation rows that are asked for (see data.leaks), accepted or not;
    soundscapes: those that `evaluate.soundscapes` names.
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
    leaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    soundscapes: SoundscapeSet | None = None

    @property
    def final_cells(self) -> tuple[CellPlan, ...]:
        """The cells of the last stage: the ones that are scored."""
        return tuple(c for c in self.cells if c.stage is self.spec.stages[-1])

    @property
    def rows_hash(self) -> str:
        """Names the rows that the run is scored on, fold by fold: ids joined by "-"."""
        return "-".join(sorted({c.rows_id for c in self.final_cells if c.rows_id}))

    @property
    def sample_rate_hz(self) -> int:
        """The rate of every waveform."""
        return sample_rate_of(self.spec)


def plan_experiment(
    spec: ExperimentSpec, lab: Lab, *, strict: bool = True, progress: Progress = silent
) -> Plan:
    """The plan of an experiment over the lab's data.

    Cleaning rules that need audio decode what the store misses. With `strict=False` nothing is
    decoded: missing data sets and audio, and rules that wait for audio, are noted, and stages
    whose table is missing come as `unknown_stages`: for a dry run. Leaks are found, not refused.
    Raises LabError for an unknown data set, DataError for a table that does not hold, SpecError
    for stages that do not fit together.
    """
    _check_scopes(spec, lab)
    collector = Collector(spec, lab, strict, progress)
    base = collector.dataset(spec.data.base, "base")
    assert base is not None
    extras = [collector.dataset(name, "extra") for name in spec.data.extra]
    tables = {
        stage.data: collector.dataset(stage.data, "stage " + stage.name)
        for stage in spec.stages
        if stage.data is not None
    }
    data = collector.table(base, extras, list(tables.values()))
    rows = collector.rows(MAIN_TABLE, data.rows)
    absent = sum(key is None for key in rows.keys)
    if absent:
        collector.missing.append(
            f"audio of {absent:,} of {len(rows.keys):,} recordings: not checked"
        )
    noise = collector.noise([a for stage in spec.stages for a in stage.augment])
    stage_rows = {name: collector.rows(name, table) for name, table in data.stages.items()}
    data = _with_left_out(data, collector.left_out)
    cleaned = {name: _cleaned(dataset, data) for name, dataset in tables.items()}
    builder = CellBuilder(spec, lab, data, rows, stage_rows, cleaned, noise)
    scapes = collect_soundscapes(collector, data.classes)
    return Plan(
        spec,
        spec_id(spec, _content_digest(data, rows, stage_rows, noise, builder.weights_hash)),
        base,
        data,
        rows,
        tuple(name_soundscapes(builder.cells(), scapes)),
        noise,
        collector.paths,
        tuple(collector.missing),
        tuple(s for s in spec.stages if s.data is not None and tables[s.data] is None),
        collector.skipped,
        tuple(dict.fromkeys(collector.notes)),
        tuple(dict.fromkeys(collector.absent)),
        _leaks(spec, rows, stage_rows),
        scapes,
    )


def _content_digest(
    data: DataTable,
    rows: Rows,
    stage_rows: Mapping[str, Rows],
    noise: Mapping[str, tuple[NoiseKey, ...]],
    weights_hash: str | None,
) -> str:
    """A hash over all that the tables, backgrounds and weights of an experiment hold."""
    folds = rows.table["fold"].to_numpy(np.int64)
    return digest(
        {
            "rows": rows.digest(np.arange(len(folds))),
            "folds": hashlib.sha256(folds.tobytes()).hexdigest(),
            "classes": data.classes.digest,
            "stages": {n: r.digest(np.arange(len(r.keys))) for n, r in stage_rows.items()},
            "noise": {name: [clip.content for clip in clips] for name, clips in noise.items()},
            "weights": weights_hash,
        }
    )


def _leaks(spec: ExperimentSpec, rows: Rows, stage_rows: Mapping[str, Rows]) -> pd.DataFrame:
    """What the tables that the scored stage descends from share with the folds asked for."""
    held = rows.table["fold"].isin(spec.fold_numbers) & ~rows.table["apart"].astype(bool)
    names = {stage.data for stage in line_of(spec, spec.stages[-1])}
    tables = {name: rows.with_keys() for name, rows in stage_rows.items() if name in names}
    return find_leaks(rows.with_keys()[held.to_numpy(bool)], tables)


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
