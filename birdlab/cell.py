"""One cell: train it, store its weights and outputs, whole or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from birdlab.cellclips import clip_source
from birdlab.cellfiles import (
    CARD,
    CURVES,
    WEIGHTS,
    is_finished,
    is_trained,
    part_folder,
)
from birdlab.celljob import CellJob
from birdlab.costs import note_costs
from birdlab.datasets import Progress
from birdlab.errors import BirdlabError
from birdlab.evaluate.score import fold_table, score_fold
from birdlab.lab import Lab
from birdlab.lacks import in_words
from birdlab.lessons import load_lessons
from birdlab.network import build_model, device_name, pick_device
from birdlab.sed.interrupts import Hold, stoppable
from birdlab.softlabels import make_labels
from birdlab.soup import average_sources
from birdlab.validation import predict_fold, store_outputs

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>

Report = Callable[[str, dict[str, Any]], None]


def finish_cell(job: CellJob, lab: Lab, report: Report) -> None:
    """Train the cell unless its weights are there, then store its outputs unless they are there.

    The folder appears under its final name when everything in it is complete, so a kill at
    any moment leaves either a finished cell or none, and beside it a part folder from which the
    next call goes on: what a checkpoint holds is not trained twice, and the bits are those of a
    cell that nobody disturbed. Weights that were dropped come back beside the outputs that
    stayed, unless a scored cell has all it needs without them. Two processes that want the same
    cell wait for each other. Ctrl-C and SIGTERM save where training is, report it and raise
    KeyboardInterrupt. Raises CellError, AudioError or SpecError.
    """
    lab.cells.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.cells / f".{job.cell_id}.lock"), stoppable(), _told(job, lab, report):
        scored = job.eval_id is not None and is_finished(lab, job)
        if not is_trained(lab, job) and not scored:
            _train(job, lab, report)
        elif not is_finished(lab, job):
            report("evaluate", {})
            store_outputs(job, lab, lab.cells / job.cell_id)


def _train(job: CellJob, lab: Lab, report: Report) -> None:
    with Hold():  # what is half imported cannot be imported again, and a stop asks the checkpoint
        import torch
        from safetensors.torch import save_model

        import birdlab.sed.checkpoint  # noqa: F401

    torch.set_num_threads(job.stage.train.threads_per_cell)
    part = part_folder(lab, job.cell_id)
    whole = part / "whole"
    whole.mkdir(parents=True, exist_ok=True)
    said = {"epochs": job.steps.epochs, "steps": job.steps.total, "title": job.title}
    report("start", said)
    told = _told_of(report)
    make_labels(job, lab, told)
    source = replace(clip_source(job, lab), lessons=load_lessons(job, lab, told))
    keep_freed_memory()
    model: Any
    if job.sources:
        model, fitted = average_sources(job, lab, source)
        started_with = f"cells {', '.join(job.sources)}"
    else:
        model, fitted, started_with = _fit(job, lab, source, part, report)
    began = time.perf_counter()
    model.to("cpu", memory_format=torch.contiguous_format)
    save_model(model, str(whole / WEIGHTS))
    pd.DataFrame(fitted.curves).to_parquet(whole / CURVES, index=False)
    if job.eval_id is not None:
        report("evaluate", {})
        store_outputs(job, lab, whole)
    if job.stage.name == job.spec.stages[-1].name:
        note_costs(lab, job.spec, model, len(job.classes))
    card = {
        "cell_id": job.cell_id,
        "stage": job.stage.name,
        "fold": job.fold,
        "seed": job.seed,
        "start": job.start,
        "teachers": list(job.teachers),
        "sources": list(job.sources),
        "started_with": started_with,
        "chosen": fitted.chosen,
        "classes": list(job.classes),
        "document": job.document,
        "model": job.spec.model.model_dump(mode="json"),
        "seconds": round(fitted.seconds + time.perf_counter() - began, 3),
        "steps": job.steps.total,
        "threads": job.stage.train.threads_per_cell,
        "device": device_name(),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }
    (whole / CARD).write_text(json.dumps(card, indent=1, sort_keys=True))
    _put_in_place(whole, lab.cells / job.cell_id)
    shutil.rmtree(part, ignore_errors=True)


def _fit(job: CellJob, lab: Lab, source: Any, part: Path, report: Report) -> tuple[Any, Any, str]:
    """The trained network, what `fit` leaves, and in words what it started with."""
    from birdlab.sed.fit import fit

    train, device, epochs = job.stage.train, pick_device(), job.steps.epochs
    taken: list[str] = []
    model = build_model(job, lab, taken.append)
    fitted = fit(
        model,
        source,
        train,
        job.stage.augment,
        job.steps,
        seed=job.seed,
        fold=job.fold,
        device=device,
        names=job.names,
        report=lambda epoch: report("epoch", asdict(epoch)),
        workers=lab.file.readers,
        validate=(lambda model: _scores(job, lab, model)) if job.is_validated else None,
        checkpoint=part,
        failed=lab.stores / "failed" / job.cell_id,
        resumed=lambda epoch: report("resume", {"epoch": epoch, "epochs": epochs}),
        distill=job.stage.distill,
    )
    return model, fitted, taken[0]


def _told_of(report: Report) -> Progress:
    """What tells of a teacher that hears the rows of a cell."""
    return lambda what, done, total: report("hear", {"what": what, "done": done, "total": total})


def _scores(job: CellJob, lab: Lab, model: Any) -> dict[str, float]:
    """The scores of the fold with a model as it is."""
    spec, stored = job.spec, predict_fold(job, lab, model)
    table = fold_table(stored, spec.output, spec.evaluate, spec.postprocess)
    score = asdict(score_fold(table))
    return {name: float(score[name]) for name in ("padded_cmap", "macro_auc", "top1")}


@contextmanager
def _told(job: CellJob, lab: Lab, report: Report) -> Iterator[None]:
    """Report where a stopped cell goes on; say in words what the machine lacked."""
    try:
        with in_words(job.title, part_folder(lab, job.cell_id), lambda: _going_on(job, lab)):
            yield
    except KeyboardInterrupt:
        report("stopped", {"at": _going_on(job, lab)})
        raise


def _going_on(job: CellJob, lab: Lab) -> str:
    if is_trained(lab, job):
        return "its trained weights"
    from birdlab.sed.checkpoint import saved_epoch

    try:
        epoch = saved_epoch(part_folder(lab, job.cell_id))
    except BirdlabError:
        return "its checkpoint"
    epochs = job.steps.epochs
    return f"epoch {epoch} of {epochs}" if epoch <= epochs else "the end of its last epoch"


def _put_in_place(folder: Path, target: Path) -> None:
    """Make the cell of what is ready; of one that is there without weights, add what it lacks."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    if not target.is_dir():
        folder.rename(target)
        return
    for part in sorted(folder.iterdir(), key=lambda path: path.name == WEIGHTS):
        if not (target / part.name).exists():
            part.rename(target / part.name)


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory for the next tensor instead of returning it to the system.

    By default every tensor above a few hundred kilobytes is mapped and unmapped anew, and the
    page faults take a third of a front-end's time. No number changes. Elsewhere: nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
