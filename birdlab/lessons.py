"""What teaches a cell: outputs of a model or of other cells on the rows that it trains on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birdlab.cellfiles import CARD
from birdlab.celljob import CellJob
from birdlab.cellplan import CellPlan
from birdlab.datasets import Progress, silent
from birdlab.errors import DataError
from birdlab.evaluate.windows import Floats, Windowing
from birdlab.heardrecording import Target, Teacher
from birdlab.hearing import Heard, columns_of, hear, name_of
from birdlab.lab import Lab
from birdlab.network import load_model, pick_device, weights_path
from birdlab.plan import Plan
from birdlab.recorded import load_card
from birdlab.spec.identity import digest
from birdlab.spec.model import ModelSpec
from birdlab.spec.teaching import DistillSpec
from birdlab.teachers import open_teacher

if TYPE_CHECKING:
    from birdlab.sed.lessons import Lessons


@dataclass(frozen=True, eq=False)
class CellTeacher:
    """The network of a cell: see `hearing.Teacher`. It hears windows of any length.

    Its logits are those of clips, as its loss saw them; its embeddings the mean of the last feature
    maps over frequency and time. The weights are read when it first hears something.
    """

    lab: Lab
    cell_id: str
    window_s: float

    @cached_property
    def _home(self) -> Lab:
        """Where the cell lies: in a smoke test, a cell of another run lies in the lab itself."""
        away = (self.lab.cells / self.cell_id / CARD).is_file()
        return self.lab if away else replace(self.lab, cells_folder=None)

    @cached_property
    def _card(self) -> dict[str, Any]:
        return load_card(self._home, self.cell_id)

    @cached_property
    def _spec(self) -> ModelSpec:
        return ModelSpec.model_validate_json(json.dumps(self._card["model"]))

    @property
    def name(self) -> str:
        """The cell in words."""
        return f"cell {self.cell_id}"

    @property
    def identity(self) -> str:
        """32 hex digits that name its outputs."""
        return digest({"cell": self.cell_id, "window_s": self.window_s}, 32)

    @property
    def codes(self) -> tuple[str, ...]:
        """The classes of its network."""
        return tuple(self._card["classes"])

    @property
    def normalise(self) -> str:
        """What its network was trained with."""
        return self._spec.normalise

    @property
    def windowing(self) -> Windowing:
        """Windows as long as its student's clips, at its own rate."""
        rate = int(getattr(self._spec.frontend, "sample_rate_hz", 32_000))
        return Windowing(self.window_s, rate, None, self._spec.normalise)

    @cached_property
    def _model(self) -> Any:
        weights = weights_path(self._home, self.cell_id)
        return load_model(self._spec, len(self.codes), weights).to(pick_device())

    def output(self, waves: Floats, target: Target) -> Floats:
        """Its logits, or embeddings, for waves [B, samples]."""
        import torch

        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(waves)).to(pick_device())
            if target == "logits":
                said = self._model(given).logits
            else:
                said = self._model.features(self._model.frontend(given)).float().mean(dim=(2, 3))
            heard: Floats = said.float().cpu().numpy()
        return heard


def load_lessons(job: CellJob, lab: Lab, progress: Progress = silent) -> Lessons | None:
    """What its teachers say of the training rows of a cell; None for one without a teacher.

    What is not stored yet is heard now. Raises DataError for a teacher that knows none of the
    classes or that changed since the cell was planned, and as `hear` does.
    """
    from birdlab.sed.lessons import Lessons

    spec = job.stage.distill
    if spec is None:
        return None
    keys = [key.decode() for key in job.arrays["keys"].tolist()]
    spans = np.asarray(job.arrays["spans_s"], np.float64)
    distinct, place = _distinct(keys, spans)
    teachers = _teachers(job, lab, spec)
    heard = [
        hear(
            teacher,
            lab,
            [keys[i] for i in distinct],
            spec.hop_s,
            progress,
            sample_rate_hz=job.sample_rate_hz,
            spans_s=spans[distinct],
            target=spec.target,
        )
        for teacher in teachers
    ]
    columns = (
        _columns(teachers[0].name, heard, list(job.classes)) if spec.target == "logits" else None
    )
    return Lessons(
        spec.target,
        place,
        heard[0].starts,
        tuple(h.outputs for h in heard),
        columns,
        round(heard[0].window_s * job.sample_rate_hz),
        round(job.stage.train.window_s * job.sample_rate_hz),
    )


def hear_lessons(
    plan: Plan, lab: Lab, cells: Iterable[CellPlan], progress: Progress = silent
) -> None:
    """Let the model that teaches some cells hear their training rows, unless it did before.

    Cells that other cells teach are passed over: those may not be trained yet.
    """
    wanted: dict[tuple[str, str, str, float], dict[str, tuple[str, Sequence[float]]]] = {}
    for cell in cells:
        spec = cell.stage.distill
        if spec is None or spec.teacher.model is None:
            continue
        named = spec.teacher.model, str(cell.document["distill"]["teacher"])
        rows = wanted.setdefault((*named, spec.target, spec.hop_s), {})
        for i in np.unique(cell.chosen).tolist():
            key, span = cell.rows.keys[i], cell.rows.spans_s[i].tolist()
            if key is not None:
                rows[name_of(key, span)] = (key, span)
    for (model, planned, target, hop_s), rows in wanted.items():
        hear(
            open_teacher(lab, model, planned=planned),
            lab,
            [key for key, _ in rows.values()],
            hop_s,
            progress,
            sample_rate_hz=plan.sample_rate_hz,
            spans_s=np.array([span for _, span in rows.values()], np.float64).reshape(-1, 2),
            paths=plan.paths,
            target="logits" if target == "logits" else "embeddings",
        )


def _teachers(job: CellJob, lab: Lab, spec: DistillSpec) -> list[Teacher]:
    if spec.teacher.model is not None:
        planned = str(job.document["distill"]["teacher"])
        return [open_teacher(lab, spec.teacher.model, planned=planned)]
    window_s = job.stage.train.window_s
    return [CellTeacher(lab, cell_id, window_s) for cell_id in job.distillers]


def _distinct(
    keys: Sequence[str], spans_s: npt.NDArray[np.float64]
) -> tuple[list[int], npt.NDArray[np.int64]]:
    """The first row of each recording or used part of one, and which of them each row is."""
    numbers: dict[str, int] = {}
    first: list[int] = []
    place = np.empty(len(keys), np.int64)
    for row, (key, span) in enumerate(zip(keys, spans_s.tolist(), strict=True)):
        number = numbers.setdefault(name_of(key, span), len(first))
        if number == len(first):
            first.append(row)
        place[row] = number
    return first, place


def _columns(name: str, heard: Sequence[Heard], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """The output of each class, -1 for one that the teachers do not know; DataError for none."""
    codes = heard[0].codes
    if any(h.codes != codes for h in heard):
        raise DataError(
            "the cells that teach differ in their classes",
            where="distill.teacher",
            fix="teach with the cells of one run",
        )
    return columns_of(name, codes, classes)
