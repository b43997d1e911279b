"""The one road: spec → cells → stored outputs → scores. Nothing else trains.

`run_experiment(spec)` plans, trains what is missing, scores from stored outputs and writes
the run's record. Sweeps hand several experiments to `run_experiments`, which shares one
executor and trains a cell that several of them need once.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from birdlab.cell import finish_cell, is_finished, load_card, outputs_folder
from birdlab.cellplan import CellPlan
from birdlab.data.store import WaveStore
from birdlab.errors import AudioError, BirdlabError, CellError, DataError
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.score import FoldTable, fold_table, score_classes, score_fold, score_run
from birdlab.lab import Lab, open_lab
from birdlab.plan import (
    QUARANTINE,
    Plan,
    Progress,
    load_quarantine,
    plan_experiment,
    silent,
)
from birdlab.spec.experiment import ExperimentSpec


@dataclass(frozen=True)
class Event:
    """Something that happened to a cell: queued, start, epoch, evaluate, done, failed."""

    kind: str
    cell_id: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CellTask:
    """A cell to finish, in a form that crosses process borders: spec, lab folder, ids."""

    cell_id: str
    title: str
    after: str | None
    spec_json: str
    lab_root: str


class Executor(Protocol):
    """Finishes cells; returns the error text of each that failed, by cell id."""

    def execute(
        self, tasks: Sequence[CellTask], emit: Callable[[Event], None]
    ) -> dict[str, BirdlabError]:
        """Finish every task, a task after the one it names in `after`; go on past failures."""
        ...


class Sink(Protocol):
    """Where results go besides the record: a tracker."""

    def started(self, plan: Plan, note: RunNote) -> None:
        """A run is about to train or to be answered from the cache."""
        ...

    def finished(self, result: RunResult) -> None:
        """A run is scored and its record is written."""
        ...

    def failed(self, plan: Plan, error: BirdlabError, *, stopped: bool = False) -> None:
        """A run has no score, since a cell of it failed or someone stopped it."""
        ...


@dataclass(frozen=True)
class RunNote:
    """What a caller knows of a run that its spec does not say: sweep, title, delta."""

    title: str = ""
    sweep: str = ""
    delta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunResult:
    """A scored run.

    scores: `cv/...` means over folds, their spread, the pooled value and the floor (empty
    when nothing was validated); cells: one row per (fold, seed) with its scores;
    classes: one row per species; trained and cached: how many cells were computed and found.
    """

    spec: ExperimentSpec
    spec_id: str
    note: RunNote
    scores: dict[str, float]
    cells: pd.DataFrame
    classes: pd.DataFrame
    curves: pd.DataFrame
    trained: int
    cached: int
    record: Path

    @property
    def cv(self) -> float:
        """The fold-averaged padded cmAP; NaN when nothing was validated."""
        return self.scores.get("cv/padded_cmap", float("nan"))


class InProcess:
    """Finishes cells one after another in this process."""

    def execute(
        self, tasks: Sequence[CellTask], emit: Callable[[Event], None]
    ) -> dict[str, BirdlabError]:
        """See Executor."""
        failed: dict[str, BirdlabError] = {}
        for task in tasks:
            error = skipped(task) if task.after in failed else finish_task(task, emit)
            if error is not None:
                failed[task.cell_id] = error
                emit(Event("failed", task.cell_id, {"error": str(error)}))
        return failed


def skipped(task: CellTask) -> CellError:
    """The error of a cell whose start failed."""
    return CellError(f"{task.title} was skipped: the cell it starts from failed")


_KEPT_PLANS = 4
_plans: dict[tuple[str, str], Plan] = {}


def _plan_of(task: CellTask, lab: Lab) -> Plan:
    """The plan that holds the task's cell, made anew when the data changed since."""
    key = (task.lab_root, task.spec_json)
    plan = _plans.pop(key, None)
    if plan is None or all(cell.cell_id != task.cell_id for cell in plan.cells):
        plan = plan_experiment(ExperimentSpec.model_validate_json(task.spec_json), lab)
    _plans[key] = plan
    while len(_plans) > _KEPT_PLANS:  # a plan holds a table; a long sweep has many
        _plans.pop(next(iter(_plans)))
    return plan


