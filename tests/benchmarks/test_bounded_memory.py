"""What may not grow: memory with the recordings of a table, a long file, a long soundscape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_memory
import test_store
from conftest import MakeLab
from rows import Row, note
from test_predict_rate import save_model

from birdlab.infer.benchmark import write_soundscape

ROOT = Path(__file__).parents[2]
SIZES = (1_000, 16_941, 200_000)
HOUR_S, RATE = 3_600, 32_000

PREDICT = """
import sys
from pathlib import Path
from birdlab.infer.predict import PredictRequest, predict_to_file
model, folder, out = map(Path, sys.argv[1:])
predict_to_file(PredictRequest(model, folder, out, sessions=1, threads=1))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""
"""Prints its own peak in KiB: that of getrusage counts the process that started it, too."""


def test_bytes_that_training_keeps_per_recording(benchmark: Any, make_lab: MakeLab) -> None:
    """Anonymous memory of processes that train on tables of 1,000 to 200,000 rows."""
    small, *larger = benchmark.pedantic(test_memory.anonymous_bytes, (SIZES, make_lab), rounds=1)
    each = [(n - small) / (rows - SIZES[0]) for rows, n in zip(SIZES[1:], larger, strict=True)]
    shown = " and ".join(f"{n:.0f}" for n in each) + " bytes at 16,941 and 200,000"
    row = Row("Data", "memory of a training process per recording in the table", shown)
    held = max(each) < test_memory.MOST_BYTES
    note(benchmark, row.told("under 200 bytes", held))
    assert held


def test_memory_of_a_build_with_a_long_file(benchmark: Any, tmp_path: Path) -> None:
    peak = benchmark.pedantic(test_store.peak_of_a_long_build, (tmp_path,), rounds=1)
    row = Row("Data", "peak memory of a build with a file of 40 minutes", f"{peak / 1e6:.0f} MB")
    note(benchmark, row.told("at most 500 MB", peak < 500e6))
    assert peak < 500e6


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_memory_of_predict_on_an_hour(benchmark: Any, tmp_path: Path) -> None:
    """Peak resident memory of the process, imports included."""
    model = save_model(tmp_path, "tf_efficientnet_lite0")
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    write_soundscape(sounds / "hour_0500.ogg", HOUR_S, RATE, seed=3)
    words = [sys.executable, "-c", PREDICT, *map(str, (model, sounds, tmp_path / "out.csv"))]

    def predict() -> int:
        done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
        return 1024 * int(done.stdout.split()[-1])

    peak = benchmark.pedantic(predict, rounds=1)
    most = 1e9 + 2 * model.stat().st_size
    what = "peak memory of `predict` on a file of 60 minutes, one session"
    row = Row("Promotion and prediction", what, f"{peak / 1e6:.0f} MB")
    asked = f"under 1 GB + 2 x the model ({most / 1e6:,.0f} MB)"
    note(benchmark, row.told(asked, peak < most))
    assert peak < most
