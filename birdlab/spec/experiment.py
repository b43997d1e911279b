"""The experiment spec: what to run, as data, and how it is read from YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from birdlab.errors import SpecError
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import AddedLater, Also, Name, Spec, Tuple
from birdlab.spec.competition import PROFILES, CompetitionSpec, load_competition
from birdlab.spec.data import DataSpec
from birdlab.spec.delta import merge, set_fields
from birdlab.spec.estimators import OneFold
from birdlab.spec.forms import refuse_sweep
from birdlab.spec.model import ModelSpec
from birdlab.spec.named import NamedList, unfold
from birdlab.spec.parts import (
    FRESH,
    CellsSpec,
    EvaluateSpec,
    OutputSpec,
    StageSpec,
    find_unscored,
)
from birdlab.spec.postprocess import PostStep
from birdlab.spec.problems import validate
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.soups import check_soups, inherit_recipe
from birdlab.spec.teaching import Rounds
from birdlab.spec.window_checks import check_context, check_overlap, check_synthetic
from birdlab.spec.yamlfile import Document, load_yaml, parse_value


class ExperimentSpec(Spec):
    """One experiment: competition, data, model, recipe, stages, output, evidence.

    Each stage holds its own complete copy of `train` and `augment`, so that only stages are read
    when something is trained.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset(
        {
            *("train", "augment", "cells", "keep", "rounds"),
            *("project", "name", "notes", "tags", "expect"),
        }
    )

    competition: Annotated[
        CompetitionSpec, BeforeValidator(load_competition), Also({"enum": list(PROFILES)})
    ]
    """The name of a known competition, or a profile of your own: the metric, the windows, the
    limits."""
    data: DataSpec
    """Which recordings are used, how they are cleaned and split."""
    model: ModelSpec
    """The network, and the weights it starts from."""
    train: TrainSpec = TrainSpec()
    """The recipe that every stage inherits."""
    augment: Annotated[tuple[AugmentationSpec, ...], NamedList("augmentation")] = ()
    """The augmentations that every stage inherits, in the order in which they act."""
    stages: Annotated[tuple[StageSpec, ...], NamedList(cls=StageSpec)] = ()
    """What is trained one after the other. Without any there is one stage, `train`, on the folds.
    """
    output: OutputSpec = OutputSpec()
    """How the clip probability and the time maximum become one probability."""
    postprocess: Annotated[
        tuple[PostStep, ...], NamedList("postprocess"), AddedLater(as_before=())
    ] = ()
    """What becomes of the windows of a file before they are scored, and of those of a promoted
    model."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """How outputs are scored, and on which windows. Changing it trains nothing."""
    cells: CellsSpec = CellsSpec()
    """How much evidence: which folds, which seeds."""
    rounds: Rounds | None = None
    """When the rounds of pseudo-labels end: the run that is taken may end before the last stage."""
    keep: Literal["all", "final", "outputs"] = "all"
    """Which weights stay in the lab once the run is scored: of every stage, of the last one
    (`final`), or none, so that only stored outputs are left (`outputs`)."""
    project: Name = "default"
    """The MLflow experiment that the runs belong to."""
    name: Annotated[str, Field(max_length=200)] = ""
    """What the run is called, in tables and as RUN."""
    notes: str = ""
    """Words beside the run. They change no number."""
    tags: Tuple[str] = ()
    """Words to find the run by."""
    expect: str = ""
    """What somebody expects of the run, kept beside the outcome."""

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, raw: Any) -> Any:
        """Every stage gets the recipe that it does not spell out itself."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("stages", []), list | tuple):
            return raw
        stages = []
        for item in raw.get("stages") or [{"train": {}}]:
            long = unfold(item, None)
            if isinstance(long, Spec) or not isinstance(long, dict):
                stages.append(long)
                continue
            long = inherit_recipe(long, stages)
            train, augment = raw.get("train", {}), raw.get("augment", [])
            if isinstance(train, Mapping) and isinstance(long.get("train", {}), Mapping):
                train = merge(dict(train), long.get("train", {}))
            else:
                train = long.get("train", train)
            if "augment" in long:
                augment = merge({"augment": augment}, {"augment": long["augment"]})["augment"]
            stages.append({**long, "train": train, "augment": augment})
        return {**raw, "stages": stages}

    @model_validator(mode="after")
    def _stages_fit(self) -> ExperimentSpec:
        seen: list[str] = []
        for stage in self.stages:
            if stage.name in FRESH:
                raise ValueError(f"a stage cannot be called {stage.name!r}: `start` means it")
            _stands_on_earlier(stage, seen)
            if stage.train.is_steered and (stage.data is not None or self.cells.folds == "none"):
                raise ValueError(
                    f"stage {stage.name!r} holds no rows out, so no validation can choose its "
                    "weights: use checkpoint: last, without early_stop"
                )
            seen.append(stage.name)
        check_soups(self.stages, self.model)
        if self.stages[-1].data is not None:
            raise ValueError(
                f"the last stage, {self.stages[-1].name!r}, trains on {self.stages[-1].data!r}; "
                "it should train on the folds of the base table (leave out its `data`)"
            )
        folds, n = self.cells.folds, getattr(self.data.folds, "n", None)
        if isinstance(folds, tuple) and n is not None and max(folds) >= n:
            raise ValueError(f"cells.folds asks for fold {max(folds)}; data.folds makes 0..{n - 1}")
        for estimator in self.evaluate.estimators:
            if isinstance(estimator, OneFold) and n is not None and estimator.fold >= n:
                raise ValueError(
                    f"evaluate.estimators.{estimator.name} asks for fold {estimator.fold}; "
                    f"data.folds makes 0..{n - 1}"
                )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> ExperimentSpec:
        window_s = self.competition.window_s
        check_context(self.evaluate, window_s)
        check_overlap(self.evaluate, window_s, self.model, self.postprocess)
        check_synthetic(self.evaluate, window_s)
        return self

    @model_validator(mode="after")
    def _something_is_kept(self) -> ExperimentSpec:
        if self.keep == "outputs" and self.cells.folds == "none":
            raise ValueError(
                "keep: outputs leaves nothing of models that are trained on all data and so have "
                "no outputs; use final or all"
            )
        return self

    @model_validator(mode="after")
    def _rounds_can_be_judged(self) -> ExperimentSpec:
        if self.rounds is None:
            return self
        if not any(stage.pseudo is not None for stage in self.stages):
            raise ValueError("rounds asks when to stop, and no stage has `pseudo`")
        if self.cells.folds == "none":
            raise ValueError(
                "rounds asks which round is best, and models trained on all data have no score: "
                "choose on folds, then promote the run that is taken"
            )
        problem = find_unscored(self.evaluate, self.rounds.by)
        if problem:
            raise ValueError(f"rounds.by: {problem}")
        return self

    def keeps_weights(self, stage: StageSpec) -> bool:
        """Whether the weights of a stage stay once the run is scored."""
        return self.keep == "all" or (self.keep == "final" and stage.name == self.stages[-1].name)

    @property
    def fold_numbers(self) -> tuple[int, ...]:
        """The folds asked for; empty for training on everything (`folds: none`)."""
        if self.cells.folds == "none":
            return ()
        if self.cells.folds == "all":
            return tuple(range(getattr(self.data.folds, "n", 1)))
        return tuple(self.cells.folds)


