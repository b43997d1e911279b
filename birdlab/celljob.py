"""A cell as files: all that a process needs to finish it, however long the table was.

The driver plans and writes a job; whoever finishes the cell reads it. The rows lie in arrays
that are mapped, not loaded, so that the memory of a training process hardly grows with them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellfiles import WEIGHTS
from birdlab.cellplan import CellPlan, Rows
from birdlab.data.classes import ClassList
from birdlab.data.table import NoiseKey
from birdlab.errors import CellError
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.processes import is_gone, own_process
from birdlab.sed.steps import Steps
from birdlab.sed.targets import Targets
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.parts import StageSpec
from birdlab.teaching import Labeller, Labelling

JOB, NAMES, VALIDATION = "job.json", "names.parquet", "validation.parquet"
SOUNDSCAPES = "soundscapes.parquet"
_PREFIX = ".jobs-"
INPUTS = ("labellers", "distillers", "sources")
ARRAYS = ("keys", "spans_s", "primary", "bounds", "also")


@dataclass(frozen=True, eq=False)
class TeacherCell:
    """A teacher's network as its weights want it: whose experiment, which classes."""

    cell_id: str
    title: str
    spec: ExperimentSpec
    classes: ClassList


@dataclass(frozen=True, eq=False)
class CellJob:
    """One (stage, fold, seed) to finish.

    classes: of the network; scored: the columns of its outputs; start: the cell it starts
    from; labellers, distillers, sources, labelling: as in CellPlan; networks: those of its
    teachers; noise: the background recordings of each data set named in the stage; backgrounds:
    those of synthetic soundscapes.
    """

    folder: Path
    cell_id: str
    title: str
    spec: ExperimentSpec
    stage: StageSpec
    fold: int | None
    seed: int
    start: str | None
    classes: ClassList
    scored: ClassList
    steps: Steps
    document: Mapping[str, Any]
    eval_id: str | None
    noise: Mapping[str, tuple[NoiseKey, ...]]
    sample_rate_hz: int
    soundscapes_id: str | None = None
    synthetic_id: str | None = None
    backgrounds: Mapping[str, tuple[NoiseKey, ...]] = field(default_factory=dict)
    labellers: tuple[str, ...] = ()
    distillers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    labelling: Labelling | None = None
    networks: tuple[TeacherCell, ...] = ()

    @property
    def teachers(self) -> tuple[str, ...]:
        """The cells that label for it or teach it, each once."""
        return tuple(dict.fromkeys((*self.labellers, *self.distillers)))

    @property
    def inputs(self) -> tuple[str, ...]:
        """All cells that it is made from: its start, its teachers, its sources."""
        return (*(() if self.start is None else (self.start,)), *self.teachers, *self.sources)

    @cached_property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The training rows: keys [N], spans_s [N, 2], and the parts of their Targets."""
        return {n: np.load(self.folder / f"{n}.npy", "r", allow_pickle=False) for n in ARRAYS}

    @property
    def targets(self) -> Targets:
        """The labels of the training rows."""
        a = self.arrays
        return Targets(
            a["primary"], a["bounds"], a["also"], len(self.classes), self.stage.train.secondary
        )

    def names(self, rows: Sequence[int]) -> list[str]:
        """The recordings of training rows, for messages."""
        return list(pd.read_parquet(self.folder / NAMES)["recording"].iloc[list(rows)])

    @property
    def keeps_weights(self) -> bool:
        """Whether the run asks for the weights when it is scored."""
        return self.spec.keeps_weights(self.stage)

    @property
    def is_validated(self) -> bool:
        """Whether the cell has validation rows, to be scored on or to look at while it trains."""
        return (self.folder / VALIDATION).is_file()

    def validation(self) -> pd.DataFrame:
        """The rows to score: recording, primary_label, secondary_labels, apart, key, start_s,
        end_s."""
        return self._rows(VALIDATION)

    def soundscapes(self) -> pd.DataFrame:
        """The soundscapes to score besides, in the columns of `validation`."""
        return self._rows(SOUNDSCAPES)

    def _rows(self, file: str) -> pd.DataFrame:
        table = pd.read_parquet(self.folder / file)
        table["secondary_labels"] = [tuple(labels) for labels in table["secondary_labels"]]
        return table


@contextmanager
def job_folder(lab: Lab) -> Iterator[Path]:
    """A folder for the jobs of one driver, which goes when the driver is done.

    What drivers of this machine left behind when they were killed goes too, and what is left of
    the part folders of finished cells.
    """
    lab.cells.mkdir(parents=True, exist_ok=True)
    for part in lab.cells.glob(".*.part"):
        cell = lab.cells / part.name.removeprefix(".").removesuffix(".part")
        if (cell / WEIGHTS).is_file():
            shutil.rmtree(part, ignore_errors=True)
    for left in lab.cells.glob(f"{_PREFIX}*"):
        if is_left_behind(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = lab.cells / f"{_PREFIX}{own_process().replace(':', '-')}"
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_left_behind(folder: Path) -> bool:
    """Whether the driver of a folder of jobs is known to be dead: one of this machine may be."""
    return is_gone(":".join(folder.name.removeprefix(_PREFIX).rsplit("-", 2)))


def save_job(plan: Plan, cell: CellPlan, folder: Path) -> CellJob:
    """Write the job of a planned cell to `folder` / cell id.

    Raises CellError when audio that the cell needs is missing.
    """
    place = folder / cell.cell_id
    place.mkdir(parents=True, exist_ok=True)
    targets = cell.rows.targets(cell.classes, cell.stage.train.secondary).take(cell.chosen)
    arrays = {
        "keys": np.array(_known_keys(cell.rows, cell.chosen), "S32"),
        "spans_s": cell.rows.spans_s[cell.chosen],
        **{name: getattr(targets, name) for name in ("primary", "bounds", "also")},
    }
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array, allow_pickle=False)
    pd.DataFrame({"recording": cell.rows.names[cell.chosen]}).to_parquet(place / NAMES)
    if cell.validation is not None:
        _validation_table(cell.rows, cell.validation).to_parquet(place / VALIDATION)
    if plan.soundscapes is not None and cell.soundscapes_id is not None:
        plan.soundscapes.rows.to_parquet(place / SOUNDSCAPES)
    noise = {n for a in cell.stage.augment for n in getattr(a, "noise", ())}
    content = {
        "cell_id": cell.cell_id,
        "title": cell.title,
        "spec": plan.spec.model_dump(mode="json"),
        "stage": cell.stage.name,
        "fold": cell.fold,
        "seed": cell.seed,
        "start": None if cell.start is None else cell.start.cell_id,
        **{name: [c.cell_id for c in getattr(cell, name)] for name in INPUTS},
        "labelling": None if cell.labelling is None else asdict(cell.labelling),
        "networks": [_as_network(teacher) for teacher in cell.teachers],
        "classes": list(cell.classes),
        "scored": list(plan.data.classes),
        "steps": asdict(cell.steps),
        "document": cell.document,
        "eval_id": cell.eval_id,
        "noise": {name: plan.noise[name] for name in sorted(noise)},
        "sample_rate_hz": plan.sample_rate_hz,
        "soundscapes_id": cell.soundscapes_id,
        "synthetic_id": cell.synthetic_id,
        "backgrounds": {} if cell.synthetic_id is None else plan.backgrounds,
    }
    write_whole(place / JOB, json.dumps(content))
    return load_job(place)


def load_job(folder: Path) -> CellJob:
    """The job in `folder`; CellError when there is none."""
    try:
        content = json.loads((folder / JOB).read_text())
    except OSError as error:
        raise CellError(
            "the job of a cell cannot be read",
            where=str(folder),
            got=error.strerror,
            fix="run the command again: finished cells are kept",
        ) from None
    spec = ExperimentSpec.model_validate_json(json.dumps(content["spec"]))
    return CellJob(
        folder=folder,
        spec=spec,
        stage=next(stage for stage in spec.stages if stage.name == content["stage"]),
        classes=ClassList(tuple(content["classes"])),
        scored=ClassList(tuple(content["scored"])),
        steps=Steps(**content["steps"]),
        labellers=tuple(content["labellers"]),
        distillers=tuple(content["distillers"]),
        sources=tuple(content["sources"]),
        labelling=_labelling(content["labelling"]),
        networks=tuple(_network(network) for network in content["networks"]),
        noise=_noise_keys(content["noise"]),
        backgrounds=_noise_keys(content["backgrounds"]),
        **{
            name: content[name]
            for name in (
                "cell_id",
                "title",
                "fold",
                "seed",
                "start",
                "document",
                "eval_id",
                "sample_rate_hz",
                "soundscapes_id",
                "synthetic_id",
            )
        },
    )


def _noise_keys(content: Mapping[str, Any]) -> dict[str, tuple[NoiseKey, ...]]:
    return {name: tuple(NoiseKey(*key) for key in keys) for name, keys in content.items()}


def _as_network(cell: CellPlan) -> dict[str, Any]:
    return {
        "cell_id": cell.cell_id,
        "title": cell.title,
        "spec": cell.spec.model_dump(mode="json"),
        "classes": list(cell.classes),
    }


def _network(content: Mapping[str, Any]) -> TeacherCell:
    spec = ExperimentSpec.model_validate_json(json.dumps(content["spec"]))
    classes = ClassList(tuple(content["classes"]))
    return TeacherCell(content["cell_id"], content["title"], spec, classes)


def _labelling(content: Mapping[str, Any] | None) -> Labelling | None:
    if content is None:
        return None
    labellers = tuple(
        Labeller(one["cell_id"], tuple(one["files"]), one["outputs_id"])
        for one in content["labellers"]
    )
    named = {name: tuple(content[name]) for name in ("names", "keys")}
    return Labelling(**{**content, **named, "labellers": labellers})


def _known_keys(rows: Rows, chosen: npt.NDArray[np.int64]) -> list[str]:
    keys = [rows.keys[i] for i in chosen]
    missing = [rows.names[i] for i, key in zip(chosen, keys, strict=True) if key is None]
    if missing:
        raise CellError(
            f"the audio of {len(missing)} recordings is missing",
            got=", ".join(missing[:5]),
            fix="correct the path of the data set in birdlab.toml",
        )
    return [key for key in keys if key is not None]


def _validation_table(rows: Rows, chosen: npt.NDArray[np.int64]) -> pd.DataFrame:
    table = rows.table.iloc[chosen]
    columns = ["primary_label", "secondary_labels", "apart", "start_s", "end_s"]
    return table[columns].assign(
        recording=rows.names[chosen],
        secondary_labels=[list(labels) for labels in table["secondary_labels"]],
        key=_known_keys(rows, chosen),
    )
