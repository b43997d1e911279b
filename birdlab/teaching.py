"""Teachers of a cell: which models may teach it, and which soundscapes each of them may label.

A model teaches only cells that are scored on rows of which it heard none: no recording, no
waveform, no recordist's birds of a species beyond those the cell trains on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellplan import CellPlan
from birdlab.data.leaks import KEYS, find_shared
from birdlab.datasets import sample_rate_of
from birdlab.errors import DataError
from birdlab.evaluate.predictor import build_windowing
from birdlab.rows import Rows
from birdlab.soundscapes import soundscapes_id
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.unlabelled import UnlabelledSet

TEACHER = "teacher"
"""What `data.accept_leaks` says where a teacher may have heard rows that are scored."""

Keys = frozenset[str]


@dataclass(frozen=True, eq=False)
class TeacherRun:
    """A recorded run as a teacher: its experiment, and its cells that are to be had."""

    name: str
    spec_id: str
    spec: ExperimentSpec
    cells: tuple[CellPlan, ...]


@dataclass(frozen=True, eq=False)
class TeacherModel:
    """An ONNX file as a teacher. `heard` are the rows it was trained on, None where unknown;
    `is_foreign` for one that birdlab did not promote.
    """

    name: str
    identity: str
    heard: tuple[Rows, ...] | None
    is_foreign: bool


@dataclass(frozen=True, eq=False)
class Pupil:
    """A cell as its teachers must see it.

    held: the rows it is scored on, with `key` and `fold`, None where it is scored on none; own:
    the waveforms it trains on itself; accepted: of `data.accept_leaks`.
    """

    title: str
    where: str
    fold: int | None
    held: pd.DataFrame | None
    own: Keys
    accepted: tuple[str, ...]

    @property
    def held_keys(self) -> Keys:
        """The waveforms that it is scored on."""
        return frozenset() if self.held is None else frozenset(self.held["key"])


@dataclass(frozen=True)
class Labeller:
    """Which files a cell may label: places in the keys of the Labelling; how its outputs on all of
    them are called.
    """

    cell_id: str
    files: tuple[int, ...]
    outputs_id: str


@dataclass(frozen=True)
class Labelling:
    """The soundscapes of a cell and who labels which of them.

    model: the ONNX teacher, None where cells label; teacher: a hash of all that labels; left_out:
    how many soundscapes nobody may label, which lie in `keys` no more.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    teacher: str
    labellers: tuple[Labeller, ...] = ()
    model: str | None = None
    left_out: int = 0

    @property
    def content(self) -> str:
        """A hash over the waveforms."""
        return digest(list(self.keys))


class SafeTeachers:
    """Asks of each teacher what it heard; the rows of a table are compared once a fold."""

    def __init__(self) -> None:
        self._shared: dict[tuple[int, int | None, str], npt.NDArray[np.bool_]] = {}
        self._kept: list[Rows] = []

    def of_run(self, run: TeacherRun, pupil: Pupil) -> tuple[CellPlan, ...]:
        """The cells of a run that may teach; all of them where nothing is held out.

        Raises DataError where there is none, unless that is accepted.
        """
        if pupil.held is not None and TEACHER in set(run.spec.data.accept_leaks) - set(
            pupil.accepted
        ):
            told = ["it accepts teachers that were trained on rows that are scored"]
            raise _unsafe(f"the run {run.name} may not teach", pupil, told)
        found = {cell.cell_id: self.count_heard(cell, pupil) for cell in run.cells}
        safe = tuple(cell for cell in run.cells if not found[cell.cell_id])
        if not safe and TEACHER not in pupil.accepted:
            told = [f"{c.title}: {found[c.cell_id]:,} rows" for c in run.cells]
            raise _unsafe(f"no model of the run {run.name} may teach", pupil, told)
        return safe or run.cells

    def refuse_model(self, model: TeacherModel, pupil: Pupil) -> None:
        """Raise DataError for a model of ours that heard rows the pupil is scored on, or may have;
        of a foreign one nobody knows, which notes say.
        """
        if pupil.held is None or TEACHER in pupil.accepted or model.is_foreign:
            return
        if model.heard is None:
            told = ["nobody knows what it was trained on: its runs are not in the lab"]
        else:
            counts = [int(self._mask(rows, pupil).sum()) for rows in model.heard]
            told = [f"{count:,} rows" for count in counts if count]
        if told:
            raise _unsafe(f"the model {model.name} may not teach", pupil, told)

    def count_heard(self, cell: CellPlan, pupil: Pupil) -> int:
        """How many rows that a cell or one it goes back to was trained on are not for the pupil."""
        total = 0
        for node in cell.line if pupil.held is not None else ():
            rows = np.unique(node.chosen)
            rows = rows[self._mask(node.rows, pupil)[rows]]
            total += sum(node.rows.keys[row] not in pupil.own for row in rows)
        return total

    def _mask(self, rows: Rows, pupil: Pupil) -> npt.NDArray[np.bool_]:
        assert pupil.held is not None
        rules = [rule for rule in KEYS if rule not in pupil.accepted]
        key = (id(rows), pupil.fold, ",".join(rules))
        if key not in self._shared:
            self._kept.append(rows)  # an id is one's own only as long as one lives
            self._shared[key] = find_shared(rows.with_keys(), pupil.held, rules)
        return self._shared[key]


