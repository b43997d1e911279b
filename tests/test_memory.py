"""The memory of a training process: it may hardly grow with the table.

Each size trains in a process of its own on recordings of 100 ms, so that what grows is what the
process keeps per recording: the store's index, where each row lies, its labels, the draws. The
processes are forks of one that has imported everything and trained nothing.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab

from birdlab.cellplan import Rows
from birdlab.data.audio import Waveform
from birdlab.data.shards import ShardWriter
from birdlab.jobwriter import save_job
from birdlab.plan import plan_experiment
from birdlab.sed.steps import Steps
from birdlab.spec import load_spec

MOST_BYTES = 200

CHILD = """
import os
import sys
from pathlib import Path
import torch
from birdlab.cell import keep_freed_memory
from birdlab.cellclips import clip_source
from birdlab.network import build_model
from birdlab.celljob import load_job
from birdlab.lab import open_lab
from birdlab.sed.draws import EpochDraws
from birdlab.sed.fit import fit
from birdlab.sed.loader import epoch_batches

def anonymous_kb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])

def train(lab, job):
    source = clip_source(job, lab)
    keep_freed_memory()
    stage = job.stage
    fit(build_model(job, lab), source, stage.train, stage.augment, job.steps, seed=0, fold=0,
        device=torch.device("cpu"), names=job.names, report=lambda _: None)
    whole_epoch = epoch_batches(source, stage.train.sampler, stage.augment, EpochDraws(0, 0, 0),
                                source.n_rows // stage.train.batch, stage.train.batch,
                                torch.device("cpu"))
    for _ in range(4):
        next(whole_epoch)
    print(source.n_rows, anonymous_kb(), flush=True)

torch.set_num_threads(1)
for folder in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        train(open_lab(Path(folder).parents[1]), load_job(Path(folder)))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""


def job_of(n_rows: int, make_lab: MakeLab) -> Path:
    """The folder of a job, two below its lab, that trains on a table of `n_rows` recordings."""
    lab = make_lab()
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    rng = np.random.default_rng(0)
    keys = [rng.bytes(16).hex() for _ in range(n_rows)]
    with ShardWriter(lab.waves) as writer:
        wave = Waveform(rng.integers(-32767, 32768, 3_200).astype(np.int16), 0.5, 32_000)
        for key in keys:
            writer.add(key, wave)
    rows = plan.rows.table
    table = pd.concat([rows] * (1 + n_rows // len(rows)), ignore_index=True).iloc[:n_rows]
    cell = replace(
        plan.final_cells[0],
        rows=Rows(table.reset_index(drop=True), tuple(keys)),
        chosen=np.arange(n_rows),
        validation=None,
        eval_id=None,
        steps=Steps(4, 4, 4),
    )
    return save_job(plan, cell, lab.root / "jobs").folder


def anonymous_bytes(sizes: tuple[int, ...], make_lab: MakeLab) -> list[int]:
    """The anonymous memory of processes that train on tables of so many recordings."""
    jobs = [str(job_of(n_rows, make_lab)) for n_rows in sizes]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *jobs],
        capture_output=True,
        text=True,
        check=False,
        env={"OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    said = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [n_rows for n_rows, _ in said] == list(sizes)
    return [kilobytes * 1024 for _, kilobytes in said]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "sizes",
    [(1_000, 50_000), pytest.param((1_000, 16_941, 200_000), marks=pytest.mark.slow)],
)
def test_a_training_process_hardly_grows_with_the_table(
    sizes: tuple[int, ...], make_lab: MakeLab
) -> None:
    small, *larger = anonymous_bytes(sizes, make_lab)
    for n_rows, n_bytes in zip(sizes[1:], larger, strict=True):
        per_row = (n_bytes - small) / (n_rows - sizes[0])
        print(f"{n_rows:,} rows: {n_bytes / 1e6:.0f} MB, {per_row:.0f} bytes a row")
        assert per_row < MOST_BYTES