def finish_task(task: CellTask, emit: Callable[[Event], None]) -> BirdlabError | None:
    """None when the cell is finished, else what went wrong.

    The last plans are kept, so that a process does not plan anew for every cell. An error
    that is not birdlab's own is stored with its traceback in the lab's `failed` folder.
    """
    lab = open_lab(task.lab_root)
    try:
        plan = _plan_of(task, lab)
        cell = next((c for c in plan.cells if c.cell_id == task.cell_id), None)
        if cell is None:
            return CellError(
                "the data changed while the experiment ran",
                where=task.title,
                fix="run the command again: finished cells are kept",
            )
        finish_cell(plan, cell, lab, lambda kind, values: emit(Event(kind, task.cell_id, values)))
    except BirdlabError as error:
        return error
    except Exception as error:
        path = lab.stores / "failed" / f"{task.cell_id}.txt"
        write_whole(path, traceback.format_exc())
        return CellError(
            f"{type(error).__name__}: {error}", where=task.title, got=f"traceback in {path}"
        )
    emit(Event("done", task.cell_id))
    return None


def run_experiment(
    spec: ExperimentSpec,
    *,
    lab: Lab | None = None,
    executor: Executor | None = None,
    sinks: Sequence[Sink] = (),
    note: RunNote | None = None,
    emit: Callable[[Event], None] = lambda _: None,
    progress: Progress = silent,
) -> RunResult:
    """The scored run of an experiment: trains what is missing, reuses what is there.

    Raises SpecError, DataError or LabError before anything is trained, and CellError when a
    cell failed: a run that lacks a fold has no score. Finished cells are kept either way.
    """
    results = run_experiments(
        [(spec, note or RunNote(title=spec.name))],
        lab=lab or open_lab(),
        executor=executor or InProcess(),
        sinks=sinks,
        emit=emit,
        progress=progress,
    )
    result = results[0]
    if isinstance(result, BirdlabError):
        raise result
    return result


def run_experiments(
    specs: Sequence[tuple[ExperimentSpec, RunNote]],
    *,
    lab: Lab,
    executor: Executor,
    sinks: Sequence[Sink] = (),
    emit: Callable[[Event], None] = lambda _: None,
    progress: Progress = silent,
) -> list[RunResult | BirdlabError]:
    """The scored runs of several experiments in order; a CellError stands for one that failed.

    Every experiment is planned before anything is trained, a cell shared by several is
    trained once, and cells run seed-major, so that all arms have evidence early.
    """
    plans = [_ready(spec, lab, progress) for spec, _ in specs]
    missing = {c.cell_id: (p, c) for p in plans for c in p.cells if not is_finished(lab, c)}
    for plan, (_, note) in zip(plans, specs, strict=True):
        for sink in sinks:
            sink.started(plan, note)
    tasks = [_task(plan, cell, lab, missing) for plan, cell in _seed_major(missing.values())]
    for task in tasks:
        emit(Event("queued", task.cell_id, {"title": task.title}))
    try:
        failed = executor.execute(tasks, emit) if tasks else {}
    except KeyboardInterrupt:
        unfinished = [p for p in plans if any(not is_finished(lab, c) for c in p.cells)]
        for sink in sinks:
            for plan in unfinished:
                sink.failed(plan, CellError("stopped by Ctrl-C"), stopped=True)
        raise
    results: list[RunResult | BirdlabError] = []
    for plan, (_, note) in zip(plans, specs, strict=True):
        wrong = [(c, failed[c.cell_id]) for c in plan.cells if c.cell_id in failed]
        if wrong:
            error = _failure(plan, wrong)
            for sink in sinks:
                sink.failed(plan, error)
            results.append(error)
            continue
        result = collect(plan, lab, note, trained=set(missing))
        for sink in sinks:
            sink.finished(result)
        results.append(result)
    return results


