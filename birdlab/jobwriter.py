"""The jobs of a driver: one folder for all, a folder in it for each cell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellfiles import WEIGHTS
from birdlab.celljob import INPUTS, JOB, NAMES, SOUNDSCAPES, VALIDATION, CellJob, load_job
from birdlab.cellplan import CellPlan
from birdlab.errors import CellError
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.processes import is_gone, own_process
from birdlab.rows import Rows

_PREFIX = ".jobs-"


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


def _as_network(cell: CellPlan) -> dict[str, Any]:
    return {
        "cell_id": cell.cell_id,
        "title": cell.title,
        "spec": cell.spec.model_dump(mode="json"),
        "classes": list(cell.classes),
    }


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
