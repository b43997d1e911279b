"""The plan of an experiment: tables, cells and their ids, before anything is trained.

No torch here: planning, dry runs and sweeps answered from the cache need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from birdlab.cellbuilder import CellBuilder
from birdlab.cellplan import CellPlan
from birdlab.data.catalog import Dataset
from birdlab.data.table import DataTable, NoiseKey
from birdlab.datasets import Progress, needs_of, open_dataset, sample_rate_of, silent
from birdlab.errors import DataError, SpecError
from birdlab.evaluate.postprocess import check_steps
from birdlab.evaluate.steps import applicable_mappings
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.rows import Rows
from birdlab.soundscapes import SoundscapeSet, identify_soundscapes, name_soundscapes
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest, spec_id
from birdlab.spec.kinds import nearest
from birdlab.spec.parts import StageSpec
from birdlab.stages import line_of
from birdlab.synthetic import name_synthetic, reused_backgrounds
from birdlab.tables import Shelf
from birdlab.teacherplans import name_teachers, note_teachers, pin_teachers, plan_teachers
from birdlab.unlabelled import UnlabelledSet

__all__ = ["Plan", "Progress", "open_dataset", "plan_experiment", "plan_experiments", "silent"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything known before training.

    cells: in the order to train them, starts before what starts from them, seed-major;
    missing: what the lab does not have, in words (only from a plan that is not strict);
    notes: what reading the data sets left out or found odd; leaks: what pretraining tables
    share with the validation rows that are asked for (see data.leaks), accepted or not;
    soundscapes: those that `evaluate.soundscapes` names; backgrounds: those of synthetic ones;
    unlabelled: those of each data set that teachers label.
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
    backgrounds: Mapping[str, tuple[NoiseKey, ...]] = field(default_factory=dict)
    unlabelled: Mapping[str, UnlabelledSet] = field(default_factory=dict)

    @property
    def final_cells(self) -> tuple[CellPlan, ...]:
        """The cells of the last stage: the ones that are scored."""
        return tuple(c for c in self.cells if c.stage is self.spec.stages[-1])

    @property
    def rows_hash(self) -> str:
        """Names the rows that the run is scored on, fold by fold: ids joined by "-"."""
        return "-".join(sorted({c.rows_id for c in self.final_cells if c.rows_id}))

    @property
    def synthetic_hash(self) -> str:
        """Names the synthetic soundscapes that the run is scored on, "" without any."""
        return "-".join(sorted({c.synthetic_id for c in self.final_cells if c.synthetic_id}))

    @property
    def synthetic_rows(self) -> str:
        """Names their scored windows, however these are heard, "" without any."""
        return "-".join(sorted({c.synthetic_rows for c in self.final_cells if c.synthetic_rows}))

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
    for stages that do not fit together and steps for species that are no classes.
    """
    return plan_experiments([spec], lab, strict=strict, progress=progress)[0]


def plan_experiments(
    specs: Iterable[ExperimentSpec], lab: Lab, *, strict: bool = True, progress: Progress = silent
) -> list[Plan]:
    """The plans of several experiments in order, see `plan_experiment`.

    Data that several of them need alike is read, cleaned and split into folds once.
    """
    shelf = Shelf(lab, strict=strict, progress=progress)
    return [_plan(spec, shelf) for spec in specs]


def _plan(spec: ExperimentSpec, shelf: Shelf) -> Plan:
    _check_scopes(spec, shelf.lab)
    tables = shelf.tables(needs_of(spec))
    check_steps(applicable_mappings(spec.postprocess), tables.data.classes.codes)
    weights = shelf.weights_hash(spec.model.weights)
    scapes = identify_soundscapes(tables.soundscapes, spec, tables.data.classes)
    line = frozenset(s.data for s in line_of(spec, spec.stages[-1]) if s.data is not None)
    runs, models = plan_teachers(spec, shelf, _plan)
    spec = pin_teachers(spec, runs, models)
    runs = {run.spec_id: run for run in runs.values()}
    models = {model.name: model for model in models.values()}
    builder = CellBuilder(spec, tables, weights, runs, models)
    cells = name_soundscapes(_unlike(builder.cells(), scapes), scapes)
    cells = name_synthetic(cells, spec, tables.backgrounds, tables.data.classes)
    content = {**tables.content, "weights": weights, **name_teachers(spec, runs, models)}
    return Plan(
        spec,
        spec_id(spec, digest(content)),
        tables.base,
        tables.data,
        tables.rows,
        tuple(cells),
        tables.noise,
        tables.paths,
        tables.missing,
        tuple(s for s in spec.stages if s.data is not None and tables.datasets[s.data] is None),
        tables.skipped,
        (*tables.notes, *_note_backgrounds(spec), *note_teachers(spec, models)),
        tables.absent,
        tables.leaks(spec.fold_numbers, line),
        scapes,
        tables.backgrounds,
        tables.unlabelled,
    )


def _unlike(cells: Iterable[CellPlan], scapes: SoundscapeSet | None) -> Iterator[CellPlan]:
    """The cells; DataError for one that goes back to what learned from soundscapes that judge."""
    judges = frozenset(() if scapes is None else scapes.keys)
    for cell in cells:
        for one in cell.line if judges else ():
            heard = judges & frozenset(() if one.labelling is None else one.labelling.keys)
            if heard:
                raise DataError(
                    f"{len(heard)} soundscapes that judge models were labelled for a teacher",
                    where="evaluate.soundscapes",
                    got=f"{cell.title} goes back to {one.title} of {one.spec.name or 'a run'}",
                    fix="take a teacher that did not learn from them, or other soundscapes",
                )
        yield cell


def _note_backgrounds(spec: ExperimentSpec) -> list[str]:
    reused = reused_backgrounds(spec) if spec.fold_numbers else []
    said = "synthetic soundscapes lie over backgrounds that training mixes in too: "
    return [said + ", ".join(reused)] if reused else []


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