def _ready(spec: ExperimentSpec, lab: Lab, progress: Progress) -> Plan:
    """The plan of an experiment with its waveforms in the store, if anything is to be trained."""
    plan = plan_experiment(spec, lab, progress=progress)
    if all(is_finished(lab, cell) for cell in plan.cells):
        return plan
    _refuse_missing(plan)
    if not build_store(lab, plan, progress):
        plan = plan_experiment(spec, lab, progress=progress)
    return plan


def _refuse_missing(plan: Plan) -> None:
    """Raise DataError for audio that is not there: a cell may need it only after hours."""
    gone: list[str] = []
    for rows in {id(cell.rows): cell.rows for cell in plan.cells}.values():
        names = zip(rows.table["recording"], rows.keys, strict=True)
        gone += [name for name, key in names if key is None]
    for name, keys in plan.noise.items():
        gone += [f"a background recording of {name}"] * keys.count(None)
    if gone:
        raise DataError(
            f"the audio of {len(gone)} recordings is missing",
            got=", ".join(gone[:8]) + (" ..." if len(gone) > 8 else ""),
            fix="correct the path of the data set in birdlab.toml, or exclude them",
        )


def _seed_major(
    missing: Iterable[tuple[Plan, CellPlan]],
) -> list[tuple[Plan, CellPlan]]:
    """Starts before what starts from them, then by seed; otherwise the order of the arms."""
    depth = {}
    for _, cell in missing:
        steps, node = 0, cell.start
        while node is not None:
            steps, node = steps + 1, node.start
        depth[cell.cell_id] = steps
    return sorted(missing, key=lambda pair: (pair[1].seed, depth[pair[1].cell_id]))


def _task(plan: Plan, cell: CellPlan, lab: Lab, missing: Mapping[str, object]) -> CellTask:
    start = cell.start.cell_id if cell.start is not None else None
    name = plan.spec.name
    return CellTask(
        cell_id=cell.cell_id,
        title=f"{name}: {cell.title}" if name else cell.title,
        after=start if start in missing else None,
        spec_json=plan.spec.model_dump_json(),
        lab_root=str(lab.root),
    )


def _failure(plan: Plan, wrong: Sequence[tuple[CellPlan, BirdlabError]]) -> CellError:
    cell, first = wrong[0]
    return CellError(
        f"{len(wrong)} of {len(plan.cells)} cells failed, so the run has no score: {first.what}",
        where=f"{plan.spec.name or plan.spec_id}: {cell.title}"
        + (f", {first.where}" if first.where else ""),
        got=first.got,
        expected=first.expected,
        fix=first.fix or "run the same command again: finished cells are kept",
    )


