"""The CPU budget against the clock: 20 soundscapes of 10 minutes, predicted and then timed."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import Row, note
from safetensors.torch import save_file

from birdlab.infer.benchmark import measure_machine, write_soundscape
from birdlab.infer.budget import Workload, predict_minutes
from birdlab.infer.passes import ModelChoice
from birdlab.infer.tuning import count_cores
from birdlab.promote.export import Member, export_ensemble
from birdlab.sed.model import SEDModel
from birdlab.spec.model import ModelSpec

FILES, FILE_MINUTES, RATE = 20, 10, 32_000
BACKBONES = ("mobilenetv3_small_050", "tf_efficientnet_b0")
CLASSES = tuple(f"bird{i}" for i in range(264))
ROUNDS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks with random weights, which cost what trained ones do."""
    folder = tmp_path_factory.mktemp("model")
    members = []
    for backbone in BACKBONES:
        torch.manual_seed(0)
        spec = ModelSpec(backbone=backbone, pretrained=False)
        weights = folder / f"{backbone}.safetensors"
        save_file(SEDModel(spec, len(CLASSES)).state_dict(), weights)
        members.append(Member(spec, CLASSES, weights, 5.0, 0.75, 0.25, name=backbone))
    return export_ensemble(members, folder / "model.onnx", classes=CLASSES).path


@pytest.fixture(scope="module")
def soundscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One synthesised recording under as many names as there are files."""
    folder = tmp_path_factory.mktemp("soundscapes")
    first = write_soundscape(folder / "site_0.ogg", FILE_MINUTES * 60, RATE, seed=3)
    for i in range(1, FILES):
        first.with_name(f"site_{i}.ogg").hardlink_to(first)
    return folder


@pytest.mark.slow
def test_predicted_minutes_are_those_of_a_dry_run(
    benchmark: Any, model: Path, soundscapes: Path, tmp_path: Path
) -> None:
    """Measured and timed by turns, so that what else the machine does meets both."""
    cores = min(2, count_cores())
    workload = Workload(FILES, FILE_MINUTES, 120)
    predicted: list[float] = []
    timed: list[float] = []

    def one_round() -> None:
        i = len(timed)
        machine = measure_machine(ModelChoice(model), cores=cores, seconds=20)
        predicted.append(predict_minutes(machine, workload).total_minutes)
        out = tmp_path / f"{i}.csv"
        run = [sys.executable, "-m", "birdlab.infer", "predict", str(soundscapes), "-o", str(out)]
        began = time.perf_counter()
        subprocess.run([*run, "--model", str(model)], check=True, capture_output=True)
        timed.append((time.perf_counter() - began) / 60)
        print(f"\n{predict_minutes(machine, workload)}\ntimed {timed[-1]:.3f} min")
        assert predict_minutes(machine, replace(workload, limit_minutes=1e-3)).fits is False

    benchmark.pedantic(one_round, rounds=ROUNDS)
    ratio = statistics.median(p / t for p, t in zip(predicted, timed, strict=True))
    print(f"predicted {predicted}, timed {timed} min on {cores} cores: ratio {ratio:.3f}")
    shown = [f"{statistics.median(minutes):.2f} min" for minutes in (predicted, timed)]
    what = f"minutes predicted for {FILES} soundscapes of {FILE_MINUTES} minutes, {cores} cores"
    row = Row("Promotion and prediction", what, shown[0], f"{shown[1]} by the clock")
    note(benchmark, row.told(f"within 20 %: here {ratio - 1:+.0%}", 0.8 <= ratio <= 1.2))
    assert 0.8 <= ratio <= 1.2
