"""The one road: spec → cells → stored outputs → scores. Nothing else trains.

`run_experiment(spec)` plans, trains what is missing, scores from stored outputs and writes
the run's record. Sweeps hand several experiments to `run_experiments`, which shares one
executor and trains a cell that several of them need once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from birdlab.cell import is_finished, is_trained
from birdlab.celljob import CellJob, job_folder, save_job
from birdlab.cellplan import CellPlan
from birdlab.data.leaks import refuse_leaks
from birdlab.data.waves import open_waves
from birdlab.errors import AudioError, BirdlabError, CellError, DataError
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, Progress, plan_experiment, silent
from birdlab.record import RunNote, RunResult, collect
from birdlab.spec.experiment import ExperimentSpec
from birdlab.tasks import CellTask, Event, Executor, InProcess


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
    untrained = {c.cell_id for p in plans for c in p.cells if not is_trained(lab, c)}
    for plan, (_, note) in zip(plans, specs, strict=True):
        for sink in sinks:
            sink.started(plan, note)
    try:
        failed = _finish_all(plans, lab, executor, emit)
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
        result = collect(plan, lab, note, trained=untrained)
        for sink in sinks:
            sink.finished(result)
        results.append(result)
    return results


def _ready(spec: ExperimentSpec, lab: Lab, progress: Progress) -> Plan:
    """The plan of an experiment with its waveforms in the store, if anything is to be trained.

    Raises DataError for pretraining that leaks into the folds, also when all is in the cache.
    """
    plan = plan_experiment(spec, lab, progress=progress)
    refuse_leaks(plan.leaks, spec.data.accept_leaks)
    if all(is_finished(lab, cell) for cell in plan.cells):
        return plan
    refuse_missing(plan)
    if not build_store(lab, plan, progress):
        plan = plan_experiment(spec, lab, progress=progress)
    return plan


def refuse_missing(plan: Plan) -> None:
    """Raise DataError for audio that is not there: a cell may need it only after hours."""
    gone: list[str] = []
    for rows in {id(cell.rows): cell.rows for cell in plan.cells}.values():
        names = zip(rows.table["recording"], rows.keys, strict=True)
        gone += [name for name, key in names if key is None]
    for name, clips in plan.noise.items():
        gone += [f"a background recording of {name}" for clip in clips if clip.key is None]
    if gone:
        raise DataError(
            f"the audio of {len(gone)} recordings is missing",
            got=", ".join(gone[:8]) + (" ..." if len(gone) > 8 else ""),
            fix="correct the path of the data set in birdlab.toml, or exclude them",
        )


def _seed_major(
    missing: Mapping[str, tuple[Plan, CellPlan]],
) -> list[tuple[Plan, CellPlan]]:
    """Starts before what starts from them, then by seed; otherwise the order of the arms."""
    depth = {}
    for _, cell in missing.values():
        steps, node = 0, cell.start
        while node is not None:
            steps, node = steps + 1, node.start
        depth[cell.cell_id] = steps
    return sorted(missing.values(), key=lambda pair: (pair[1].seed, depth[pair[1].cell_id]))


def _finish_all(
    plans: Sequence[Plan], lab: Lab, executor: Executor, emit: Callable[[Event], None]
) -> dict[str, BirdlabError]:
    """The errors of the cells that failed, by id; all others are finished for every plan.

    Plans may share a cell and ask for different outputs of it (another context, soundscapes):
    its weights are trained for the first, and a further pass makes what the others lack.
    """
    failed: dict[str, BirdlabError] = {}
    for _ in plans:
        lacking = [(p, c) for p in plans for c in p.cells if c.cell_id not in failed]
        missing = {c.cell_id: (p, c) for p, c in lacking if not is_finished(lab, c)}
        if not missing:
            break
        failed |= _execute(missing, lab, executor, emit)
    return failed


def _execute(
    missing: Mapping[str, tuple[Plan, CellPlan]],
    lab: Lab,
    executor: Executor,
    emit: Callable[[Event], None],
) -> dict[str, BirdlabError]:
    """The errors of the cells that failed, by id; all others are finished."""
    with job_folder(lab) as jobs:
        tasks = [_task(p, c, lab, save_job(p, c, jobs), missing) for p, c in _seed_major(missing)]
        for task in tasks:
            emit(Event("queued", task.cell_id, {"title": task.title}))
        return executor.execute(tasks, emit)


def _task(
    plan: Plan, cell: CellPlan, lab: Lab, job: CellJob, missing: Mapping[str, object]
) -> CellTask:
    name = plan.spec.name
    return CellTask(
        cell_id=cell.cell_id,
        title=f"{name}: {cell.title}" if name else cell.title,
        after=job.start if job.start in missing else None,
        job=str(job.folder),
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
    waves = open_waves(lab, plan.sample_rate_hz)
    lacking = [key for key in waves.missing(list(plan.paths)) if key not in plan.skipped]
    if not lacking:
        return True
    bad = waves.build(
        [(key, plan.paths[key]) for key in lacking],
        jobs=lab.jobs,
        progress=lambda done, total: progress("decoding audio", done, total),
    )
    if bad and plan.spec.data.on_bad_file == "fail":
        shown = "\n".join(f"    {b.path}: {b.reason}" for b in bad[:20])
        raise AudioError(
            f"{len(bad)} recordings cannot be decoded:\n{shown}",
            fix="replace them, exclude them, or write `data: {on_bad_file: skip}`",
        )
    return not bad
