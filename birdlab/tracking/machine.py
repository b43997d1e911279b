"""What the machine does while runs are under way: processor, memory, disk, network, GPUs.

Sampled once for all runs by one thread of the driver, kept beside the record of each run, and
logged with it under the names that MLflow's own page of system metrics shows.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pandas as pd

from birdlab.lab import Lab
from birdlab.runtables import save_tables, tables_folder

INTERVAL_S = 5.0
MOST_POINTS = 60
"""Points that are kept of each number of a run: a long run is thinned to so many."""
MOST_SAMPLES = 4096
"""Samples in memory: when there are more, every other one goes, and half as many are taken."""


class MachineWatch:
    """Samples the machine from the first `begin` to `close`; `end` keeps the part of one run."""

    def __init__(self, lab: Lab, interval_s: float = INTERVAL_S) -> None:
        self.lab, self.interval_s = lab, interval_s
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._began: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, spec_id: str) -> None:
        """Note that a run is under way."""
        self._began.setdefault(spec_id, time.time())
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="machine", daemon=True)
            self._thread.start()

    def end(self, spec_id: str) -> None:
        """Keep what was sampled since the run began, if anything was."""
        began = self._began.pop(spec_id, None)
        mine = [s for s in list(self._samples) if began is not None and s[0] >= began]
        if not mine:
            return
        kept = mine[:: -(-len(mine) // MOST_POINTS)]
        rows = [
            {"name": name, "value": value, "at_ms": int(1000 * at), "step": step}
            for step, (at, sample) in enumerate(kept)
            for name, value in sample.items()
        ]
        save_tables(tables_folder(self.lab, spec_id), {"system": pd.DataFrame(rows)})

    def close(self) -> None:
        """Sample no more."""
        self._stop.set()

    def _run(self) -> None:
        monitors = _build_monitors()
        while not self._stop.is_set():
            self._samples.append((time.time(), _sample(monitors)))
            if len(self._samples) > MOST_SAMPLES:
                self._samples, self.interval_s = self._samples[::2], 2 * self.interval_s
            self._stop.wait(self.interval_s)


def _build_monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError):  # no driver or no GPU: the rest is of use without it
        return monitors
    return monitors


def _sample(monitors: list[Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return values
