"""What MLflow costs the process that trains, and how soon its UI shows runs."""

from __future__ import annotations

import os
import signal
import statistics
from typing import Any

import mlflow_ui
import pytest
from conftest import MakeLab
from rows import Row, note
from test_background import blends

from birdlab.lab import open_lab
from birdlab.tracking.mlflow_sink import MlflowSink

N_RUNS = 2_000


def test_a_run_costs_the_driver_little(benchmark: Any, make_lab: MakeLab) -> None:
    """20 runs told to MLflow in the background, one after another."""
    lab = make_lab(trained=True, mlflow=True)
    shares = [n / 20 for n in range(20)]
    with MlflowSink(lab) as sink:
        spent = [longest for share in shares[1:] for _, longest in [blends(lab, sink, [share])]]
        _, last = benchmark.pedantic(blends, (lab, sink, shares[:1]), rounds=1)
    ms = [1000 * s for s in (*spent, last)]
    what = "what tracking a run in MLflow costs the driver, 20 runs"
    shown = f"median {statistics.median(ms):.0f} ms, worst {max(ms):.0f} ms"
    row = Row("Tracking and pages", what, shown)
    note(benchmark, row.told("at most 250 ms", max(ms) < 250))
    assert statistics.median(ms) < 250


@pytest.mark.slow
@pytest.mark.browser
def test_the_ui_of_mlflow_with_2000_runs(benchmark: Any, make_lab: MakeLab) -> None:
    """The first row in a fresh browser; parent runs have at most 15 parameters."""
    source, lab = make_lab(trained=True), make_lab(mlflow=True)
    mlflow_ui.fill(lab, source, N_RUNS)
    process, port = mlflow_ui.serve(open_lab(lab.root))
    address = f"http://127.0.0.1:{port}/#/experiments/1/runs"
    try:
        (took, shown), *rest = [mlflow_ui.seconds_to_rows(address, None) for _ in range(3)]
        benchmark.pedantic(mlflow_ui.seconds_to_rows, (address, None), rounds=1)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    seconds = sorted([took, *(s for s, _ in rest)])
    assert shown > 0
    what = f"first rows of MLflow's UI with {N_RUNS:,} parent runs"
    row = Row("Tracking and pages", what, f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, 3 tries")
    note(benchmark, row.told("under 5 s", seconds[1] < 5))
    assert seconds[1] < 15
