"""On a GPU: equal bits twice and after an interruption, numbers near those of a CPU, precisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeLab

from birdlab.lab import Lab
from birdlab.network import load_model
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.sed.predictor import TorchPredictor
from birdlab.spec import load_spec
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import Inventory, build_inventory
from birdlab.tasks import Event

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

EPOCHS: dict[str, Any] = {"cells.folds": [0], "train.length": {"epochs": 3}}
WITHOUT_CHANCE: dict[str, Any] = {**EPOCHS, "model.head.dropout": 0}
"""Dropout draws on the device: a GPU, a CPU and a compiled network do so differently."""
RECIPES: dict[str, dict[str, Any]] = {
    "fp32": EPOCHS,
    "bf16 and ema": {**EPOCHS, "train.precision": "bf16", "train.ema_decay": 0.9},
    "fp16": {**EPOCHS, "train.precision": "fp16", "train.clip_norm": 1.0},
    "fp16, accumulated, channels last": {
        **EPOCHS,
        "train.precision": "fp16",
        "train.accumulate": 2,
        "train.channels_last": True,
    },
}


def run(lab: Lab, changes: dict[str, Any], **given: Any) -> RunResult:
    return run_experiment(load_spec(lab.root / "tiny.yaml", changes), lab=lab, **given)


def cell_folder(lab: Lab, changes: dict[str, Any]) -> Path:
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml", changes), lab)
    return lab.cells / plan.final_cells[0].cell_id


def assert_equal_bits(one: Path, two: Path) -> None:
    files = {p.relative_to(one) for p in one.rglob("*") if p.is_file()}
    assert files == {p.relative_to(two) for p in two.rglob("*") if p.is_file()}
    for file in files - {Path("cell.json"), Path("curves.parquet")}:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


@pytest.mark.parametrize("recipe", RECIPES)
def test_equal_bits_twice_and_after_an_interruption(make_lab: MakeLab, recipe: str) -> None:
    changes = RECIPES[recipe]
    labs = make_lab(), make_lab(), make_lab()
    for lab in labs[:2]:
        result = run(lab, changes)
        assert np.isfinite(result.curves["loss"]).all()
        assert np.isfinite(result.cv)
    assert_equal_bits(cell_folder(labs[0], changes), cell_folder(labs[1], changes))
    card = json.loads((cell_folder(labs[0], changes) / "cell.json").read_text())
    assert card["device"] == torch.cuda.get_device_name()

    def interrupt(event: Event) -> None:
        if event.kind == "epoch" and event.values["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(labs[2], changes, emit=interrupt)
    events: list[Event] = []
    run(labs[2], changes, emit=events.append)
    assert [e.values["epoch"] for e in events if e.kind == "resume"] == [2]
    assert_equal_bits(cell_folder(labs[0], changes), cell_folder(labs[2], changes))


def test_precisions_change_numbers_and_not_the_story(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = WITHOUT_CHANCE
    losses = {
        precision: run(lab, {**changes, "train.precision": precision}).curves["loss"].to_numpy()
        for precision in ("fp32", "bf16", "fp16")
    }
    for precision in ("bf16", "fp16"):
        assert not np.array_equal(losses[precision], losses["fp32"])
        np.testing.assert_allclose(losses[precision][0], losses["fp32"][0], rtol=0.4)


def test_a_compiled_network_trains_on_a_gpu(make_lab: MakeLab) -> None:
    lab = make_lab()
    plain = run(lab, WITHOUT_CHANCE).curves["loss"].to_numpy()
    compiled = run(lab, {**WITHOUT_CHANCE, "train.compile": True}).curves["loss"].to_numpy()
    assert not np.array_equal(compiled, plain)
    np.testing.assert_allclose(compiled[0], plain[0], rtol=0.05)


def test_a_cpu_and_a_gpu_say_the_same_of_a_window(make_lab: MakeLab) -> None:
    """What is stored was predicted on the GPU; the same weights on the CPU agree within 1e-4."""
    lab = make_lab()
    folder = cell_folder(lab, EPOCHS)
    result = run(lab, EPOCHS)
    waves = np.random.default_rng(0).uniform(-1, 1, (8, 5 * 32_000)).astype(np.float32)
    model = load_model(result.spec.model, 4, folder / "weights.safetensors")
    cpu = TorchPredictor(model, range(4), torch.device("cpu"))(waves)
    gpu = TorchPredictor(model, range(4), torch.device("cuda"))(waves)
    for name, a, b in zip(("clip", "time max"), cpu, gpu, strict=True):
        worst = float(np.abs(np.asarray(a) - np.asarray(b)).max())
        print(f"\n{name}: CPU and GPU differ by at most {worst:.1e}", end="")
        assert worst < 1e-4


def test_training_on_a_gpu_begins_as_training_on_a_cpu(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_lab(), make_lab()
    changes = {**WITHOUT_CHANCE, "augment": [], "train.length": {"steps": 4}}
    gpu = run(here, changes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = run(there, changes)
    np.testing.assert_allclose(gpu.curves["loss"][0], cpu.curves["loss"][0], rtol=0.02)


def test_cells_that_share_a_gpu_end_with_the_bits_of_cells_that_do_not(make_lab: MakeLab) -> None:
    alone, shared = make_lab(), make_lab()
    changes = {**EPOCHS, "cells.folds": "all"}
    run(alone, changes)
    inventory = build_inventory(shared)
    assert inventory.gpus, "a machine with a GPU trains on it unless told otherwise"
    both = Inventory(inventory.cores, inventory.gpus[:1], cells_per_gpu=2)
    with LocalExecutor(both) as executor:
        result = run(shared, changes, executor=executor)
    assert list(result.cells["device"]) == [torch.cuda.get_device_name()] * 2
    for cell_id in result.cells["cell_id"]:
        assert_equal_bits(alone.cells / cell_id, shared.cells / cell_id)
