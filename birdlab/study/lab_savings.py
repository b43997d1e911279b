"""What cache and race saved over the sweeps of a lab."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from birdlab.errors import BirdlabError
from birdlab.lab import Lab
from birdlab.study.sweep_records import load_sweep


def load_savings(lab: Lab, sweeps: Iterable[str]) -> pd.DataFrame:
    """A row per sweep and kind of device that saved anything: sweep, device, needed_hours,
    trained_hours, cache_hours, race_hours.

    Sweeps count apart: a cell of two sweeps is trained in both. Those that cannot be read are named
    with the reason in `.attrs["left_out"]`.
    """
    columns = ["sweep", "device", "needed_hours", "trained_hours", "cache_hours", "race_hours"]
    parts, left_out = [pd.DataFrame(columns=columns)], {}
    for name in sweeps:
        try:
            table = load_sweep(lab, name).savings.table
        except BirdlabError as error:
            left_out[name] = error.what
        else:
            saved = (table["cache_hours"] > 0) | (table["race_hours"] > 0)
            parts += [table[saved].assign(sweep=name)] if saved.any() else []
    found = pd.concat(parts[1:] or parts)[columns].reset_index(drop=True)
    found.attrs["left_out"] = left_out
    return found
