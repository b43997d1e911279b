"""The smoke test: a few real steps of a spec, all the way to predictions, and what it foretells."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdlab.cell import finish_cell
from birdlab.cellfiles import CURVES, WEIGHTS, outputs_folder
from birdlab.cellplan import CellPlan
from birdlab.errors import DataError
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.windows import count_windows
from birdlab.infer.session import OnnxPredictor
from birdlab.jobwriter import save_job
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, plan_experiment, silent
from birdlab.promote.export import build_reference, export_ensemble
from birdlab.promote.members import build_member, real_windows
from birdlab.promote.parity import check_parity
from birdlab.run import build_store, hear_models
from birdlab.sed.steps import Steps
from birdlab.spec.experiment import ExperimentSpec
from birdlab.tasks import Event
from birdlab.teaching import Labelling

N_VALIDATED = 32
"""Recordings that a smoke test validates on."""

N_LABELLED = 16
"""Soundscapes that teachers label in a smoke test."""


@dataclass(frozen=True)
class SmokeReport:
    """What a smoke test measured, and what it foretells for the whole experiment.

    hours: of all cells that a run would train, one after another on this machine;
    gigabytes: waveform store, weights and stored outputs together.
    """

    steps: int
    clips_per_s: float
    windows_per_s: float
    peak_memory_gb: float
    parity: float
    cells: int
    hours: float
    gigabytes: float

    def lines(self) -> list[str]:
        """The report as a command prints it."""
        return [
            f"smoke test passed: {self.steps} steps a stage, validation, export, predict",
            f"  training    {self.clips_per_s:.1f} clips/s",
            f"  validation  {self.windows_per_s:.1f} windows/s",
            f"  memory      {self.peak_memory_gb:.2f} GB at most",
            f"  ONNX        equal to torch within {self.parity:.1e}",
            f"  whole run   {self.cells} cells, about {self.hours:.2f} h one after another, "
            f"{self.gigabytes:.2f} GB on disk",
        ]


def smoke_test(
    spec: ExperimentSpec,
    lab: Lab,
    n_steps: int,
    *,
    progress: Progress = silent,
    emit: Callable[[Event], None] = lambda _: None,
) -> SmokeReport:
    """Take `n_steps` of every stage of the first (fold, seed), validate, export and predict.

    Everything but decoded waveforms is made in a temporary folder: no cell is left behind.
    Raises what a run would raise.
    """
    plan = plan_experiment(spec, lab, progress=progress)
    own = {c.cell_id for c in plan.cells}
    chain = [c for c in plan.final_cells[0].line if c.cell_id in own]
    small: dict[str, CellPlan] = {}
    for cell in chain:
        small[cell.cell_id] = _shortened(cell, n_steps, small)
    cells = list(small.values())
    build_store(lab, replace(plan, paths=_needed_paths(plan, cells)), progress)
    with tempfile.TemporaryDirectory(prefix="birdlab-smoke-") as folder:
        away = replace(lab, cells_folder=Path(folder) / "cells")
        hear_models(plan, away, cells, progress)
        asked = replace(plan, spec=_without_threshold(spec))
        began, clips = time.perf_counter(), 0.0
        rates = []
        for cell in cells:
            emit(Event("queued", cell.cell_id, {"title": cell.title}))
            job = save_job(asked, cell, Path(folder) / "jobs")
            finish_cell(job, away, lambda k, v, c=cell: emit(Event(k, c.cell_id, v)))  # type: ignore[misc]
            emit(Event("done", cell.cell_id))
            rates += [] if cell.sources else [_clips_per_s(away, cell)]
            clips += cell.steps.total * cell.steps.batch
        spent = time.perf_counter() - began
        last = cells[-1]
        n_windows = 0
        if last.eval_id is not None:
            n_windows = len(load_outputs(outputs_folder(away, last)).windows.end_s)
        parity = _export_and_predict(plan, last, lab, away)
        cell_bytes = sum(f.stat().st_size for f in away.cells.rglob("*") if f.is_file())
    rate = min(rates)
    windows_per_s = n_windows / max(spent - clips / rate, 1e-3) if n_windows else float("nan")
    return SmokeReport(
        n_steps,
        rate,
        windows_per_s,
        _peak_gb(),
        parity,
        len(plan.cells),
        _hours(plan, rate, windows_per_s),
        _gigabytes(plan, cell_bytes, max(1, n_windows)),
    )


def _without_threshold(spec: ExperimentSpec) -> ExperimentSpec:
    """The experiment with every soft label: after a few steps no teacher is sure of any."""
    whole = {"threshold": 0.0, "floor": 0.0}
    stages = [
        stage
        if stage.pseudo is None
        else stage.model_copy(update={"pseudo": stage.pseudo.model_copy(update=whole)})
        for stage in spec.stages
    ]
    return spec.model_copy(update={"stages": tuple(stages)})


def _shortened(cell: CellPlan, n_steps: int, made: dict[str, CellPlan]) -> CellPlan:
    """The cell with few steps and few recordings; another id, so that it is no real cell."""
    rng = np.random.default_rng(0)
    n_rows = min(len(cell.chosen), max(64, n_steps * cell.steps.batch))
    chosen = np.sort(rng.choice(cell.chosen, n_rows, replace=False))
    validation = None if cell.validation is None else cell.validation[:N_VALIDATED]
    steps = Steps(n_steps, n_steps, min(cell.steps.batch, n_rows))
    labellers, distillers, sources = (
        tuple(made.get(c.cell_id, c) for c in part)
        for part in (cell.labellers, cell.distillers, cell.sources)
    )
    return replace(
        cell,
        cell_id=f"smoke-{cell.cell_id}",
        chosen=chosen,
        validation=validation,
        steps=steps,
        start=None if cell.start is None else made[cell.start.cell_id],
        labellers=labellers,
        distillers=distillers,
        sources=sources,
        labelling=None if cell.labelling is None else _fewer(cell.labelling, made),
    )


def _fewer(labelling: Labelling, made: Mapping[str, CellPlan]) -> Labelling:
    """The first soundscapes of a labelling, labelled by the shortened cells where it has some."""
    labellers = tuple(
        replace(
            one,
            cell_id=made[one.cell_id].cell_id if one.cell_id in made else one.cell_id,
            files=tuple(file for file in one.files if file < N_LABELLED),
        )
        for one in labelling.labellers
    )
    names, keys = labelling.names[:N_LABELLED], labelling.keys[:N_LABELLED]
    return replace(labelling, names=names, keys=keys, labellers=labellers)


def _needed_paths(plan: Plan, cells: list[CellPlan]) -> dict[str, Path]:
    noise = [*plan.noise.values(), *plan.backgrounds.values()]
    keys = {clip.key for clips in noise for clip in clips}
    keys |= set() if plan.soundscapes is None else set(plan.soundscapes.keys)
    for cell in cells:
        rows = [*cell.chosen, *(cell.validation if cell.validation is not None else ())]
        keys |= {cell.rows.keys[i] for i in rows}
        keys |= set() if cell.labelling is None else set(cell.labelling.keys)
    if None in keys:
        raise DataError(
            "audio that the smoke test needs is missing",
            got="; ".join(plan.missing) or None,
            fix="correct the paths under [data] in birdlab.toml; --dry-run shows what is missing",
        )
    return {key: path for key, path in plan.paths.items() if key in keys}


def _clips_per_s(lab: Lab, cell: CellPlan) -> float:
    import pandas as pd

    curve = pd.read_parquet(lab.cells / cell.cell_id / CURVES)
    return float(curve["clips_per_s"].iloc[-1])


def _export_and_predict(plan: Plan, cell: CellPlan, lab: Lab, away: Lab) -> float:
    weights = away.cells / cell.cell_id / WEIGHTS
    member = build_member(plan.spec, cell.classes.codes, weights, cell.cell_id)
    path = away.cells / "smoke.onnx"
    codes = plan.data.classes.codes
    export_ensemble([member], path, classes=codes)
    windows = real_windows(lab, plan)
    report = check_parity(path, build_reference([member], codes), windows)
    OnnxPredictor(path, threads=1)(windows[:4])
    return max(report.by_case.values())


def _peak_gb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _hours(plan: Plan, clips_per_s: float, windows_per_s: float) -> float:
    clips = sum(cell.steps.total * cell.steps.batch for cell in plan.cells)
    windows = sum(_n_windows(plan, cell) for cell in plan.final_cells)
    validation = windows / windows_per_s if windows_per_s > 0 else 0.0
    return (clips / clips_per_s + validation) / 3600


def _n_windows(plan: Plan, cell: CellPlan) -> int:
    if cell.validation is None:
        return 0
    rate, window_s = plan.sample_rate_hz, plan.spec.competition.window_s
    lengths = cell.rows.table["duration_s"].iloc[cell.validation].fillna(window_s)
    hop_s = plan.spec.evaluate.hop_s
    hops = 1 if hop_s is None else round(window_s / hop_s)
    whole = [count_windows(int(s * rate), round(window_s * rate)) for s in lengths]
    return sum((n - 1) * hops + 1 for n in whole)


def _gigabytes(plan: Plan, cell_bytes: int, n_windows: int) -> float:
    tables = {id(c.rows): c.rows.table for c in plan.cells} | {id(plan.rows): plan.rows.table}
    seconds = sum(float(t["duration_s"].fillna(30.0).sum()) for t in tables.values())
    store = seconds * plan.sample_rate_hz * 2
    per_window = len(plan.data.classes) * 8
    outputs = sum(_n_windows(plan, c) for c in plan.final_cells) * per_window
    weights = max(0, cell_bytes - n_windows * per_window) * len(plan.cells)
    return (store + outputs + weights) / 1e9