def plan_labels(
    files: UnlabelledSet, cells: Sequence[CellPlan], pupil: Pupil, model: TeacherModel | None
) -> Labelling:
    """Who labels which soundscapes: each only those that it, or a stage before it, did not hear.

    What the pupil is scored on is never labelled. Raises DataError where nothing is left.
    """
    heard = [_trained_on(cell) for cell in cells]
    if model is not None:
        heard = [frozenset(key for rows in model.heard or () for key in rows.keys if key)]
    held = pupil.held_keys
    kept = [
        i
        for i, key in enumerate(files.keys)
        if key not in held and any(key not in known for known in heard)
    ]
    if not kept:
        raise DataError(
            "none of the soundscapes may be labelled",
            where=pupil.where,
            got=f"{len(files.keys):,} soundscapes, all of them in training or validation as well",
            expected="soundscapes that a teacher has not heard",
        )
    keys = tuple(files.keys[i] for i in kept)
    labellers = tuple(_labeller(c, known, keys) for c, known in zip(cells, heard, strict=False))
    return Labelling(
        tuple(files.names[i] for i in kept),
        keys,
        _name_teacher(cells, labellers, len(keys)) if model is None else model.identity,
        labellers,
        None if model is None else model.name,
        len(files.keys) - len(kept),
    )


def _labeller(cell: CellPlan, heard: Keys, keys: Sequence[str]) -> Labeller:
    windowing = build_windowing(cell.spec, sample_rate_of(cell.spec))
    files = tuple(i for i, key in enumerate(keys) if key not in heard)
    return Labeller(cell.cell_id, files, soundscapes_id(keys, windowing, cell.classes))


def _name_teacher(cells: Sequence[CellPlan], labellers: Sequence[Labeller], n_files: int) -> str:
    """A hash of all that the labels depend on beside the waveforms."""
    return digest(
        [
            {
                "outputs": [one.cell_id, one.outputs_id],
                "output": canonical(cell.spec.output),
                "files": "all" if len(one.files) == n_files else list(one.files),
            }
            for cell, one in zip(cells, labellers, strict=True)
        ]
    )


def _trained_on(cell: CellPlan) -> Keys:
    rows = ((node.rows, row) for node in cell.line for row in np.unique(node.chosen))
    return frozenset(key for table, row in rows if (key := table.keys[row]) is not None)


def _unsafe(what: str, pupil: Pupil, told: Sequence[str]) -> DataError:
    return DataError(
        f"{what} {pupil.title}: trained on what its fold is scored on",
        where=pupil.where,
        got="; ".join(told[:8]),
        expected="a model that held out every row of the fold",
        fix="take a run with the same data.folds, or accept it by name, which raises scores: "
        f"data.accept_leaks: [{TEACHER}]",
    )
