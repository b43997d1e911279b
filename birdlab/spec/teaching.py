"""What a stage learns from beside labels: soft labels, a teacher's outputs, weights of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from birdlab.spec.base import Also, Name, Positive, Probability, Spec, Tuple


class TeacherSpec(Spec):
    """Who says what is in a clip: exactly one of an earlier stage, a run, and a model. A plain text
    is a stage."""

    stage: Name | None = None
    """An earlier stage of this experiment: its models label for those that held out the same rows.
    """
    run: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A scored run of the lab."""
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A promoted model, or an entry of `[teachers]` in the lab file."""

    @model_validator(mode="after")
    def _exactly_one(self) -> TeacherSpec:
        given = [k for k in ("stage", "run", "model") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of stage, run, model; got {given or 'none'}")
        return self


def _plain_stage(raw: Any) -> Any:
    return {"stage": raw} if isinstance(raw, str) else raw


Teacher = Annotated[TeacherSpec, BeforeValidator(_plain_stage), Also({"type": "string"})]


class PseudoSpec(Spec):
    """Windows of unlabelled soundscapes as training clips, labelled by a teacher.

    Source: Lee 2013 for labels that a network gives; a teacher and its soft labels as in Xie et al.
    2020; the fields are birdlab's.
    """

    soundscapes: Tuple[Name]
    """The data sets whose soundscapes are heard."""
    teacher: Teacher
    """Who labels them."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Windows whose highest probability is below it are left out. Unit: probability. Source:
    birdlab."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A probability below it becomes the label 0. Unit: probability. Source: birdlab."""
    power: Positive = 1.0
    """A probability becomes a soft label to this power. Unit: exponent. Source: birdlab."""
    draw: Literal["uniform", "confidence"] = "confidence"
    """How windows are drawn: alike, or in proportion to the sum of their labels. Source: birdlab.
    """
    draw_rate: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """The share of the clips of an epoch that are such windows. Unit: share. Source: birdlab."""
    mix_rate: Probability = 0.0
    """The share of the other clips into which such a window is mixed; the mixture has the larger
    label of both. Unit: share. Source: birdlab."""
    mix_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The weight of the window in such a mixture. Unit: share. Source: birdlab."""

    @model_validator(mode="after")
    def _holds(self) -> PseudoSpec:
        if not self.soundscapes:
            raise ValueError("soundscapes should name at least one data set")
        if self.draw_rate == 0 and self.mix_rate == 0:
            raise ValueError("draw_rate and mix_rate are both 0: no window would ever be heard")
        return self


class DistillSpec(Spec):
    """A teacher's outputs on the training clips as a second target.

    The loss is (1 - weight) of that on labels plus weight of this.

    Source: Hinton et al. 2015.
    """

    teacher: Teacher
    """Who is listened to."""
    target: Literal["logits", "embeddings"] = "logits"
    """`logits`: the divergence of the softened probabilities of teacher and student; `embeddings`:
    the cosine distance of a linear map of the student's features."""
    temperature: Positive = 1.0
    """What logits are divided by before they are compared. Unit: factor."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The weight of the teacher. Unit: share."""
    hop_s: Positive = 2.5
    """The step of the windows in which the teacher hears each recording once. Source: birdlab."""


class TeacherFile(Spec):
    """An ONNX file that labels or teaches, as `[teachers]` of the lab file describes it.

    A file that birdlab promoted says the rest itself. The input is [windows, samples] float32.
    """

    path: Annotated[str, Field(min_length=1)]
    """The file, relative to the lab."""
    classes: str | None = None
    """A text file with one code a line, in the order of the columns of `output`."""
    window_s: Positive | None = None
    """How long its windows are."""
    sample_rate_hz: Annotated[int, Field(ge=1)] | None = None
    """The rate of its input."""
    output: str | None = None
    """The output with probabilities or logits; by default the only one, or `probs`."""
    kind: Literal["probs", "logits"] = "probs"
    """What that output holds."""
    embedding: str | None = None
    """An output [windows, values] to learn from."""
    labels: str | None = None
    """A table with the columns `from` and `to` that renames classes."""
    normalise: Literal["crop", "recording", "none"] = "crop"
    """What brings a window to peak 1: itself, its recording, or nothing (`none`: the level of the
    file)."""


class SoupSpec(Spec):
    """A stage that trains nothing: the mean of the weights of an earlier stage's seeds.

    Seed s of the soup is the mean of the seeds s * n ... s * n + n - 1 of the stage `of`, fold by
    fold, with batch-norm statistics made anew.

    Source: Wortsman et al. 2022; statistics of batch norms as in Izmailov et al. 2018.
    """

    of: Name
    """The earlier stage."""
    n: Annotated[int, Field(ge=2, le=20)] = 3
    """How many of its seeds make one soup. Unit: seeds."""


class RoundsSpec(Spec):
    """When the rounds of pseudo-labels end: the stages with `pseudo` are the rounds.

    The experiment is run as it stands after each of them. The last round that gained is taken. A
    plain text is the name of the score.

    Source: birdlab.
    """

    by: Name
    """The score that a round is judged by."""
    patience: Annotated[int, Field(ge=1)] = 1
    """After so many rounds without a gain no further one is run. Unit: rounds."""
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A round counts as a gain when its score is more than this above that of the last one that
    gained. Unit: score."""


def _plain_score(raw: Any) -> Any:
    return {"by": raw} if isinstance(raw, str) else raw


Rounds = Annotated[RoundsSpec, BeforeValidator(_plain_score), Also({"type": "string"})]


def text_of(teacher: TeacherSpec | Mapping[str, Any]) -> str:
    """A teacher in words: `stage round1`, `run baseline`, `model @champion`."""
    raw = dict(teacher)
    return next(f"{kind} {name}" for kind, name in raw.items() if name is not None)
