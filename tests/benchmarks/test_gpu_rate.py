"""Training on a GPU against the network alone on one fixed batch: does the loader keep it busy?"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
import training_loops as loops
from rows import Row, note

from birdlab.data.demo.oggfile import write_ogg
from birdlab.sed.batch import ClipBatch
from birdlab.sed.draws import EpochDraws
from birdlab.sed.epochs import EpochReport
from birdlab.sed.fit import fit
from birdlab.sed.learner import PRECISIONS, Learner
from birdlab.sed.losses import compute_loss
from birdlab.sed.model import SEDModel
from birdlab.sed.steps import Steps
from birdlab.spec.model import ModelSpec
from birdlab.spec.recipe import Length, TrainSpec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

BATCH, N_STEPS, N_EPOCHS = 64, 25, 3
BACKBONE = "eca_nfnet_l0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of recordings of half a minute, and noises."""
    root = tmp_path_factory.mktemp("gpu")
    rng = np.random.default_rng(0)
    for part, n in (("train", 120), ("noise", 12)):
        (root / part).mkdir()
        for i in range(n):
            path, first = (root / part / f"{j:03d}.ogg" for j in (i, i % 6))
            if i < 6:
                write_ogg(path, (0.2 * rng.normal(size=30 * loops.RATE)).astype(np.float32))
            else:
                path.hardlink_to(first)
    return root


def fixed_step_s(precision: str) -> float:
    """Seconds a step of the network alone on one batch that lies on the GPU."""
    device = torch.device("cuda")
    model = SEDModel(ModelSpec(backbone=BACKBONE), loops.N_CLASSES).train().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    wave = torch.rand(BATCH, loops.CROP, device=device) * 2 - 1
    targets = torch.eye(loops.N_CLASSES, device=device)[:BATCH]
    began = 0.0
    for step in range(2 * N_STEPS):
        if step == N_STEPS:
            torch.cuda.synchronize()
            began = perf_counter()
        dtype = PRECISIONS[precision]
        with torch.autocast("cuda", dtype, enabled=precision != "fp32"):
            output = model.classify(model.frontend(wave))
        loss = compute_loss(loops.TRAIN.loss, output, targets, None)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()
    torch.cuda.synchronize()
    return (perf_counter() - began) / N_STEPS


def learner_step_s(train: TrainSpec) -> float:
    """Seconds a step of `Learner` on one batch that lies on the GPU: no clip is read."""
    device = torch.device("cuda")
    model = SEDModel(ModelSpec(backbone=BACKBONE), loops.N_CLASSES)
    learner = Learner(model, train, (), Steps(2 * N_STEPS, N_STEPS, BATCH), device)
    wave = torch.rand(BATCH, loops.CROP, device=device) * 2 - 1
    targets = torch.eye(loops.N_CLASSES, device=device)[:BATCH]
    clips = ClipBatch(wave, targets, loops.RATE)
    learner.begin_epoch(0)
    began = 0.0
    for step in range(2 * N_STEPS):
        if step == N_STEPS:
            began = perf_counter()
        learner.step(step, clips, EpochDraws(0, 0, 0), np.arange(BATCH))
    return (perf_counter() - began) / N_STEPS


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_step_rate_on_a_gpu(benchmark: Any, folder: Path, precision: str) -> None:
    """Steps a second with reading and all augmentations, for 1, 4 and 8 reading threads."""
    source = loops.open_source(folder)
    train = TrainSpec(batch=BATCH, length=Length(epochs=N_EPOCHS), precision=precision)
    fixed_s = fixed_step_s(precision)
    ours_s = learner_step_s(train)
    print(f"\n{precision}: {fixed_s * 1e3:.1f} ms a step, of Learner {ours_s * 1e3:.1f} ms", end="")
    reports: list[EpochReport] = []
    rates = {}
    for workers in (1, 4, 8):
        reports.clear()
        fit(
            SEDModel(ModelSpec(backbone=BACKBONE), loops.N_CLASSES),
            source,
            train,
            loops.AUGMENT,
            Steps(N_EPOCHS * N_STEPS, N_STEPS, BATCH),
            seed=0,
            fold=0,
            device=torch.device("cuda"),
            names=lambda rows: [str(row) for row in rows],
            report=reports.append,
            workers=workers,
        )
        best = max(reports[1:], key=lambda r: r.clips_per_s)
        rates[workers] = best.clips_per_s * fixed_s / BATCH
        print(
            f"\n{precision}, {workers} readers: {best.clips_per_s:.0f} clips/s, "
            f"{rates[workers]:.3f} of one fixed batch ({BATCH / fixed_s:.0f} clips/s), "
            f"waited {best.wait_share:.0%}",
            end="",
        )
    print(f"\n{precision}: at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", end="")
    benchmark.extra_info["step_rate"] = {str(k): round(v, 3) for k, v in rates.items()}
    benchmark.pedantic(lambda: fixed_step_s(precision), rounds=1)
    clips = [f"{rate * BATCH / fixed_s:.0f} clips/s" for rate in (max(rates.values()), 1)]
    what = f"{BACKBONE} on a GPU in {precision}, all augmentations, {BATCH} clips of 5 s a step"
    peer = f"{clips[1]}, the network on one batch on the GPU"
    why = "Reading and augmenting share the GPU and the interpreter with the network."
    note(benchmark, Row("Training", what, clips[0], peer, max(rates.values()), why=why))
    assert max(rates.values()) >= 0.65
