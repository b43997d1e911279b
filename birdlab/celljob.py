"""A cell as files: all that a process needs to finish it, however long the table was.

The driver plans and writes a job (`jobwriter`); whoever finishes the cell reads it. The rows lie in
arrays that are mapped, not loaded, so that the memory of a training process hardly grows with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.classes import ClassList
from birdlab.data.table import NoiseKey
from birdlab.errors import CellError
from birdlab.sed.steps import Steps
from birdlab.sed.targets import Targets
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.parts import StageSpec
from birdlab.teaching import Labeller, Labelling

JOB, NAMES, VALIDATION = "job.json", "names.parquet", "validation.parquet"
SOUNDSCAPES = "soundscapes.parquet"
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
