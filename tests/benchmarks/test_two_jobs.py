"""Two jobs against one on the demo: how much of a second core a sweep uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from rows import Row, note

ROOT = Path(__file__).parents[2]
SHORTER = "set: {train.length.epochs: 10}\n"


def sweep(lab: Path, jobs: int) -> float:
    """Seconds of the demo's sweep of learning rates, 12 cells, each trained for 10 epochs."""
    words = [sys.executable, "-m", "birdlab.cli.app", "--lab", str(lab), "sweep"]
    began = perf_counter()
    command = [*words, str(lab / "experiments" / "lr.yaml"), "--no-mlflow", "--jobs", str(jobs)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return perf_counter() - began


@pytest.mark.slow
def test_two_jobs_against_one(benchmark: Any, tmp_path: Path) -> None:
    for jobs in (1, 2):
        lab = tmp_path / f"jobs{jobs}"
        command = [sys.executable, "-m", "birdlab.cli.app"]
        subprocess.run([*command, "init", str(lab)], check=True, capture_output=True, cwd=ROOT)
        sweep_file = lab / "experiments" / "lr.yaml"
        sweep_file.write_text(sweep_file.read_text().replace("grid:\n", SHORTER + "grid:\n", 1))
        build = ["data", "build", str(lab / "experiments" / "baseline.yaml")]
        subprocess.run(
            [*command, "--lab", str(lab), *build], check=True, capture_output=True, cwd=ROOT
        )
    alone = sweep(tmp_path / "jobs1", 1)
    seconds = benchmark.pedantic(sweep, (tmp_path / "jobs2", 2), rounds=1)
    ahead = alone / seconds
    what = "sweep of 12 demo cells with `--jobs 2`, 10 epochs each, 2 cores"
    row = Row("Sweeps", what, f"{seconds:.0f} s", f"{alone:.0f} s with one job", ahead)
    note(benchmark, row.told("at least 1.6 x", ahead >= 1.6))
    assert ahead >= 1.6
