"""A scored run as it was, read back from its record, its tables and its cells."""

from __future__ import annotations

import pandas as pd

from birdlab.lab import Lab
from birdlab.recorded import load_record, spec_of
from birdlab.runresult import RunNote, RunResult
from birdlab.runtables import load_curves, load_table, tables_folder


def load_result(lab: Lab, spec_id: str) -> RunResult:
    """The result of a run that was scored before, from the lab alone: nothing is computed anew.

    `note` holds its name and delta, `cached` counts its scored cells. Tables that an older record
    lacks are empty, and so are the curves of cells that are gone. Raises TrackingError when the
    record is not there or cannot be read, ResolveError where its spec does not hold.
    """
    record = load_record(lab, spec_id)
    cells = pd.DataFrame(record["cells"])
    folder = tables_folder(lab, spec_id)
    return RunResult(
        spec_of(record),
        spec_id,
        RunNote(title=record["name"], delta=record["delta"]),
        record["scores"],
        cells,
        {
            "classes": lambda: load_table(folder, "classes"),
            "curves": lambda: load_curves(lab, cells["cell_id"]),
            "recordings": lambda: load_table(folder, "recordings"),
        },
        trained_cells=frozenset(),
        cached=len(cells),
        record=lab.runs / f"{spec_id}.json",
        chosen=record.get("chosen", ""),
        stopped_at=record.get("stopped_at", ""),
        waterfall=load_table(folder, "waterfall"),
        dropped=load_table(folder, "dropped"),
    )
