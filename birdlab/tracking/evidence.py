"""What a run was scored on, read back from its stored outputs: nothing is trained or decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellplan import CellPlan
from birdlab.datasets import open_dataset
from birdlab.errors import DataError, ResolveError
from birdlab.evaluate.deployed import count_rows
from birdlab.evaluate.evidence import Cell, Evidence, Heard
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.evaluate.score import deployed_windows
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.recorded import spec_of
from birdlab.runtables import load_fold_tables, load_table, tables_folder
from birdlab.scoring import fold_places, new_recordings
from birdlab.soundscapes import SoundscapeSet
from birdlab.synthetic import load_synthetic

Record = Mapping[str, Any]


def load_recordists(lab: Lab, record: Record) -> dict[str, str]:
    """Who made each held-out recording of a run, by its name.

    Empty for a run whose record was written before birdlab kept it. A recording whose author is
    not known is not in it.
    """
    table = load_table(tables_folder(lab, record["spec_id"]), "recordings")
    if table.empty:
        return {}
    known = table[table["recordist"] != table["recording"]]
    return dict(zip(known["recording"], known["recordist"], strict=True))


def load_evidence(
    lab: Lab,
    record: Record,
    *,
    new: bool = False,
    heard: bool = False,
    on: str = "",
    synthetic: bool = False,
) -> Evidence:
    """All that estimators ask of a run, from its stored outputs.

    new: also who made its recordings and where, for which the data sets are read; heard: also
    the windows of its soundscapes, with `on` those of this data set alone; synthetic: also those of
    its synthetic soundscapes. Raises as `load_fold_tables`; ResolveError where the data is no
    longer that of the run, DataError for a run that has no outputs on soundscapes.
    """
    cells = _final_cells(lab, record) if new else ()
    return Evidence(
        load_fold_tables(lab, record),
        _heard(lab, record, on) if heard else {},
        new_recordings(cells),
        _synthetic(lab, record) if synthetic else {},
        fold_places(cells),
    )


def _synthetic(lab: Lab, record: Record) -> dict[Cell, Heard]:
    cells = [cell for cell in record["cells"] if cell.get("synthetic_id")]
    if not cells:
        raise DataError(
            "the run has no stored outputs on synthetic soundscapes",
            where=_name(record),
            fix="write evaluate.synthetic and run its experiment again: nothing is trained where "
            "its weights are kept",
        )
    spec = spec_of(record)
    folders = {
        (int(c["fold"]), int(c["seed"])): lab.cells
        / c["cell_id"]
        / f"synthetic-{c['synthetic_id']}"
        for c in cells
    }
    return {key: load_synthetic(folder, spec) for key, folder in folders.items()}


def _final_cells(lab: Lab, record: Record) -> tuple[CellPlan, ...]:
    plan = plan_experiment(spec_of(record), lab, strict=False)
    if plan.spec_id != record["spec_id"]:
        raise ResolveError(
            "the data is no longer that of the run, so its training rows are not known",
            where=_name(record),
            fix="run its experiment again",
        )
    return plan.final_cells


def _heard(lab: Lab, record: Record, on: str) -> dict[Cell, Heard]:
    spec, heard = spec_of(record), {}
    for cell, stored, truth, chosen in iter_heard(lab, record, on):
        targets, probs = deployed_windows(stored, truth, spec.output, spec.postprocess)
        heard[cell] = targets[chosen], probs[chosen]
    return heard


def iter_heard(
    lab: Lab, record: Record, on: str = ""
) -> Iterator[tuple[Cell, StoredOutputs, npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
    """What each model of a run said of labelled soundscapes: (fold, seed), outputs, truth [R, C],
    and which of the rows are of the data set `on`, all for "".

    Raises DataError for a run that has no outputs on soundscapes, or none on these.
    """
    identity = record["evaluation"].get("soundscapes_hash", "")
    if not identity:
        raise DataError(
            "the run has no stored outputs on labelled soundscapes",
            where=_name(record),
            fix="name data sets in evaluate.soundscapes and run its experiment again: nothing is "
            "trained where its weights are kept",
        )
    window_s = spec_of(record).competition.window_s
    scapes: SoundscapeSet | None = None
    for cell in record["cells"]:
        stored = load_outputs(lab.cells / cell["cell_id"] / f"soundscapes-{identity}")
        w = stored.windows
        scapes = scapes or _soundscape_set(lab, w.recordings)
        n_rows = count_rows(w)
        truth = scapes.targets(n_rows, stored.classes, window_s)
        files = np.repeat(np.arange(len(n_rows)), n_rows)
        chosen = _rows_on(on, scapes, files, record)
        yield (int(cell["fold"]), int(cell["seed"])), stored, truth, chosen


def _rows_on(
    on: str, scapes: SoundscapeSet, files: npt.NDArray[np.int64], record: Record
) -> npt.NDArray[np.int64]:
    """Which rows are of the data set `on`, all for ""; `files` has the file of each row."""
    datasets = scapes.table["dataset"].to_numpy(str)
    if on and on not in datasets:
        raise DataError(
            f"the run has no stored outputs on the soundscapes of {on}",
            where=_name(record),
            expected=", ".join(scapes.datasets),
            fix="name it in evaluate.soundscapes and run the experiment again",
        )
    return np.flatnonzero((datasets[files] == on) | (on == ""))


def _soundscape_set(lab: Lab, recordings: tuple[str, ...]) -> SoundscapeSet:
    """The labelled files that outputs are of, which are called `<data set>/<file>`."""
    parts = [name.split("/", 1) for name in recordings]
    table = pd.DataFrame(parts, columns=["dataset", "filename"]).assign(recording=recordings)
    datasets = {name: open_dataset(lab, str(name)) for name in table["dataset"].unique()}
    return SoundscapeSet(datasets, table, (None,) * len(table))


def _name(record: Record) -> str:
    return str(record["name"] or record["spec_id"])
