"""The plan of an experiment: tables, cells and their ids, before anything is trained.

No torch here: planning, dry runs and sweeps answered from the cache need none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import Dataset, load_dataset, load_noise
from birdlab.data.classes import ClassList
from birdlab.data.demo import DemoSettings, build_demo
from birdlab.data.hashes import hash_files
from birdlab.data.store import WaveStore
from birdlab.data.table import DataTable, build_table
from birdlab.errors import DataError, LabError, SpecError
from birdlab.lab import Lab
from birdlab.sed.steps import Steps, count_steps
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import component_versions, digest, spec_id
from birdlab.spec.parts import AugmentationSpec, StageSpec

SEMANTICS = {"decode": 1, "crop": 1, "network": 1, "fit": 1}
"""Raised when a part that is no kind gives other numbers for the same fields."""

QUARANTINE = "quarantine.json"

DEMO_SEEDS = {"demo": 0, "demo-abroad": 1}

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A table to train on: its rows, one content line per row, the key of each waveform.

    A key is None where the audio file is missing.
    """

    table: pd.DataFrame
    keys: tuple[str | None, ...]

    @cached_property
    def lines(self) -> npt.NDArray[np.object_]:
        """What identifies each row: id, labels, waveform."""
        columns = (self.table[c] for c in ("recording", "primary_label", "secondary_labels"))
        lines = [
            "\x1f".join((name, label, ",".join(also), key or "missing"))
            for name, label, also, key in zip(*columns, self.keys, strict=True)
        ]
        return np.asarray(lines, object)

    def digest(self, chosen: npt.NDArray[np.int64]) -> str:
        """A hash over the chosen rows in order."""
        return hashlib.sha256("\n".join(self.lines[chosen]).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class CellPlan:
    """One (stage, fold, seed): what it trains on, how long, what it starts from, its id."""

    cell_id: str
    stage: StageSpec
    fold: int | None
    seed: int
    start: CellPlan | None
    rows: Rows
    chosen: npt.NDArray[np.int64]
    classes: ClassList
    steps: Steps
    document: Mapping[str, Any]
    validation: npt.NDArray[np.int64] | None
    eval_id: str | None

    @property
    def title(self) -> str:
        """The cell in words: stage, fold, seed."""
        where = "all data" if self.fold is None else f"fold {self.fold}"
        return f"{self.stage.name}, {where}, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything known before training.

    cells: in the order to train them, starts before what starts from them, seed-major;
    missing: what the lab does not have, in words (only from a plan that is not strict).
    """

    spec: ExperimentSpec
    spec_id: str
    base: Dataset
    data: DataTable
    rows: Rows
    cells: tuple[CellPlan, ...]
    noise: Mapping[str, tuple[str | None, ...]]
    paths: Mapping[str, Path]
    missing: tuple[str, ...] = ()
    unknown_stages: tuple[StageSpec, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

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


def load_quarantine(lab: Lab) -> dict[str, str]:
    """The store keys of files that could not be decoded, with the reason of each."""
    path = lab.waves / QUARANTINE
    if not path.is_file():
        return {}
    listed: dict[str, str] = json.loads(path.read_text())
    return listed


def open_dataset(lab: Lab, name: str, progress: Progress = silent) -> Dataset:
    """The data set of that name; the demo is generated on first use."""
    return load_dataset(name, _folder(lab, name, progress))


def _folder(lab: Lab, name: str, progress: Progress) -> Path:
    root = lab.dataset_root(name)
    if name in DEMO_SEEDS and name not in lab.file.data:
        settings = DemoSettings(seed=DEMO_SEEDS[name])
        build_demo(
            root,
            settings,
            jobs=lab.jobs,
            progress=lambda done, total: progress(f"generating {name}", done, total),
        )
    return root


class _Planner:
    """Collects what a plan needs; `strict` raises for what the lab lacks, else it is noted."""

    def __init__(self, spec: ExperimentSpec, lab: Lab, strict: bool, progress: Progress) -> None:
        self.spec, self.lab, self.strict, self.progress = spec, lab, strict, progress
        self.missing: list[str] = []
        self.paths: dict[str, Path] = {}
        self.store = WaveStore(lab.waves, _sample_rate(spec))
        self.skipped = load_quarantine(lab) if spec.data.on_bad_file == "skip" else {}

    def dataset(self, name: str, role: str) -> Dataset | None:
        try:
            return open_dataset(self.lab, name, self.progress)
        except (LabError, DataError):
            if self.strict or role == "base":
                raise
            self.missing.append(f"{role} {name}: unknown rows")
            return None

    def keys(self, paths: Sequence[Path]) -> tuple[str | None, ...]:
        hashes = hash_files(paths, self.lab.waves / "hashes.sqlite")
        keys = tuple(None if h is None else self.store.key(h) for h in hashes)
        self.paths |= {k: p for k, p in zip(keys, paths, strict=True) if k is not None}
        return keys

    def rows(self, table: pd.DataFrame) -> Rows:
        keys = self.keys([Path(p) for p in table["path"]])
        kept = [i for i, key in enumerate(keys) if key not in self.skipped]
        if len(kept) < len(keys):
            self.missing.append(
                f"{len(keys) - len(kept)} recordings that cannot be decoded: skipped"
            )
        return Rows(table.iloc[kept].reset_index(drop=True), tuple(keys[i] for i in kept))

    def noise(self, augment: Sequence[AugmentationSpec]) -> dict[str, tuple[str | None, ...]]:
        found: dict[str, tuple[str | None, ...]] = {}
        names = {n for a in augment for n in getattr(a, "noise", ())}
        for name in sorted(names):
            try:
                keys = self.keys(load_noise(name, _folder(self.lab, name, self.progress)))
                found[name] = tuple(key for key in keys if key not in self.skipped)
            except (LabError, DataError):
                if self.strict:
                    raise
                self.missing.append(f"noise {name}: not there")
        return found


def plan_experiment(
    spec: ExperimentSpec, lab: Lab, *, strict: bool = True, progress: Progress = silent
) -> Plan:
    """The plan of an experiment over the lab's data.

    With `strict=False` missing data sets and audio are noted instead of raised, and stages
    whose table is missing come as `unknown_stages`: for a dry run. Raises LabError for an
    unknown data set, DataError for a table that does not hold.
    """
    planner = _Planner(spec, lab, strict, progress)
    base = planner.dataset(spec.data.base, "base")
    assert base is not None
    extras = [planner.dataset(name, "extra") for name in spec.data.extra]
    data = build_table(base, [e for e in extras if e is not None], spec.data, lab.root)
    rows = planner.rows(data.rows)
    absent = sum(key is None for key in rows.keys)
    if absent:
        planner.missing.append(f"audio of {absent:,} of {len(rows.keys):,} recordings: not checked")
    noise = planner.noise([a for stage in spec.stages for a in stage.augment])
    tables = {
        stage.data: planner.dataset(stage.data, "stage " + stage.name)
        for stage in spec.stages
        if stage.data is not None
    }
    stage_rows = {n: planner.rows(d.recordings) for n, d in tables.items() if d is not None}
    builder = _CellBuilder(spec, lab, data, rows, stage_rows, tables, noise)
    folds = rows.table["fold"].to_numpy(np.int64)
    content = {
        "rows": rows.digest(np.arange(len(folds))),
        "folds": hashlib.sha256(folds.tobytes()).hexdigest(),
        "classes": data.classes.digest,
        "stages": {n: r.digest(np.arange(len(r.keys))) for n, r in stage_rows.items()},
        "noise": noise,
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
    )


class _CellBuilder:
    def __init__(
        self,
        spec: ExperimentSpec,
        lab: Lab,
        data: DataTable,
        rows: Rows,
        stage_rows: Mapping[str, Rows],
        datasets: Mapping[str, Dataset | None],
        noise: Mapping[str, tuple[str | None, ...]],
    ) -> None:
        self.spec, self.data, self.rows, self.noise = spec, data, rows, noise
        self.stage_rows, self.datasets = stage_rows, datasets
        self.folds = rows.table["fold"].to_numpy()
        weights = spec.model.weights
        self.weights_hash = None if weights is None else _hash(lab.weights_path(weights))
        self.made: dict[tuple[str, int | None, int], CellPlan] = {}

    def cells(self) -> Iterator[CellPlan]:
        folds: tuple[int | None, ...] = self.spec.fold_numbers or (None,)
        for seed in self.spec.cells.seeds:
            for fold in folds:
                yield from self._chain(fold, seed)

    def _chain(self, fold: int | None, seed: int) -> Iterator[CellPlan]:
        """The cells of one (fold, seed) that were not given out before, first stage first."""
        for stage in self.spec.stages:
            key = self._key(stage, fold, seed)
            if key not in self.made:
                self.made[key] = self._build(stage, *key[1:])
                yield self.made[key]

    def _key(self, stage: StageSpec, fold: int | None, seed: int) -> tuple[str, int | None, int]:
        return (
            stage.name,
            fold if stage.data is None else None,
            0 if stage.seeds == "shared" else seed,
        )

    def _build(self, stage: StageSpec, fold: int | None, seed: int) -> CellPlan:
        start = None
        if stage.start is not None:
            before = next(s for s in self.spec.stages if s.name == stage.start)
            start = self.made[self._key(before, fold, seed)]
        rows, chosen = self._training_rows(stage, fold)
        classes = self._classes(stage, start)
        document = self._document(stage, fold, seed, start, rows.digest(chosen), classes)
        validation, eval_id = None, None
        if stage is self.spec.stages[-1] and fold is not None:
            validation = np.flatnonzero(self.folds == fold)
            eval_id = self._eval_id(rows.digest(validation))
        return CellPlan(
            cell_id=digest(document),
            stage=stage,
            fold=fold,
            seed=seed,
            start=start,
            rows=rows,
            chosen=chosen,
            classes=classes,
            steps=count_steps(stage.train.length, stage.train.batch, max(1, len(chosen))),
            document=document,
            validation=validation,
            eval_id=eval_id,
        )

    def _training_rows(
        self, stage: StageSpec, fold: int | None
    ) -> tuple[Rows, npt.NDArray[np.int64]]:
        if stage.data is not None:
            rows = self.stage_rows.get(stage.data) or Rows(self.rows.table.iloc[:0], ())
            return rows, np.arange(len(rows.table))
        if fold is None:
            return self.rows, np.arange(len(self.folds))
        return self.rows, np.flatnonzero(self.folds != fold)

    def _classes(self, stage: StageSpec, start: CellPlan | None) -> ClassList:
        if stage.data is not None:
            dataset = self.datasets[stage.data]
            return self.data.classes if dataset is None else dataset.class_list
        if start is None or stage.transfer == "backbone":
            return self.data.classes
        missing = start.classes.unknown(self.data.classes)
        dataset = self.datasets.get(start.stage.data or "")
        if missing and (start.stage.data is None or dataset is not None):
            raise SpecError(
                f"stage {stage.name!r} keeps the head of {start.stage.name!r}, which lacks "
                f"{len(missing)} scored classes",
                where=f"stages.{stage.name}.transfer",
                got=", ".join(missing[:20]),
                fix="write `transfer: backbone` to start with a new head",
            )
        return start.classes

    def _document(
        self,
        stage: StageSpec,
        fold: int | None,
        seed: int,
        start: CellPlan | None,
        rows_digest: str,
        classes: ClassList,
    ) -> dict[str, Any]:
        """Everything the weights of a cell depend on, and nothing else."""
        model = canonical(self.spec.model)
        source = (model.pop("pretrained"), model.pop("weights"))[0]
        fresh = {"hub": source, "file": self.weights_hash} if start is None else None
        return {
            "cell": 1,
            "model": model,
            "fresh_weights": fresh,
            "train": canonical(stage.train),
            "augment": [self._augmentation(a) for a in stage.augment],
            "start": None if start is None else {"cell": start.cell_id, "gives": stage.transfer},
            "rows": rows_digest,
            "classes": classes.digest,
            "fold": fold,
            "seed": seed,
            "kinds": component_versions(stage.train, stage.augment, self.spec.model),
            "components": SEMANTICS,
        }

    def _augmentation(self, augmentation: AugmentationSpec) -> dict[str, Any]:
        out = dict(canonical(augmentation))
        if "noise" in out:
            out["noise"] = [digest(self.noise.get(name)) for name in out["noise"]]
        return out

    def _eval_id(self, rows_digest: str) -> str:
        return digest(
            {
                "window_s": self.spec.competition.window_s,
                "rows": rows_digest,
                "classes": self.data.classes.digest,
            },
            12,
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
