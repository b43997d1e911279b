"""How the stages of an experiment hang together: what hands over what to which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from birdlab.data.classes import ClassList
from birdlab.errors import SpecError
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.model import ModelSpec
from birdlab.spec.parts import StageSpec
from birdlab.spec.teaching import TeacherSpec

NEW_HEAD = "write `transfer: backbone` to start with a new head"
MAPPED = "write `transfer: mapped` to keep the weights of the classes that both know"


def stage_named(spec: ExperimentSpec, name: str | None) -> StageSpec | None:
    """The stage of that name; None where no stage is called so."""
    return next((s for s in spec.stages if s.name == name), None)


def teachers_of(stage: StageSpec) -> Iterator[TeacherSpec]:
    """Who labels soundscapes for a stage, and who teaches it."""
    yield from (given.teacher for given in (stage.pseudo, stage.distill) if given is not None)


def line_of(spec: ExperimentSpec, stage: StageSpec) -> list[StageSpec]:
    """`stage` and every stage that it goes back to, in the order of the experiment.

    It goes back to the one that it starts from, to those that label or teach it, and to that
    whose weights it averages.
    """
    named = {stage.start, *(teacher.stage for teacher in teachers_of(stage))}
    named.add(None if stage.soup is None else stage.soup.of)
    earlier = {
        s.name for before in spec.stages if before.name in named for s in line_of(spec, before)
    }
    return [s for s in spec.stages if s.name in earlier or s is stage]


def depends_on_fold(spec: ExperimentSpec, stage: StageSpec) -> bool:
    """Whether a stage is trained anew for each fold: it leaves rows out, or goes back to one.

    So does one that models of a run teach: which of them may, depends on the rows left out.
    """
    return any(
        s.data is None or any(teacher.run is not None for teacher in teachers_of(s))
        for s in line_of(spec, stage)
    )


def fresh_weights(model: ModelSpec, stage: StageSpec) -> tuple[bool, str | None]:
    """The weights of a stage that starts from no other: from timm's hub? which entry of [weights]?

    (False, None) are random ones. `start` of the stage decides before the model does. Raises
    SpecError for `imagenet` where there are no such weights for the backbone.
    """
    if stage.start == "none":
        return False, None
    if stage.start == "imagenet" and model.weights is None:
        if not isinstance(model.backbone, str):
            raise SpecError(
                f"stage {stage.name!r} asks for pretrained weights, which its backbone has not",
                where=f"stages.{stage.name}.start",
                got=f"start: imagenet, backbone: {getattr(model.backbone, 'kind', '')}",
                fix="write `start: none`, or name weights of your own in model.weights",
            )
        return True, None
    return model.pretrained, model.weights


def hand_over(
    stage: StageSpec, before: StageSpec, given: ClassList, own: ClassList, needed: Sequence[str]
) -> ClassList:
    """The classes of a stage that starts from `before`, whose network has the classes `given`.

    `own` are the stage's classes when it has a head of its own; `needed` those it must have: the
    scored ones, or those of its table. With `transfer: all` the classes stay those of the start.
    Raises SpecError where they lack one that is needed, and where a mapped head finds no class
    that both know.
    """
    if stage.transfer == "backbone":
        return own
    lacking = given.unknown(needed)
    whose = "scored classes" if stage.data is None else f"classes of {stage.data}"
    if stage.transfer == "all" and lacking:
        shared = len(lacking) < len(needed)
        raise SpecError(
            f"stage {stage.name!r} keeps the head of {before.name!r}, which lacks "
            f"{len(lacking)} {whose}",
            where=f"stages.{stage.name}.transfer",
            got=", ".join(lacking[:20]),
            fix=f"{MAPPED}, or {NEW_HEAD.removeprefix('write ')}" if shared else NEW_HEAD,
        )
    if stage.transfer == "mapped" and not any(code in given for code in own):
        raise SpecError(
            f"stage {stage.name!r} maps the head of {before.name!r}, and they share no class",
            where=f"stages.{stage.name}.transfer",
            got=f"{', '.join(own.codes[:8])} from {', '.join(given.codes[:8])}",
            fix=NEW_HEAD,
        )
    return given if stage.transfer == "all" else own
