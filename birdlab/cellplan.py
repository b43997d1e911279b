"""The plan of one cell: its training rows, its steps, and the document its id is the hash of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.table import DataTable, NoiseKey
from birdlab.errors import SpecError
from birdlab.lab import Lab
from birdlab.sed.steps import Steps, count_steps
from birdlab.sed.targets import Targets
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import component_versions, digest
from birdlab.spec.parts import StageSpec

SEMANTICS = {"decode": 1, "crop": 2, "network": 1, "fit": 2}
"""Raised when a part that is no kind gives other numbers for the same fields."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A table to train on: its rows, one content line per row, the key of each waveform.

    A key is None where the audio file is missing.
    """

    table: pd.DataFrame
    keys: tuple[str | None, ...]

    @cached_property
    def names(self) -> npt.NDArray[np.object_]:
        """Each row's recording, with the part of it where the row is only a part."""
        names: npt.NDArray[np.object_] = self.table["recording"].to_numpy(object).copy()
        for row in np.flatnonzero(~np.isnan(self.spans_s).all(axis=1)):
            start, end = self.spans_s[row]
            names[row] += f"[{np.nan_to_num(start):g}-{'' if np.isnan(end) else f'{end:g}'}]"
        return names

    @cached_property
    def spans_s(self) -> npt.NDArray[np.float64]:
        """The used part of each recording, [N, 2] seconds; NaN for its own start or end."""
        spans: npt.NDArray[np.float64] = self.table[["start_s", "end_s"]].to_numpy(np.float64)
        return spans

    @cached_property
    def lines(self) -> npt.NDArray[np.object_]:
        """What identifies each row: id and part, labels, waveform."""
        columns = (self.table[c] for c in ("primary_label", "secondary_labels"))
        marks = np.where(self.table["apart"], "\x1fapart", "")
        lines = [
            "\x1f".join((name, label, ",".join(also), key or "missing")) + mark
            for name, label, also, key, mark in zip(
                self.names, *columns, self.keys, marks, strict=True
            )
        ]
        return np.asarray(lines, object)

    def digest(self, chosen: npt.NDArray[np.int64]) -> str:
        """A hash over the chosen rows in order."""
        return hashlib.sha256("\n".join(self.lines[chosen]).encode()).hexdigest()[:16]

    def targets(self, classes: ClassList, secondary: float) -> Targets:
        """The labels of all rows as columns of `classes`.

        Secondary labels that are no class are left out. Raises DataError for primary labels
        that are none.
        """
        if classes.digest not in self._targets:
            also = [
                [classes.index[label] for label in labels if label in classes]
                for labels in self.table["secondary_labels"]
            ]
            self._targets[classes.digest] = Targets(
                classes.columns(self.table["primary_label"]),
                np.concatenate([[0], np.cumsum([len(a) for a in also])]).astype(np.int64),
                np.fromiter((c for columns in also for c in columns), np.int32),
                len(classes),
            )
        return replace(self._targets[classes.digest], secondary=secondary)

    @cached_property
    def _targets(self) -> dict[str, Targets]:
        return {}


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


class CellBuilder:
    """Builds the cells of an experiment over loaded tables."""

    def __init__(
        self,
        spec: ExperimentSpec,
        lab: Lab,
        data: DataTable,
        rows: Rows,
        stage_rows: Mapping[str, Rows],
        datasets: Mapping[str, Dataset | None],
        noise: Mapping[str, tuple[NoiseKey, ...]],
    ) -> None:
        self.spec, self.data, self.rows, self.noise = spec, data, rows, noise
        self.stage_rows, self.datasets = stage_rows, datasets
        self.folds = rows.table["fold"].to_numpy()
        weights = spec.model.weights
        self.weights_hash = None if weights is None else _hash(lab.weights_path(weights))
        self.made: dict[tuple[str, int | None, int], CellPlan] = {}

    def cells(self) -> Iterator[CellPlan]:
        """Every cell once, starts before what starts from them, seed-major."""
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
        rows, left_out = self.rows, fold
        if stage.data is not None:
            rows, left_out = self.stage_rows.get(stage.data) or _no_rows(self.rows), None
        copies = rows.table["copies"].to_numpy(np.int64)
        if left_out is not None:
            copies = np.where(self.folds == left_out, 0, copies)
        return rows, np.repeat(np.arange(len(copies)), copies)

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
            found = [self.noise.get(name) for name in out["noise"]]
            out["noise"] = [digest(clips and [clip.content for clip in clips]) for clips in found]
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


def _no_rows(like: Rows) -> Rows:
    return Rows(like.table.iloc[:0], ())


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
