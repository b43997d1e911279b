"""Which weights stay: what `keep:` lets go when runs are scored."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from filelock import FileLock, Timeout

from birdlab.cellfiles import WEIGHTS
from birdlab.celljob import JOB
from birdlab.jobwriter import is_left_behind
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.recorded import cells_of, inputs_of, iter_line, load_records


def drop_weights(lab: Lab, scored: Sequence[Plan], waiting: Sequence[Plan]) -> list[str]:
    """Remove the weights that the scored runs let go; the ids of their cells.

    Weights stay that another run of the lab keeps, that a run `waiting` for the next command may
    start from, or that someone works on or starts from right now. Cards, curves and outputs
    always stay.
    """
    loose = {c.cell_id for p in scored for c in p.cells if not c.keeps_weights}
    loose = {cell_id for cell_id in loose if (lab.cells / cell_id / WEIGHTS).is_file()}
    if not loose:
        return []
    kept = {c.cell_id for p in scored for c in p.cells if c.keeps_weights}
    kept |= {c.cell_id for p in waiting for c in p.cells}
    kept |= cells_in_work(lab) | _kept_by_records(lab, {p.spec_id for p in scored})
    return [cell_id for cell_id in sorted(loose - kept) if _drop(lab, cell_id)]


def cells_in_work(lab: Lab) -> set[str]:
    """The cells that drivers, as far as they may be alive, train now, and all inputs of these.

    So are the cells of a SLURM queue, whose driver may have left.
    """
    ids: set[str] = set()
    for job in (*lab.cells.glob(f".jobs-*/*/{JOB}"), *lab.stores.glob(f"slurm/*/job/{JOB}")):
        if is_left_behind(job.parent.parent):
            continue
        try:
            content = json.loads(job.read_text())
        except (OSError, ValueError):  # its driver is just writing or removing it
            continue
        ids |= {content["cell_id"], *inputs_of(content)}
    return ids


def _kept_by_records(lab: Lab, but: Collection[str]) -> set[str]:
    """The cells whose weights recorded runs keep, without the runs that are named."""
    kept: set[str] = set()
    for record in load_records(lab):
        keep = (record.get("spec") or {"keep": "outputs"}).get("keep", "all")
        if record["spec_id"] in but or keep == "outputs":
            continue
        ids = [cell["cell_id"] for cell in cells_of(record)]
        kept |= set(ids) if keep == "final" else {c for i in ids for c in iter_line(lab, i)}
    return kept


def _drop(lab: Lab, cell_id: str) -> bool:
    try:
        with FileLock(lab.cells / f".{cell_id}.lock", timeout=0):
            (lab.cells / cell_id / WEIGHTS).unlink(missing_ok=True)
    except Timeout:
        return False
    return True
