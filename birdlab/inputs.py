"""The data sets that a run was made from, by name, each with a digest of what it held."""

from __future__ import annotations

from typing import Any

import numpy as np

from birdlab.plan import Plan
from birdlab.rows import Rows
from birdlab.spec.identity import digest


def data_inputs(plan: Plan) -> list[dict[str, Any]]:
    """name, role, digest, n_rows of the data sets of a plan, in the order of their roles.

    role: base, extra, pretrain (of a stage), background or soundscapes. The digest is over what
    the run takes from it (ids, parts, labels, waveforms), so it changes with the rules that
    clean it, and not with the folder it lies in. Soundscapes that teachers label and backgrounds of
    synthetic soundscapes are not listed.
    """
    table = plan.rows.table
    inputs = [
        _rows_input(name, "base" if name == plan.spec.data.base else "extra", plan.rows, places)
        for name, places in table.groupby("dataset", sort=False).indices.items()
    ]
    stages = {
        cell.stage.data: cell.rows for cell in plan.cells if cell.stage.data not in (None, "")
    }
    inputs += [
        _rows_input(str(name), "pretrain", rows, np.arange(len(rows.keys)))
        for name, rows in stages.items()
    ]
    inputs += [
        {
            "name": name,
            "role": "background",
            "digest": digest([clip.content for clip in clips]),
            "n_rows": len(clips),
        }
        for name, clips in plan.noise.items()
    ]
    if plan.soundscapes is not None:
        scapes = plan.soundscapes
        inputs.append(
            {
                "name": "+".join(scapes.datasets),
                "role": "soundscapes",
                "digest": scapes.identity,
                "n_rows": len(scapes.table),
            }
        )
    return inputs


def _rows_input(name: object, role: str, rows: Rows, places: Any) -> dict[str, Any]:
    chosen = np.asarray(places, np.int64)
    return {
        "name": str(name),
        "role": role,
        "digest": rows.digest(chosen),
        "n_rows": len(chosen),
    }
