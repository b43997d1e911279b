"""The one road: spec → cells → stored outputs → scores. Nothing else trains.

`run_experiment(spec)` plans, trains what is missing, scores from stored outputs and writes
the run's record. Sweeps hand several experiments to `run_experiments`, which shares one
executor and trains a cell that several of them need once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from birdlab.campaign import Campaign, Race, Sink
from birdlab.cellfiles import is_trained
from birdlab.cellorder import find_lacking, weights_needed
from birdlab.cellplan import CellPlan
from birdlab.data.leaks import refuse_leaks
from birdlab.data.waves import open_waves
from birdlab.errors import AudioError, BirdlabError, CellError, DataError, SpecError
from birdlab.keeping import drop_weights
from birdlab.lab import Lab, open_lab
from birdlab.lessons import hear_lessons
from birdlab.plan import Plan, Progress, plan_experiment, plan_experiments, silent
from birdlab.rounds import Pair, run_rounds
from birdlab.runresult import RunNote, RunResult
from birdlab.softlabels import hear_soundscapes
from birdlab.spec.experiment import ExperimentSpec
from birdlab.stages import fresh_weights
from birdlab.tasks import Event, Executor, InProcess, wanted
from birdlab.timing import timed

__all__ = ["Race", "Sink", "build_store", "refuse_missing", "run_experiment", "run_experiments"]


def run_experiment(
    spec: ExperimentSpec,
    *,
    lab: Lab | None = None,
    executor: Executor | None = None,
    sinks: Sequence[Sink] = (),
    note: RunNote | None = None,
    emit: Callable[[Event], None] = lambda _: None,
    progress: Progress = silent,
    wanted: Callable[[str], bool] = wanted,
    planned: Callable[[Sequence[Plan]], None] = lambda _: None,
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
        wanted=wanted,
        planned=planned,
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
    wanted: Callable[[str], bool] = wanted,
    race: Race | None = None,
    planned: Callable[[Sequence[Plan]], None] = lambda _: None,
) -> list[RunResult | BirdlabError]:
    """The scored runs of several experiments in order; a CellError stands for one that failed.

    Every experiment is planned, and `planned` told, before anything is decoded or trained. A cell
    shared by several is trained once, and cells run seed-major, so that all arms have evidence
    early. A run is scored and handed to the sinks as soon as its last cell is done. A run whose
    title is no longer `wanted` ends as a StoppedError. With a `race` the seeds are rounds, and
    what it stops after one has a result without a score. An experiment with `rounds` is planned
    whole, then run as it stands after each round, see `birdlab.rounds`; the drop of weights waits
    for the last. SpecError for rounds in a race.
    """
    with timed(f"plan (experiments: {len(specs)})"):
        plans = plan_experiments([spec for spec, _ in specs], lab, progress=progress)
    planned(plans)
    with timed("make audio and teachers ready"):
        plans = [make_ready(plan, lab, progress) for plan in plans]
    if all(spec.rounds is None for spec, _ in specs):
        notes = [note for _, note in specs]
        return Campaign(plans, notes, lab, executor, sinks, emit, wanted).run(race)
    if race is not None:
        raise SpecError(
            "rounds and a race do not go together: both decide what is not run",
            where="rounds",
            fix="leave out `race`, or `rounds`",
        )
    seen: dict[str, Plan] = {}

    def run(pairs: Sequence[Pair], titles: Mapping[str, str]) -> list[RunResult | BirdlabError]:
        found = plan_experiments([spec for spec, _ in pairs], lab, progress=progress)
        ready = [make_ready(plan, lab, progress) for plan in found]
        seen.update({plan.spec_id: plan for plan in ready})
        notes = [note for _, note in pairs]
        asked = lambda title: wanted(titles.get(title, title))  # noqa: E731
        return Campaign(ready, notes, lab, executor, sinks, emit, asked, waiting=plans).run(None)

    results = run_rounds(specs, run)
    failed = [p for p, r in zip(plans, results, strict=True) if isinstance(r, BirdlabError)]
    drop_weights(lab, list(seen.values()), failed)
    return results


def make_ready(plan: Plan, lab: Lab, progress: Progress) -> Plan:
    """A plan whose waveforms are in the store and heard by its teachers, if anything is to train.

    It is made anew without files that cannot be decoded. Raises DataError for pretraining that
    leaks into the folds, also when all is in the cache, and for audio that is missing; SpecError
    for pretrained weights that cannot be fetched; AudioError as `build_store`.
    """
    refuse_leaks(plan.leaks, plan.spec.data.accept_leaks)
    if not find_lacking(lab, plan.cells):
        return plan
    refuse_missing(plan)
    refuse_lost_teachers(plan, lab)
    require_pretrained(plan, lab)
    if not build_store(lab, plan, progress):
        plan = plan_experiment(plan.spec, lab, progress=progress)
    learning = [c for c in find_lacking(lab, plan.cells) if not is_trained(lab, c)]
    hear_models(plan, lab, learning, progress)
    return plan


def require_pretrained(plan: Plan, lab: Lab) -> None:
    """Raise SpecError for weights of the hub that a cell to train starts from and nobody can fetch.

    Asked before anything is decoded, which takes long.
    """
    first = [
        cell
        for cell in find_lacking(lab, plan.cells)
        if cell.start is None and not cell.sources and not is_trained(lab, cell)
    ]
    backbones = {c.spec.model.backbone for c in first if fresh_weights(c.spec.model, c.stage)[0]}
    if backbones:
        from birdlab.sed.hub import require_hub

        for backbone in backbones:
            require_hub(str(backbone))


def hear_models(
    plan: Plan, lab: Lab, cells: Sequence[CellPlan], progress: Progress = silent
) -> None:
    """Let the ONNX models that teach cells hear what these learn from, unless they did before."""
    hear_lessons(plan, lab, cells, progress)
    for cell in cells:
        if cell.labelling is not None and cell.labelling.model is not None:
            hear_soundscapes(cell.labelling, lab, plan.sample_rate_hz, plan.paths, progress)


def refuse_lost_teachers(plan: Plan, lab: Lab) -> None:
    """Raise CellError for cells of other runs that are to teach and whose weights are gone."""
    own = {cell.cell_id for cell in plan.cells}
    lost = {
        teacher.cell_id: teacher
        for cell in find_lacking(lab, plan.cells)
        if not is_trained(lab, cell)
        for teacher in weights_needed(lab, cell)
        if teacher.cell_id not in own
    }
    if lost:
        raise CellError(
            f"the weights of {len(lost)} cells that are to teach are not in the lab",
            got="; ".join(f"{cell.cell_id}: {cell.title}" for cell in [*lost.values()][:3]),
            fix="train them again, to the same bits: birdlab rerun RUN --keep all",
        )


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
