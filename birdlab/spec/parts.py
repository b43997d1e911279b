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
    """One stage of training: its data, where it starts, its own recipe.

    Without `data` the stage trains on the folds of the base table. `start` names an earlier
    stage, or `none` (random weights) or `imagenet` (the backbone's own, by `model.pretrained` or
    `model.weights`); without it the model says. `transfer` is what an earlier stage hands over:
    `all` keeps its classes and head, `backbone` gives this stage a new head, `mapped` a head of
    this stage's classes in which those that both know keep their weights. `seeds: shared` trains
    the stage once for all seeds, which hides the variance between seeds that it would add.
    `pseudo` adds labelled windows of soundscapes to its clips, `distill` a teacher's outputs to its
    targets; `soup` makes it the mean of the weights of an earlier stage, and nothing is trained.
    """

    name: Name
    data: Name | None = None
    start: Name | None = None
    transfer: Literal["all", "backbone", "mapped"] = "all"
    seeds: Literal["per_seed", "shared"] = "per_seed"
    pseudo: Annotated[PseudoSpec | None, AddedLater(as_before=None)] = None
    distill: Annotated[DistillSpec | None, AddedLater(as_before=None)] = None
    soup: Annotated[SoupSpec | None, AddedLater(as_before=None)] = None
    train: TrainSpec
    augment: Annotated[tuple[AugmentationSpec, ...], NamedList("augmentation")] = ()

    @model_validator(mode="after")
    def _is_heard_whole(self) -> StageSpec:
        if self.distill is not None and self.distill.hop_s > self.train.window_s:
            raise ValueError(
                f"distill.hop_s is {self.distill.hop_s:g}: give at most the "
                f"{self.train.window_s:g} s of train.window_s, else the teacher hears only parts"
            )
        return self


class OutputSpec(Spec):
    """The deployed probability: clip * P + time_max * M."""

    clip: Probability = 0.75
    time_max: Probability = 0.25

    @model_validator(mode="after")
    def _sum(self) -> OutputSpec:
        if abs(self.clip + self.time_max - 1) > 1e-9:
            raise ValueError(f"clip + time_max should be 1; got {self.clip + self.time_max:g}")
        return self


class EvaluateSpec(Spec):
    """How stored outputs are scored: do secondary labels count as positives?

    With `context_s` a window is predicted from so many seconds around it, and the head sees only
    the frames of the window itself. `windows_per_pass` such windows, one after the other, may share
    one context and so one run of the backbone. With `hop_s`, a whole part of a window, there are
    windows between those that are scored: each of these becomes the mean of all that overlap it, by
    the seconds they share, as with `birdlab predict --hop`. `soundscapes` names data sets whose
    labelled soundscapes are scored window by window, as an estimator beside the recordings of the
    fold; `synthetic` mixes soundscapes from these recordings and scores them in the same way.
    `estimators` are the further numbers that a run is summed up in. `batch` is the number of
    inputs per forward pass and changes no score.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"batch", "estimators"})

    secondary: Literal["count", "ignore"] = "count"
    context_s: Annotated[Positive | None, AddedLater(as_before=None)] = None
    windows_per_pass: Annotated[int, Field(ge=1), AddedLater(as_before=1)] = 1
    hop_s: Annotated[Positive | None, AddedLater(as_before=None)] = None
    soundscapes: Annotated[Tuple[Name], AddedLater(as_before=())] = ()
    synthetic: Annotated[SyntheticSpec | None, AddedLater(as_before=None)] = None
    estimators: Annotated[tuple[EstimatorSpec, ...], NamedList("estimator")] = STANDARD
    batch: Annotated[int, Field(ge=1)] = 32

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
    """How much evidence: folds (a list, `all`, or `none` for training on everything) and seeds."""

    folds: Tuple[Annotated[int, Field(ge=0)]] | Literal["all", "none"] = "all"
    seeds: Tuple[Annotated[int, Field(ge=0)]] = (0,)

    @field_validator("folds", "seeds")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise ValueError("should list at least one number, each once")
        return value
