"""One cell: train it, store its weights and outputs, whole or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from birdlab.celljob import CellJob
from birdlab.cellplan import CellPlan
from birdlab.data.waves import open_waves
from birdlab.lab import Lab
from birdlab.network import WEIGHTS, build_model, device_name, pick_device
from birdlab.validation import store_outputs

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>

CARD = "cell.json"
CURVES = "curves.parquet"

Report = Callable[[str, dict[str, Any]], None]


def is_trained(lab: Lab, cell: CellPlan | CellJob) -> bool:
    """Whether the cell's weights are in the lab."""
    return (lab.cells / cell.cell_id / CARD).is_file()


def is_finished(lab: Lab, cell: CellPlan | CellJob) -> bool:
    """Whether the cell's weights, and its outputs where it is scored, are in the lab."""
    if not is_trained(lab, cell):
        return False
    if cell.soundscapes_id is not None and not soundscapes_folder(lab, cell).is_dir():
        return False
    return cell.eval_id is None or outputs_folder(lab, cell).is_dir()


def outputs_folder(lab: Lab, cell: CellPlan | CellJob) -> Path:
    """Where the cell's outputs on its validation rows lie."""
    return lab.cells / cell.cell_id / f"outputs-{cell.eval_id}"


def soundscapes_folder(lab: Lab, cell: CellPlan | CellJob) -> Path:
    """Where the cell's outputs on the soundscapes of `evaluate.soundscapes` lie."""
    return lab.cells / cell.cell_id / f"soundscapes-{cell.soundscapes_id}"


def load_card(lab: Lab, cell_id: str) -> dict[str, Any]:
    """What is known of a finished cell: document, stage, classes, seconds, environment."""
    card: dict[str, Any] = json.loads((lab.cells / cell_id / CARD).read_text())
    return card


def finish_cell(job: CellJob, lab: Lab, report: Report) -> None:
    """Train the cell unless its weights are there, then store its outputs unless they are there.

    The folder appears under its final name when everything in it is complete, so a kill at
    any moment leaves either a finished cell or none. Two processes that want the same cell
    wait for each other. Raises CellError, AudioError or SpecError.
    """
    lab.cells.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.cells / f".{job.cell_id}.lock"):
        if not is_trained(lab, job):
            _train(job, lab, report)
        elif not is_finished(lab, job):
            report("evaluate", {})
            store_outputs(job, lab, lab.cells / job.cell_id)


def _train(job: CellJob, lab: Lab, report: Report) -> None:
    import torch
    from safetensors.torch import save_model

    from birdlab.sed.fit import EpochReport, fit

    train, device = job.stage.train, pick_device()
    torch.set_num_threads(train.threads_per_cell)
    folder = lab.cells / f".{job.cell_id}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    report("start", {"epochs": job.steps.epochs, "steps": job.steps.total, "title": job.title})
    source = clip_source(job, lab)
    keep_freed_memory()
    taken: list[str] = []
    model = build_model(job, lab, taken.append)
    curves: list[dict[str, Any]] = []

    def on_epoch(epoch: EpochReport) -> None:
        curves.append(asdict(epoch))
        report("epoch", asdict(epoch))

    fit(
        model,
        source,
        train,
        job.stage.augment,
        job.steps,
        seed=job.seed,
        fold=job.fold,
        device=device,
        names=job.names,
        report=on_epoch,
        workers=lab.file.readers,
    )
    model.to("cpu", memory_format=torch.contiguous_format)
    save_model(model, str(folder / WEIGHTS))
    pd.DataFrame(curves).to_parquet(folder / CURVES, index=False)
    if job.eval_id is not None:
        report("evaluate", {})
        store_outputs(job, lab, folder)
    card = {
        "cell_id": job.cell_id,
        "stage": job.stage.name,
        "fold": job.fold,
        "seed": job.seed,
        "start": job.start,
        "started_with": taken[0],
        "classes": list(job.classes),
        "document": job.document,
        "model": job.spec.model.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - began, 3),
        "steps": job.steps.total,
        "threads": train.threads_per_cell,
        "device": device_name(),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True))
    _put_in_place(folder, lab.cells / job.cell_id)


def _put_in_place(folder: Path, target: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    folder.rename(target)


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory for the next tensor instead of returning it to the system.

    By default every tensor above a few hundred kilobytes is mapped and unmapped anew, and the
    page faults take a third of a front-end's time. No number changes. Elsewhere: nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def clip_source(job: CellJob, lab: Lab) -> Any:
    """Where the training clips of a cell come from."""
    from birdlab.sed.loader import ClipSource, locate_takes

    waves = open_waves(lab, job.sample_rate_hz)
    noise = {
        name: locate_takes(
            waves,
            np.array([key.key for key in keys], "S32"),
            np.array([(key.start_s, key.end_s) for key in keys]),
        )
        for name, keys in job.noise.items()
    }
    return ClipSource(
        waves,
        locate_takes(waves, job.arrays["keys"], job.arrays["spans_s"]),
        job.targets,
        noise,
        round(job.stage.train.window_s * job.sample_rate_hz),
    )
