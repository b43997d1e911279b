"""Teachers from outside of an experiment: recorded runs, promoted models, foreign files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from birdlab.datasets import sample_rate_of
from birdlab.errors import SpecError
from birdlab.recorded import cells_of, find_record, load_records, spec_of
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest
from birdlab.spec.parts import StageSpec
from birdlab.stages import teachers_of
from birdlab.tables import Shelf
from birdlab.teaching import TeacherModel, TeacherRun

if TYPE_CHECKING:
    from birdlab.plan import Plan

PlanOf = Callable[[ExperimentSpec, Shelf], "Plan"]


def plan_teachers(
    spec: ExperimentSpec, shelf: Shelf, plan_of: PlanOf
) -> tuple[dict[str, TeacherRun], dict[str, TeacherModel]]:
    """The runs and the models that teach in an experiment, by the names that it gives them.

    Raises ResolveError for a run that is none or several, SpecError for one that cannot teach
    here, and as `open_teacher` for models.
    """
    teachers = [teacher for stage in spec.stages for teacher in teachers_of(stage)]
    runs = {t.run: _plan_run(t.run, shelf, plan_of) for t in teachers if t.run is not None}
    for run in runs.values():
        _check_rate(run, spec)
    ids = shelf.teacher_ids(spec)
    models = {name: _open_model(name, identity, shelf, plan_of) for name, identity in ids.items()}
    return runs, models


def pin_teachers(
    spec: ExperimentSpec, runs: Mapping[str, TeacherRun], models: Mapping[str, TeacherModel]
) -> ExperimentSpec:
    """The experiment with the run or the model itself where it gives a name or an alias.

    So it means the same when another run has that name, or another model is the champion.
    """

    def pinned(stage: StageSpec) -> StageSpec:
        changes = {}
        for what, taught in (("pseudo", stage.pseudo), ("distill", stage.distill)):
            if taught is not None and taught.teacher.stage is None:
                given = taught.teacher
                exact = (
                    {"run": runs[given.run].spec_id}
                    if given.run is not None
                    else {"model": models[given.model or ""].name}
                )
                teacher = given.model_copy(update=exact)
                changes[what] = taught.model_copy(update={"teacher": teacher})
        return stage.model_copy(update=changes) if changes else stage

    if not runs and not models:
        return spec
    return spec.model_copy(update={"stages": tuple(pinned(stage) for stage in spec.stages)})


def name_teachers(
    spec: ExperimentSpec, runs: Mapping[str, TeacherRun], models: Mapping[str, TeacherModel]
) -> dict[str, Any]:
    """What a recipe depends on of them, whatever they are called; empty without any."""
    named = {
        f"{stage.name} {i}": models[teacher.model].identity
        if teacher.model is not None
        else digest(sorted(cell.cell_id for cell in runs[teacher.run or ""].cells))
        for stage in spec.stages
        for i, teacher in enumerate(teachers_of(stage))
        if teacher.stage is None
    }
    return {"teachers": named} if named else {}


def note_teachers(spec: ExperimentSpec, models: Mapping[str, TeacherModel]) -> list[str]:
    """What is to be said of the teachers of an experiment that is scored."""
    named = sorted({m.name for m in models.values() if m.is_foreign}) if spec.fold_numbers else []
    return [f"teacher {name}: not known which recordings it was trained on" for name in named]


def _plan_run(text: str, shelf: Shelf, plan_of: PlanOf) -> TeacherRun:
    """The run that teaches: its cells as they are planned today, those that were trained.

    Raises ResolveError for a name that is no run or several, SpecError where the data changed
    since it was made.
    """
    record = find_record(shelf.lab, text)
    plan = plan_of(spec_of(record), shelf)
    if plan.spec_id != record["spec_id"] and shelf.strict:
        raise SpecError(
            f"the data changed after the run {text} was made, so it cannot teach",
            got=f"spec id {plan.spec_id}",
            expected=record["spec_id"],
            fix="run its experiment again on the data as it is now",
        )
    trained = {str(cell["cell_id"]) for cell in cells_of(record)}
    cells = tuple(c for c in plan.final_cells if c.cell_id in trained)
    if not cells and not shelf.strict:
        cells = plan.final_cells
    if not cells:
        raise SpecError(
            f"the run {text} has no trained cell", fix=f"birdlab rerun {record['spec_id']}"
        )
    return TeacherRun(text, record["spec_id"], plan.spec, cells)


def _check_rate(run: TeacherRun, spec: ExperimentSpec) -> None:
    """SpecError for a run that hears waveforms of another rate than the cells it is to teach."""
    theirs, ours = sample_rate_of(run.spec), sample_rate_of(spec)
    if theirs != ours:
        raise SpecError(
            f"the run {run.name} hears another sample rate, so its networks cannot teach",
            got=f"{theirs} Hz; this experiment {ours} Hz",
            fix="promote it and name the model: an ONNX teacher hears files at its own rate",
        )


def _open_model(name: str, identity: str, shelf: Shelf, plan_of: PlanOf) -> TeacherModel:
    """The ONNX file that teaches, and the rows of the runs that it was promoted from."""
    from birdlab.infer.models import find_promoted

    lab = shelf.lab
    if name in lab.file.teachers:
        return TeacherModel(name, identity, None, is_foreign=True)
    known = {record["spec_id"]: record for record in load_records(lab)}
    promoted = find_promoted(lab.models, name)
    name, runs = promoted.name, promoted.runs
    if any(run not in known for run in runs):
        return TeacherModel(name, identity, None, is_foreign=False)
    plans = [plan_of(spec_of(known[run]), shelf) for run in runs]
    if shelf.strict and any(p.spec_id != run for p, run in zip(plans, runs, strict=True)):
        return TeacherModel(name, identity, None, is_foreign=False)  # its data changed since
    heard = {id(c.rows): c.rows for p in plans for cell in p.cells for c in cell.line}
    return TeacherModel(name, identity, tuple(heard.values()), is_foreign=False)