def build_store(lab: Lab, plan: Plan, progress: Progress = silent) -> bool:
    """Whether every waveform of the plan could be decoded into the store.

    Files that cannot be decoded go into the quarantine list. Raises AudioError that names
    each with its reason, unless the spec says `on_bad_file: skip`: then the plan has to be
    made again, and leaves them out.
    """
    store = WaveStore(lab.waves, plan.sample_rate_hz)
    lacking = [key for key in store.missing(list(plan.paths)) if key not in plan.skipped]
    if not lacking:
        return True
    bad = store.build(
        [(key, plan.paths[key]) for key in lacking],
        jobs=lab.jobs,
        progress=lambda done, total: progress("decoding audio", done, total),
    )
    if not bad:
        return True
    keys = {path: key for key, path in plan.paths.items()}
    listed = load_quarantine(lab) | {keys[b.path]: f"{b.path.name}: {b.reason}" for b in bad}
    write_whole(lab.waves / QUARANTINE, json.dumps(listed, indent=1))
    if plan.spec.data.on_bad_file == "fail":
        shown = "\n".join(f"    {b.path}: {b.reason}" for b in bad[:20])
        raise AudioError(
            f"{len(bad)} recordings cannot be decoded:\n{shown}",
            fix="replace them, exclude them, or write `data: {on_bad_file: skip}`",
        )
    return False


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def collect(plan: Plan, lab: Lab, note: RunNote, trained: set[str]) -> RunResult:
    """The result of a run whose cells are all finished; writes its record."""
    tables: dict[tuple[int, int], FoldTable] = {}
    rows, curves = [], []
    for cell in plan.final_cells:
        card = load_card(lab, cell.cell_id)
        row: dict[str, Any] = {"fold": cell.fold, "seed": cell.seed, "cell_id": cell.cell_id}
        if cell.fold is not None:
            stored = load_outputs(outputs_folder(lab, cell))
            table = fold_table(stored, plan.spec.output, plan.spec.evaluate)
            tables[cell.fold, cell.seed] = table
            row |= {"eval_id": cell.eval_id, **asdict(score_fold(table))}
        rows.append({**row, "seconds": card["seconds"], "device": card["device"]})
    for cell in plan.cells:
        curve = pd.read_parquet(lab.cells / cell.cell_id / "curves.parquet")
        curves.append(curve.assign(stage=cell.stage.name, fold=cell.fold, seed=cell.seed))
    first_seed = plan.spec.cells.seeds[0]
    pooled = [table for (_, seed), table in sorted(tables.items()) if seed == first_seed]
    result = RunResult(
        plan.spec,
        plan.spec_id,
        note,
        score_run(tables) if tables else {},
        pd.DataFrame(rows),
        score_classes(pooled) if pooled else pd.DataFrame(),
        pd.concat(curves, ignore_index=True),
        trained=sum(c.cell_id in trained for c in plan.cells),
        cached=sum(c.cell_id not in trained for c in plan.cells),
        record=lab.runs / f"{plan.spec_id}.json",
    )
    save_record(plan, result)
    return result


def save_record(plan: Plan, result: RunResult) -> None:
    """Write or update the record of a run: `runs/<spec_id>.json`, whole or not at all."""
    before: dict[str, Any] = {}
    if result.record.is_file():
        before = json.loads(result.record.read_text())
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    note = result.note
    sweeps = dict(before.get("sweeps", {}))
    if note.sweep:
        sweeps[note.sweep] = {"title": note.title, "delta": dict(note.delta)}
    validated = result.cells.dropna(subset=["fold"])
    record = {
        "spec_id": result.spec_id,
        "name": result.spec.name or note.title or before.get("name", ""),
        "project": result.spec.project,
        "delta": dict(note.delta) or before.get("delta", {}),
        "sweeps": sweeps,
        "created_at": before.get("created_at", now),
        "updated_at": now,
        "scores": result.scores,
        "cells": json.loads(result.cells.to_json(orient="records", double_precision=15)),
        "evaluation": {
            "metric": "padded_cmap",
            "folds": sorted({int(f) for f in validated["fold"]}),
            "seeds": list(plan.spec.cells.seeds),
            "n_rows": int(validated.drop_duplicates("fold")["n_rows"].sum())
            if len(validated)
            else 0,
            "n_classes": len(plan.data.classes),
            "rows_hash": "-".join(sorted(set(validated["eval_id"]))) if len(validated) else "",
            "classes_hash": plan.data.classes.digest,
        },
        "spec": result.spec.model_dump(mode="json"),
        "environment": environment(),
    }
    write_whole(result.record, json.dumps(record, indent=1))


def environment() -> dict[str, str]:
    """Tags of where a run was made: git commit and dirty flag, Python, host processor."""
    out = {"python": platform.python_version(), "machine": platform.machine()}
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return out
    if commit.returncode == 0:
        out |= {"git_commit": commit.stdout.strip(), "git_dirty": str(bool(dirty.stdout.strip()))}
    return out
