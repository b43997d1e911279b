"""The cells of an experiment over loaded tables: rows, classes, and what each is made from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.celldocument import Documents
from birdlab.cellplan import CellPlan, Inputs
from birdlab.data.classes import ClassList
from birdlab.rows import Rows
from birdlab.sed.steps import NORM_BATCHES, Steps, count_steps
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.spec.parts import StageSpec
from birdlab.spec.teaching import DistillSpec, PseudoSpec
from birdlab.stages import depends_on_fold, hand_over, stage_named, teachers_of
from birdlab.tables import Tables
from birdlab.teaching import Labelling, Pupil, SafeTeachers, TeacherModel, TeacherRun, plan_labels
from birdlab.unlabelled import join_sets

_Cell = Generator[CellPlan, None, CellPlan]


class CellBuilder:
    """Builds the cells of an experiment over loaded tables.

    runs, models: what teaches from outside of it, by the names that stages give them.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        tables: Tables,
        weights_hash: str | None,
        runs: Mapping[str, TeacherRun],
        models: Mapping[str, TeacherModel],
    ) -> None:
        self.spec, self.tables = spec, tables
        self.data, self.rows = tables.data, tables.rows
        self.stage_rows, self.datasets = tables.stage_rows, tables.datasets
        self.folds = self.rows.table["fold"].to_numpy()
        self.held: dict[int | None, pd.DataFrame] = {}
        self.made: dict[tuple[str, int | None, int], CellPlan] = {}
        self.runs, self.models, self.safe = runs, models, SafeTeachers()
        self.documents = Documents(spec, tables, weights_hash, models)

    def cells(self) -> Iterator[CellPlan]:
        """Every cell once, inputs before what is made from them, seed-major."""
        folds: tuple[int | None, ...] = self.spec.fold_numbers or (None,)
        for seed in self.spec.cells.seeds:
            for fold in folds:
                for stage in self.spec.stages:
                    yield from self._with_inputs(stage, fold, seed)

    def _with_inputs(self, stage: StageSpec, fold: int | None, seed: int) -> _Cell:
        """The cell of a stage after those it goes back to, each unless it was given out before."""
        key = self._key(stage, fold, seed)
        if key not in self.made:
            inputs = yield from self._inputs(stage, *key[1:])
            self.made[key] = self._build(stage, *key[1:], inputs)
            yield self.made[key]
        return self.made[key]

    def _inputs(
        self, stage: StageSpec, fold: int | None, seed: int
    ) -> Generator[CellPlan, None, Inputs]:
        before, soup, sources = stage_named(self.spec, stage.start), stage.soup, []
        start = None if before is None else (yield from self._with_inputs(before, fold, seed))
        pupil = self._pupil(stage, fold)
        labellers = yield from self._teachers(stage.pseudo, pupil("pseudo"), seed)
        distillers = yield from self._teachers(stage.distill, pupil("distill"), seed)
        of = stage_named(self.spec, None if soup is None else soup.of)
        if soup is not None and of is not None:
            for one in range(seed * soup.n, (seed + 1) * soup.n):
                sources.append((yield from self._with_inputs(of, fold, one)))
        labelling = self._labelling(stage.pseudo, labellers, pupil("pseudo"))
        return Inputs(start, labellers, distillers, tuple(sources), labelling)

    def _teachers(
        self, taught: PseudoSpec | DistillSpec | None, pupil: Pupil, seed: int
    ) -> Generator[CellPlan, None, tuple[CellPlan, ...]]:
        """The cells of a teacher: that of an earlier stage is of the same fold and seed."""
        if taught is None:
            return ()
        teacher = taught.teacher
        stage = stage_named(self.spec, teacher.stage)
        if stage is not None:
            return ((yield from self._with_inputs(stage, pupil.fold, seed)),)
        if teacher.run is not None:
            return self.safe.of_run(self.runs[teacher.run], pupil)
        self.safe.refuse_model(self.models[teacher.model or ""], pupil)
        return ()

    def _pupil(self, stage: StageSpec, fold: int | None) -> Callable[[str], Pupil]:
        """How the teachers of a cell see it; they are asked for as `pseudo` or `distill`."""
        teachers, own = list(teachers_of(stage)), frozenset[str]()
        held = self._held(fold) if teachers else None
        if any(teacher.run is not None for teacher in teachers):
            rows, chosen = self._training_rows(stage, fold)
            own = frozenset(key for row in np.unique(chosen) if (key := rows.keys[row]) is not None)
        title = f"{stage.name}{'' if fold is None else f' of fold {fold}'}"

        def pupil(what: str) -> Pupil:
            where = f"stages.{stage.name}.{what}.teacher"
            return Pupil(title, where, fold, held, own, self.spec.data.accept_leaks)

        return pupil

    def _held(self, fold: int | None) -> pd.DataFrame | None:
        """The rows that a fold is scored on, with the key of each waveform.

        A stage that is the same for all folds, as pretraining is, is made for the rows of all.
        """
        if not self.spec.fold_numbers:
            return None
        if fold not in self.held:
            table = self.rows.with_keys()
            out = (self.folds >= 0) if fold is None else (self.folds == fold)
            self.held[fold] = table[out & ~table["apart"].to_numpy(bool)]
        return self.held[fold]

    def _labelling(
        self, pseudo: PseudoSpec | None, labellers: tuple[CellPlan, ...], pupil: Pupil
    ) -> Labelling | None:
        """Who labels which soundscapes; None where a data set of them is not there."""
        found = self.tables.unlabelled
        if pseudo is None or any(name not in found for name in pseudo.soundscapes):
            return None
        files = join_sets([found[name] for name in pseudo.soundscapes])
        return plan_labels(files, labellers, pupil, self.models.get(pseudo.teacher.model or ""))

    def _key(self, stage: StageSpec, fold: int | None, seed: int) -> tuple[str, int | None, int]:
        """What tells cells apart: pretraining is for all folds, a shared stage for all seeds."""
        return (
            stage.name,
            fold if depends_on_fold(self.spec, stage) else None,
            0 if stage.seeds == "shared" else seed,
        )

    def _build(self, stage: StageSpec, fold: int | None, seed: int, inputs: Inputs) -> CellPlan:
        rows, chosen = self._training_rows(stage, fold)
        classes = self._classes(stage, inputs)
        held = self._validation(stage, fold)
        held_digest = "" if held is None else rows.digest(held)
        scored = stage is self.spec.stages[-1] and held is not None
        document = self.documents.of_cell(stage, fold, seed, inputs, rows.digest(chosen), classes)
        if stage.train.is_steered and held is not None:
            document["steered_by"] = self.documents.steering(held_digest)
        return CellPlan(
            cell_id=digest(document),
            spec=self.spec,
            stage=stage,
            fold=fold,
            seed=seed,
            start=inputs.start,
            rows=rows,
            chosen=chosen,
            classes=classes,
            steps=_steps(stage, len(chosen)),
            document=document,
            validation=held if scored or stage.train.validate_every != "last" else None,
            eval_id=self.documents.eval_id(held_digest, context=True) if scored else None,
            rows_id=self.documents.eval_id(held_digest, context=False) if scored else None,
            keeps_weights=self.spec.keeps_weights(stage),
            labellers=inputs.labellers,
            distillers=inputs.distillers,
            sources=inputs.sources,
            labelling=inputs.labelling,
        )

    def _validation(self, stage: StageSpec, fold: int | None) -> npt.NDArray[np.int64] | None:
        """The rows that a stage leaves out; None for one that trains on all it has."""
        leaves_out = fold is not None and stage.data is None
        return np.flatnonzero(self.folds == fold) if leaves_out else None

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

    def _classes(self, stage: StageSpec, inputs: Inputs) -> ClassList:
        """The classes of a stage's network; where a table is missing they are not checked."""
        own, start = self._own_classes(stage), inputs.start
        if inputs.sources:
            return inputs.sources[0].classes
        if start is None:
            return own
        if not self._is_known(stage, start):
            return start.classes if stage.transfer == "all" else own
        needed = list(own)
        if stage.data is not None:
            needed = sorted(set(self.stage_rows[stage.data].table["primary_label"]))
        return hand_over(stage, start.stage, start.classes, own, needed)

    def _own_classes(self, stage: StageSpec) -> ClassList:
        dataset = self.datasets.get(stage.data or "")
        return self.data.classes if dataset is None else dataset.class_list

    def _is_known(self, stage: StageSpec, start: CellPlan) -> bool:
        """Whether the tables are there that say which classes a stage and its start have."""
        node: CellPlan | None = start
        names = [stage.data]
        while node is not None:
            names.append(node.stage.data)
            node = node.start
        return all(name is None or self.datasets.get(name) is not None for name in names)


def _steps(stage: StageSpec, n_rows: int) -> Steps:
    """How long a stage trains; of a soup, the batches that its batch norms are made from."""
    train = stage.train
    steps = count_steps(train.length, train.batch, max(1, n_rows), train.accumulate)
    if stage.soup is None:
        return steps
    return replace(steps, total=min(steps.per_epoch, NORM_BATCHES))


def _no_rows(like: Rows) -> Rows:
    return Rows(like.table.iloc[:0], ())
