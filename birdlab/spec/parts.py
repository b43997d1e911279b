"""The frame of an experiment: stages, deployed output, evaluation, how much evidence."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import AddedLater, Name, Positive, Probability, Spec, Tuple
from birdlab.spec.estimators import ALWAYS, STANDARD, EstimatorSpec, find_clash
from birdlab.spec.kinds import nearest
from birdlab.spec.named import NamedList
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.synthetic import SyntheticSpec
from birdlab.spec.teaching import DistillSpec, PseudoSpec, SoupSpec

FRESH = ("none", "imagenet")
"""What a stage may start from besides an earlier stage: random or pretrained weights."""


class StageSpec(Spec):
    """One stage of training: its data, where it starts, its own recipe."""

    name: Name
    """What the stage is called."""
    data: Name | None = None
    """The data set that the stage trains on; without it, on the folds of the base table."""
    start: Name | None = None
    """An earlier stage, or `none` (random weights) or `imagenet` (the backbone's own, by
    `model.pretrained` or `model.weights`); without it the model says."""
    transfer: Literal["all", "backbone", "mapped"] = "all"
    """What an earlier stage hands over: `all` keeps its classes and head, `backbone` gives this
    stage a new head, `mapped` a head of this stage's classes in which those that both know keep
    their weights."""
    seeds: Literal["per_seed", "shared"] = "per_seed"
    """`shared` trains the stage once for all seeds, which hides the variance between seeds that it
    would add."""
    pseudo: Annotated[PseudoSpec | None, AddedLater(as_before=None)] = None
    """Add windows of soundscapes, labelled by a teacher, to the clips."""
    distill: Annotated[DistillSpec | None, AddedLater(as_before=None)] = None
    """Add a teacher's outputs to the targets."""
    soup: Annotated[SoupSpec | None, AddedLater(as_before=None)] = None
    """Make the stage the mean of the weights of an earlier stage; nothing is trained."""
    train: TrainSpec
    """What the stage has otherwise than the recipe of the experiment."""
    augment: Annotated[tuple[AugmentationSpec, ...], NamedList("augmentation")] = ()
    """The augmentations of the stage, or changes by name to those of the experiment."""

    @model_validator(mode="after")
    def _is_heard_whole(self) -> StageSpec:
        if self.distill is not None and self.distill.hop_s > self.train.window_s:
            raise ValueError(
                f"distill.hop_s is {self.distill.hop_s:g}: give at most the "
                f"{self.train.window_s:g} s of train.window_s, else the teacher hears only parts"
            )
        return self


class OutputSpec(Spec):
    """The deployed probability: clip * P + time_max * M. The two sum to 1.

    Source: first place of BirdCLEF 2023.
    """

    clip: Probability = 0.75
    """The weight of the clip probability P. Unit: share."""
    time_max: Probability = 0.25
    """The weight of the time maximum M. Unit: share."""

    @model_validator(mode="after")
    def _sum(self) -> OutputSpec:
        if abs(self.clip + self.time_max - 1) > 1e-9:
            raise ValueError(f"clip + time_max should be 1; got {self.clip + self.time_max:g}")
        return self


class EvaluateSpec(Spec):
    """How stored outputs are scored."""

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"batch", "estimators"})

    secondary: Literal["count", "ignore"] = "count"
    """Whether secondary labels are positives (`count`), or taken as not there (`ignore`)."""
    context_s: Annotated[Positive | None, AddedLater(as_before=None)] = None
    """Predict a window from so many seconds around it; the head sees only the frames of the window
    itself. Without it, from the window alone."""
    windows_per_pass: Annotated[int, Field(ge=1), AddedLater(as_before=1)] = 1
    """How many windows, one after the other, share one context and so one run of the backbone.
    Unit: windows."""
    hop_s: Annotated[Positive | None, AddedLater(as_before=None)] = None
    """The step of overlapping windows, a whole part of a window: each window that is scored becomes
    the mean of all that overlap it, by the seconds they share, as with `birdlab predict --hop`.
    Without it windows lie one after the other."""
    soundscapes: Annotated[Tuple[Name], AddedLater(as_before=())] = ()
    """Data sets whose labelled soundscapes are scored window by window, as an estimator beside the
    recordings of the fold."""
    synthetic: Annotated[SyntheticSpec | None, AddedLater(as_before=None)] = None
    """Mix soundscapes from the recordings of the fold and score them in the same way."""
    estimators: Annotated[tuple[EstimatorSpec, ...], NamedList("estimator")] = STANDARD
    """The further numbers that a run is summed up in; each becomes the score `cv/<name>`."""
    batch: Annotated[int, Field(ge=1)] = 32
    """The number of inputs per forward pass; it changes no score. Unit: inputs."""

    @field_validator("estimators")
    @classmethod
    def _have_names(cls, value: tuple[EstimatorSpec, ...]) -> tuple[EstimatorSpec, ...]:
        clash = find_clash(value)
        if clash:
            raise ValueError(clash)
        return value


def find_unscored(evaluate: EvaluateSpec, name: str) -> str:
    """Why no run of an experiment has a score of this name, in words; "" where each has."""
    known = [*ALWAYS, *(e.name for e in evaluate.estimators)]
    if name not in known:
        return f"no score is called {name!r}; {nearest(name, known)}"
    heard = name.partition("_")[0]
    if getattr(evaluate, heard, True) in ((), None):
        return f"{name} needs evaluate.{heard}, which names nothing"
    return ""


class CellsSpec(Spec):
    """How much evidence. It is no part of the identity: a run grows from 2 folds to 5 without
    repeating any."""

    folds: Tuple[Annotated[int, Field(ge=0)]] | Literal["all", "none"] = "all"
    """The folds that are trained and scored, or `all`, or `none` for training on everything. Unit:
    fold."""
    seeds: Tuple[Annotated[int, Field(ge=0)]] = (0,)
    """The seeds that each fold is trained with. Unit: seed."""

    @field_validator("folds", "seeds")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise ValueError("should list at least one number, each once")
        return value
