"""The cells of an experiment over loaded tables, and the documents their ids are the hashes of."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.cellplan import SEMANTICS, CellPlan, Inputs
from birdlab.data.classes import ClassList
from birdlab.evaluate.steps import to_mappings
from birdlab.hearing import distill_document
from birdlab.rows import Rows
from birdlab.sed.steps import NORM_BATCHES, Steps, count_steps
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import component_versions, digest
from birdlab.spec.parts import StageSpec
from birdlab.spec.teaching import DistillSpec, PseudoSpec
from birdlab.stages import depends_on_fold, fresh_weights, hand_over, stage_named
from birdlab.tables import Tables

_Cell = Generator[CellPlan, None, CellPlan]


class CellBuilder:
    """Builds the cells of an experiment over loaded tables.

    `models`: what names the outputs of each model that teaches or labels, by its name.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        tables: Tables,
        weights_hash: str | None,
        models: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.spec, self.tables, self.weights_hash = spec, tables, weights_hash
        self.models = models
        self.data, self.rows = tables.data, tables.rows
        self.stage_rows, self.datasets = tables.stage_rows, tables.datasets
        self.folds = self.rows.table["fold"].to_numpy()
        self.made: dict[tuple[str, int | None, int], CellPlan] = {}
        self.recipes: dict[str, dict[str, Any]] = {}

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
        labellers = yield from self._teachers(stage.pseudo, fold, seed)
        distillers = yield from self._teachers(stage.distill, fold, seed)
        of = stage_named(self.spec, None if soup is None else soup.of)
        if soup is not None and of is not None:
            for one in range(seed * soup.n, (seed + 1) * soup.n):
                sources.append((yield from self._with_inputs(of, fold, one)))
        return Inputs(start, labellers, distillers, tuple(sources))

    def _teachers(
        self, taught: PseudoSpec | DistillSpec | None, fold: int | None, seed: int
    ) -> Generator[CellPlan, None, tuple[CellPlan, ...]]:
        """The cells of a teacher: that of an earlier stage is of the same fold and seed."""
        stage = stage_named(self.spec, None if taught is None else taught.teacher.stage)
        if stage is None:
            return ()
        return ((yield from self._with_inputs(stage, fold, seed)),)

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
        document = self._document(stage, fold, seed, inputs, rows.digest(chosen), classes)
        document |= self._taught(stage, inputs)
        if stage.train.is_steered and held is not None:
            document["steered_by"] = self._steering(held_digest)
        return CellPlan(
            cell_id=digest(document),
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
            eval_id=self._eval_id(held_digest, context=True) if scored else None,
            rows_id=self._eval_id(held_digest, context=False) if scored else None,
            keeps_weights=self.spec.keeps_weights(stage),
            labellers=inputs.labellers,
            distillers=inputs.distillers,
            sources=inputs.sources,
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

    def _document(
        self,
        stage: StageSpec,
        fold: int | None,
        seed: int,
        inputs: Inputs,
        rows_digest: str,
        classes: ClassList,
    ) -> dict[str, Any]:
        """Everything the weights of a cell depend on, and nothing else."""
        start, fresh = inputs.start, None
        if start is None and not inputs.sources:
            hub, file = fresh_weights(self.spec.model, stage)
            fresh = {"hub": hub, "file": None if file is None else self.weights_hash}
        return {
            "cell": 1,
            "fresh_weights": fresh,
            "start": None if start is None else {"cell": start.cell_id, "gives": stage.transfer},
            "rows": rows_digest,
            "classes": classes.digest,
            "fold": fold,
            "seed": seed,
            "components": SEMANTICS,
            **self._recipe(stage),
        }

    def _taught(self, stage: StageSpec, inputs: Inputs) -> dict[str, Any]:
        """What the weights depend on beside labels and first weights; names are not part of it."""
        out: dict[str, Any] = {}
        if stage.pseudo is not None:
            fields = canonical(stage.pseudo)
            del fields["soundscapes"]
            labels = [cell.cell_id for cell in inputs.labellers]
            out["pseudo"] = fields | {"teacher": digest(labels)}
        if stage.distill is not None:
            model = stage.distill.teacher.model
            cells = [cell.cell_id for cell in inputs.distillers]
            teacher = digest(cells) if model is None else self.models[model]
            out["distill"] = distill_document(stage.distill, teacher)
        if inputs.sources:
            out["soup"] = [cell.cell_id for cell in inputs.sources]
        return out

    def _recipe(self, stage: StageSpec) -> dict[str, Any]:
        """The part of the document that all cells of a stage have alike."""
        if stage.name not in self.recipes:
            model = canonical(self.spec.model)
            del model["pretrained"], model["weights"]
            self.recipes[stage.name] = {
                "model": model,
                "train": canonical(stage.train),
                "augment": [self._augmentation(a) for a in stage.augment],
                "kinds": component_versions(stage.train, stage.augment, self.spec.model),
            }
        return self.recipes[stage.name]

    def _augmentation(self, augmentation: AugmentationSpec) -> dict[str, Any]:
        out = dict(canonical(augmentation))
        if "noise" in out:
            known = self.tables.noise_digests
            out["noise"] = [known.get(name, digest(None)) for name in out["noise"]]
        return out

    def _steering(self, rows_digest: str) -> dict[str, Any]:
        """What the scores depend on by which a cell chooses its weights."""
        evaluate = canonical(self.spec.evaluate)
        for beside in ("soundscapes", "synthetic"):
            evaluate.pop(beside, None)
        return {
            "rows": rows_digest,
            "classes": self.data.classes.digest,
            "window_s": self.spec.competition.window_s,
            "evaluate": evaluate,
            "output": canonical(self.spec.output),
            **self._steered_after(),
        }

    def _steered_after(self) -> dict[str, Any]:
        """The post-processing of these scores, where there is some."""
        steps = self.spec.postprocess
        if not steps:
            return {}
        return {"postprocess": to_mappings(steps), "steps": component_versions(steps)}

    def _eval_id(self, rows_digest: str, *, context: bool) -> str:
        """Names what was predicted, with `context` also from how much around which windows."""
        document: dict[str, Any] = {
            "window_s": self.spec.competition.window_s,
            "rows": rows_digest,
            "classes": self.data.classes.digest,
        }
        if context and self.spec.evaluate.context_s is not None:
            document["context_s"] = self.spec.evaluate.context_s
            if self.spec.evaluate.windows_per_pass > 1:
                document["windows_per_pass"] = self.spec.evaluate.windows_per_pass
        if context and self.spec.evaluate.hop_s is not None:
            document["hop_s"] = self.spec.evaluate.hop_s
        return digest(document, 12)


def _steps(stage: StageSpec, n_rows: int) -> Steps:
    """How long a stage trains; of a soup, the batches that its batch norms are made from."""
    train = stage.train
    steps = count_steps(train.length, train.batch, max(1, n_rows), train.accumulate)
    if stage.soup is None:
        return steps
    return replace(steps, total=min(steps.per_epoch, NORM_BATCHES))


def _no_rows(like: Rows) -> Rows:
    return Rows(like.table.iloc[:0], ())
