"""A sweep laid over another base than that of its file."""

from __future__ import annotations

from birdlab.errors import SpecError
from birdlab.lab import Lab
from birdlab.recorded import load_json
from birdlab.spec.sweep import Sweep
from birdlab.tracking.index import SWEEP_FIX, sweep_path


def refuse_other_base(lab: Lab, sweep: Sweep) -> None:
    """Raise SpecError where the record of this name is that of a sweep over another base.

    Only a sweep that was laid over another base is looked at: whoever edits `base` in a file means
    the same sweep.
    """
    path = sweep_path(lab, sweep.spec.name)
    if not sweep.rebased or not path.is_file():
        return
    other = load_json(path, SWEEP_FIX)["spec"].get("base")
    if other != sweep.spec.base:
        raise SpecError(
            "the lab has a sweep of this name over another base",
            got=sweep.spec.name,
            where=str(other),
            fix="give this one another name: --name NAME",
        )
