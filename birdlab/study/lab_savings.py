"""What cache and race saved over the sweeps of a lab."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from birdlab.lab import Lab
from birdlab.study.sweep_records import load_sweep


def load_savings(lab: Lab, sweeps: Iterable[str]) -> pd.DataFrame:
    """A row per sweep and kind of device that saved anything: sweep, device, needed_hours,
    trained_hours, cache_hours, race_hours.

    Sweeps count apart: a cell of two sweeps is trained in both. Raises as `load_sweep`.
    """
    columns = ["sweep", "device", "needed_hours", "trained_hours", "cache_hours", "race_hours"]
    parts = [load_sweep(lab, name).savings.table.assign(sweep=name) for name in sweeps]
    if not parts:
        return pd.DataFrame(columns=columns)
    found = pd.concat(parts)
    saved = found[(found["cache_hours"] > 0) | (found["race_hours"] > 0)]
    return saved[columns].reset_index(drop=True)
