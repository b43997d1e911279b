"""What a stage learns from beside labels: soft labels, a teacher's outputs, weights of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from birdlab.spec.base import Name, Positive, Probability, Spec, Tuple


class TeacherSpec(Spec):
    """Who says what is in a clip: exactly one of an earlier stage, a run, and a model.

    `stage` is an earlier stage of this experiment: its models label for those that held out the
    same rows. `run` names a scored run of the lab, `model` a promoted model or an entry of
    `[teachers]` in the lab file. A plain text is a stage.
    """

    stage: Name | None = None
    run: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> TeacherSpec:
        given = [k for k in ("stage", "run", "model") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of stage, run, model; got {given or 'none'}")
        return self


def _plain_stage(raw: Any) -> Any:
    return {"stage": raw} if isinstance(raw, str) else raw


Teacher = Annotated[TeacherSpec, BeforeValidator(_plain_stage)]


class PseudoSpec(Spec):
    """Windows of unlabelled soundscapes as training clips, labelled by a teacher.

    `soundscapes` names data sets. A probability of the teacher becomes a soft label: 0 where it
    is below `floor`, else to the power `power`. Windows whose highest probability is below
    `threshold` are left out. A share `draw_rate` of the clips of an epoch are such windows,
    drawn alike or in proportion to the sum of their labels (`draw: confidence`). Into a share
    `mix_rate` of the other clips one of them is mixed with the weight `mix_ratio`; the mixture has
    the larger label of both.
    """

    soundscapes: Tuple[Name]
    teacher: Teacher
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    power: Positive = 1.0
    draw: Literal["uniform", "confidence"] = "confidence"
    draw_rate: Annotated[float, Field(ge=0, lt=1)] = 0.25
    mix_rate: Probability = 0.0
    mix_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _holds(self) -> PseudoSpec:
        if not self.soundscapes:
            raise ValueError("soundscapes should name at least one data set")
        if self.draw_rate == 0 and self.mix_rate == 0:
            raise ValueError("draw_rate and mix_rate are both 0: no window would ever be heard")
        return self


class DistillSpec(Spec):
    """A teacher's outputs on the training clips as a second target.

    `logits` adds the divergence of teacher and student probabilities softened by `temperature`,
    `embeddings` the cosine distance of a linear map of the student's features. The loss is
    (1 - weight) of that on labels plus weight of this. The teacher hears each recording once, in
    windows every `hop_s`.
    """

    teacher: Teacher
    target: Literal["logits", "embeddings"] = "logits"
    temperature: Positive = 1.0
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    hop_s: Positive = 2.5


class TeacherFile(Spec):
    """An ONNX file that labels or teaches, as `[teachers]` of the lab file describes it.

    `path` is the file; a file that birdlab promoted says the rest itself. `classes` is a text file
    with one code a line, in the order of the columns of `output` (default: the only output, or
    `probs`), which holds probabilities or logits (`kind`). The input is [windows, samples] float32:
    `window_s` at `sample_rate_hz`, each window brought to peak 1 (`normalise`: `crop`), its
    recording (`recording`), or left at the level of the file (`none`). `embedding` is an output
    [windows, values]. `labels` is a table with the columns `from` and `to` that renames classes.
    """

    path: Annotated[str, Field(min_length=1)]
    classes: str | None = None
    window_s: Positive | None = None
    sample_rate_hz: Annotated[int, Field(ge=1)] | None = None
    output: str | None = None
    kind: Literal["probs", "logits"] = "probs"
    embedding: str | None = None
    labels: str | None = None
    normalise: Literal["crop", "recording", "none"] = "crop"


class SoupSpec(Spec):
    """A stage that trains nothing: the mean of the weights of an earlier stage's seeds.

    Seed s of the soup is the mean of the seeds s * n ... s * n + n - 1 of the stage `of`, fold by
    fold, with batch-norm statistics made anew.
    """

    of: Name
    n: Annotated[int, Field(ge=2, le=20)] = 3


class RoundsSpec(Spec):
    """When the rounds of pseudo-labels end: the stages with `pseudo` are the rounds.

    The experiment is run as it stands after each of them. A round counts as a gain when the score
    `by` of its run is more than `min_gain` above that of the last one that gained; after
    `patience` rounds without a gain no further one is run, and the last that gained is taken. A
    plain text is the name of the score.
    """

    by: Name
    patience: Annotated[int, Field(ge=1)] = 1
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0


def _plain_score(raw: Any) -> Any:
    return {"by": raw} if isinstance(raw, str) else raw


Rounds = Annotated[RoundsSpec, BeforeValidator(_plain_score)]


def text_of(teacher: TeacherSpec | Mapping[str, Any]) -> str:
    """A teacher in words: `stage round1`, `run baseline`, `model @champion`."""
    raw = dict(teacher)
    return next(f"{kind} {name}" for kind, name in raw.items() if name is not None)