def _stands_on_earlier(stage: StageSpec, seen: Sequence[str]) -> None:
    """Raise ValueError unless what a stage starts from or is taught by was `seen`."""
    earlier = ", ".join(seen) or "none"
    if stage.start is not None and stage.start not in (*seen, *FRESH):
        raise ValueError(
            f"stage {stage.name!r} starts from {stage.start!r}, which is not an earlier "
            f"stage; earlier stages: {earlier}; {', '.join(FRESH)}"
        )
    for what, taught in (("pseudo", stage.pseudo), ("distill", stage.distill)):
        name = None if taught is None else taught.teacher.stage
        if name is not None and name not in seen:
            raise ValueError(
                f"stages.{stage.name}.{what}.teacher is the stage {name!r}, which is not an "
                f"earlier stage; earlier stages: {earlier}"
            )


def load_document(path: Path) -> Document:
    """A spec file with every `base` it stands on merged below it, base first."""
    return _load_over(path, ())


def _load_over(path: Path, above: tuple[Path, ...]) -> Document:
    try:
        path = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(
            "a path cannot be that of a spec file",
            got=f"{path!s:.80}: {error}",
            expected="the path of a YAML file",
        ) from None
    if path in above:
        raise SpecError(
            "spec files stand on each other in a circle",
            where=" -> ".join(p.name for p in (*above, path)),
            fix="take `base` out of one of them",
        )
    document = load_yaml(path)
    base = document.data.pop("base", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise SpecError(
            "`base` is not the path of a spec file",
            where=document.place("base"),
            expected="the path of a YAML file, relative to this one",
        )
    below = _load_over(path.parent / base, (*above, path))
    return Document(merge(below.data, document.data), {**below.places, **document.places})


def load_spec(
    path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> ExperimentSpec:
    """The experiment in a YAML file, with `overrides` laid over it.

    `overrides` is a list of `a.b=value` (values read as YAML) or a mapping of dotted names.
    Raises SpecError that lists everything wrong, each with file, line and dotted field; for the
    file of a sweep only that it is one.
    """
    document = load_document(Path(path))
    refuse_sweep(document, path)
    changes = parse_overrides(overrides) if not isinstance(overrides, Mapping) else overrides
    return build_spec(document, changes)


def build_spec(document: Document, *changes: Mapping[str, Any] | None) -> ExperimentSpec:
    """The experiment of a loaded document after `changes` by dotted name, one after the other."""
    raw, places = document.data, dict(document.places)
    for change in filter(None, changes):
        raw = set_fields(raw, change)
        places |= {key: f"change {key}={value}" for key, value in change.items()}
    return validate(ExperimentSpec, raw, Document(raw, places))


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` texts as a mapping; SpecError for one without `=`."""
    changes: dict[str, Any] = {}
    for text in overrides:
        dotted, sign, value = text.partition("=")
        if not sign or not dotted.strip():
            raise SpecError(
                "an override has no `=`", got=text, fix="write --set train.optimizer.lr=1e-3"
            )
        changes[dotted.strip()] = parse_value(value)
    return changes
