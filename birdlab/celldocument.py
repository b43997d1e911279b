"""What the ids of a cell and of its outputs are the hashes of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birdlab.cellplan import SEMANTICS, Inputs
from birdlab.data.classes import ClassList
from birdlab.evaluate.steps import to_mappings
from birdlab.hearing import distill_document
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import component_versions, digest
from birdlab.spec.parts import StageSpec
from birdlab.stages import fresh_weights
from birdlab.tables import Tables
from birdlab.teaching import TeacherModel

LABELS = 1
"""Raised when soft labels come out differently for the same teacher and soundscapes."""


class Documents:
    """Writes the documents of an experiment's cells."""

    def __init__(
        self,
        spec: ExperimentSpec,
        tables: Tables,
        weights_hash: str | None,
        models: Mapping[str, TeacherModel],
    ) -> None:
        self.spec, self.tables, self.weights_hash, self.models = spec, tables, weights_hash, models
        self.recipes: dict[str, dict[str, Any]] = {}

    def of_cell(
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
            **self._taught(stage, inputs),
        }

    def _taught(self, stage: StageSpec, inputs: Inputs) -> dict[str, Any]:
        """What the weights depend on beside labels and first weights; names are not part of it."""
        out: dict[str, Any] = {}
        if stage.pseudo is not None:
            heard = inputs.labelling
            named = ["", ""] if heard is None else [heard.content, heard.teacher]
            out["pseudo"] = canonical(stage.pseudo) | dict(
                zip(("soundscapes", "teacher"), named, strict=True), labels=LABELS
            )
        if stage.distill is not None:
            model = self.models.get(stage.distill.teacher.model or "")
            cells = digest([cell.cell_id for cell in inputs.distillers])
            teacher = cells if model is None else model.identity
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

    def steering(self, rows_digest: str) -> dict[str, Any]:
        """What the scores depend on by which a cell chooses its weights."""
        evaluate = canonical(self.spec.evaluate)
        for beside in ("soundscapes", "synthetic"):
            evaluate.pop(beside, None)
        return {
            "rows": rows_digest,
            "classes": self.tables.data.classes.digest,
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

    def eval_id(self, rows_digest: str, *, context: bool) -> str:
        """Names what was predicted, with `context` also from how much around which windows."""
        document: dict[str, Any] = {
            "window_s": self.spec.competition.window_s,
            "rows": rows_digest,
            "classes": self.tables.data.classes.digest,
        }
        if context and self.spec.evaluate.context_s is not None:
            document["context_s"] = self.spec.evaluate.context_s
            if self.spec.evaluate.windows_per_pass > 1:
                document["windows_per_pass"] = self.spec.evaluate.windows_per_pass
        if context and self.spec.evaluate.hop_s is not None:
            document["hop_s"] = self.spec.evaluate.hop_s
        return digest(document, 12)
