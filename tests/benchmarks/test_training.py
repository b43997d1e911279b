"""Training end to end against a plain loop, and against the network alone on one fixed batch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
import training_loops as loops
from rows import Row, note
from torch import nn

from birdlab.cell import keep_freed_memory
from birdlab.data.demo.oggfile import write_ogg
from birdlab.sed.fit import fit
from birdlab.sed.losses import compute_loss
from birdlab.sed.model import SEDModel
from birdlab.sed.steps import Steps

N_RECORDINGS, N_NOISE, N_DIFFERENT, SECONDS, N_STEPS = 240, 24, 8, 30, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of recordings as OGG files and in a warm store; some files are copies."""
    root = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * loops.RATE) / loops.RATE
    for part, n in (("train", N_RECORDINGS), ("noise", N_NOISE)):
        (root / part).mkdir()
        for i in range(n):
            path, first = (root / part / f"{j:03d}.ogg" for j in (i, i % N_DIFFERENT))
            if i < N_DIFFERENT:
                tone = np.sin(2 * np.pi * (1500 + 300 * i) * t)
                wave = 0.05 * rng.normal(size=len(t)) + 0.3 * tone
                write_ogg(path, wave.astype(np.float32))
            else:
                path.hardlink_to(first)
    loops.open_source(root)
    return root


def measured(side: str, folder: Path) -> dict[str, float]:
    """What one loop in a process of its own took."""
    command = [sys.executable, loops.__file__, side, str(folder), str(N_STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def note_loops(benchmark: Any, best: dict[str, tuple[float, float]]) -> None:
    """Rows for the page of benchmarks of what both loops took."""
    what = {
        "clips_per_s": ("clips a second, tf_efficientnet_b0, all of 2023, 2 threads", "clips/s"),
        "peak_mb": ("peak memory of this training", "MB"),
        "first_step_s": ("start to the first step of this training", "s"),
    }
    for name, (mine, other) in best.items():
        ahead = mine / other if name == "clips_per_s" else other / mine
        shown = [f"{value:,.3g} {what[name][1]}" for value in (mine, other)]
        peer = f"{shown[1]}, a plain loop, 2 hours of audio in memory"
        note(benchmark, Row("Training", what[name][0], shown[0], peer, ahead, "ahead", ahead > 1))


def test_training_against_a_plain_loop(benchmark: Any, folder: Path) -> None:
    """More clips a second, less memory and an earlier first step than the plain loop."""
    ours, plain = [], []

    def round_of_both() -> None:
        plain.append(measured("plain", folder))
        ours.append(measured("ours", folder))

    benchmark.pedantic(round_of_both, rounds=3)
    best = {
        name: (pick(r[name] for r in ours), pick(r[name] for r in plain))
        for name, pick in (("clips_per_s", max), ("peak_mb", min), ("first_step_s", min))
    }
    for name, (mine, other) in best.items():
        print(
            f"\n{name}: ours {mine:.2f}, plain loop {other:.2f}, ratio {mine / other:.3f}", end=""
        )
        benchmark.extra_info[name] = round(mine / other, 3)
    note_loops(benchmark, best)
    assert best["clips_per_s"][0] > best["clips_per_s"][1]
    assert best["peak_mb"][0] < best["peak_mb"][1]
    assert best["first_step_s"][0] < best["first_step_s"][1]


def test_step_rate_against_one_fixed_batch(benchmark: Any, folder: Path) -> None:
    """Reading and augmenting costs at most 5 % of the steps a second of the network alone.

    A round takes 10 s, in which a shared machine changes its pace: each is held against the one of
    the network just before it.
    """
    torch.set_num_threads(loops.THREADS)
    keep_freed_memory()
    source = loops.open_source(folder)
    model = SEDModel(loops.MODEL, loops.N_CLASSES).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    wave = torch.rand(loops.BATCH, loops.CROP) * 2 - 1
    targets = torch.eye(loops.N_CLASSES)[: loops.BATCH]
    fixed_s: list[float] = []

    def fixed() -> None:
        start = perf_counter()
        for _ in range(N_STEPS):
            output = model.classify(model.frontend(wave))
            loss = compute_loss(loops.TRAIN.loss, output, targets, None)
            loss.item()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        fixed_s.append(perf_counter() - start)

    def ours(network: nn.Module) -> None:
        fit(
            network,  # type: ignore[arg-type]
            source,
            loops.TRAIN,
            loops.AUGMENT,
            Steps(N_STEPS, N_STEPS, loops.BATCH),
            seed=0,
            fold=0,
            device=torch.device("cpu"),
            names=lambda rows: [str(row) for row in rows],
            report=lambda _: None,
        )

    benchmark.pedantic(lambda: ours(model), setup=fixed, rounds=5, warmup_rounds=1)
    ours_s = benchmark.stats.stats.data
    rate = median(peer / own for peer, own in zip(fixed_s[-len(ours_s) :], ours_s, strict=True))
    benchmark.extra_info["step_rate"] = round(rate, 3)
    print(f"\nstep rate: {rate:.3f} of that on one fixed batch just before, median of the rounds")
    steps = [f"{N_STEPS / median(s):.3f} steps/s" for s in (ours_s, fixed_s)]
    why = "The network alone reads and augments nothing."
    what = "steps a second with reading and augmenting, median of turns"
    row = Row("Training", what, steps[0], why=why)
    peer = f"{steps[1]}, the network on one batch in memory"
    asked = "at least .95 of the peer's"
    note(benchmark, replace(row, peer=peer, ahead=rate, asked=asked, held=rate >= 0.95))
    assert rate >= 0.95
