"""The data of an experiment: data sets by name, cleaning rules in order, folds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.spec.base import AddedLater, Name, Positive, Spec, Tuple
from birdlab.spec.kinds import KindOf, register
from birdlab.spec.named import NamedList

Texts = Annotated[Tuple[str], AddedLater(as_before=())]


class CleanSpec(Spec):
    """A cleaning rule; each subclass is one kind.

    `tables` limits it to roles (`base`, `extra`, `pretrain`) or data sets by name; empty means
    every table.
    """

    name: Name
    kind: str
    tables: Texts = ()
    main_field: ClassVar[str | None] = None


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@register("clean")
class Dedupe(CleanSpec):
    """Keep the first of the rows that agree in every column of `by`.

    `by` takes columns and the words recording_id, species and content (equal audio after
    decoding). With `against: base` rows of other tables go when they agree with a base row.
    """

    kind: Literal["dedupe"] = "dedupe"
    by: Tuple[str] = ("xc_id",)
    against: Annotated[Literal["table", "base"], AddedLater(as_before="table")] = "table"
    main_field: ClassVar[str | None] = "by"

    _by = field_validator("by", mode="before")(_one_or_many)

    @field_validator("by")
    @classmethod
    def _names_a_column(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if not by:
            raise ValueError("should name a column")
        return by


@register("clean")
class NearDuplicates(CleanSpec):
    """Keep the first of the recordings that share at least `overlap_s` of audio.

    Found by acoustic fingerprints: copies in another format, louder or quieter, or cut. Below
    2 s two songs of one bird look alike.
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    overlap_s: Annotated[float, Field(ge=2)] = 3.0
    against: Literal["table", "base"] = "table"
    main_field: ClassVar[str | None] = "overlap_s"


@register("clean")
class Exclude(CleanSpec):
    """Drop the recordings named in the `filename` column of a CSV file of the lab."""

    kind: Literal["exclude"] = "exclude"
    list: str
    main_field: ClassVar[str | None] = "list"


@register("clean")
class KeepRanges(CleanSpec):
    """Keep only the listed time ranges: a CSV file with filename, start_s, end_s.

    A recording that is not listed stays whole. Each range becomes a row of its own; all rows
    of a recording share a fold.
    """

    kind: Literal["keep_ranges"] = "keep_ranges"
    list: str
    main_field: ClassVar[str | None] = "list"


@register("clean")
class Duration(CleanSpec):
    """Keep recordings of `min_s` to `max_s`, by the table, else by the header of the file."""

    kind: Literal["duration"] = "duration"
    min_s: Annotated[float, Field(ge=0)] = 0.0
    max_s: Positive | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Duration:
        if self.max_s is None and self.min_s == 0:
            raise ValueError("give min_s or max_s; without them the rule does nothing")
        if self.max_s is not None and self.max_s < self.min_s:
            raise ValueError(f"max_s {self.max_s:g} is below min_s {self.min_s:g}")
        return self


@register("clean")
class Rating(CleanSpec):
    """Keep recordings rated `min` or better; `unrated` says what is done with rating 0 or none."""

    kind: Literal["rating"] = "rating"
    min: Annotated[float, Field(ge=0, le=5)]
    unrated: Literal["keep", "drop"] = "keep"
    main_field: ClassVar[str | None] = "min"


@register("clean")
class License(CleanSpec):
    """Keep recordings whose licence contains one of `allow` and none of `deny`, without case."""

    kind: Literal["license"] = "license"
    allow: Tuple[str] = ()
    deny: Tuple[str] = ()

    _texts = field_validator("allow", "deny", mode="before")(_one_or_many)

    @model_validator(mode="after")
    def _says_something(self) -> License:
        if not self.allow and not self.deny:
            raise ValueError("give allow or deny; without them the rule does nothing")
        return self


@register("clean")
class SampleRate(CleanSpec):
    """Keep recordings made at `min_hz` or more, by the header of the file."""

    kind: Literal["sample_rate"] = "sample_rate"
    min_hz: Annotated[int, Field(ge=1)]
    main_field: ClassVar[str | None] = "min_hz"


@register("clean")
class Species(CleanSpec):
    """Keep the species of `keep` (and of the `species` column of the CSV `list`), never `drop`."""

    kind: Literal["species"] = "species"
    keep: Tuple[str] = ()
    drop: Tuple[str] = ()
    list: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Species:
        if not self.keep and not self.drop and self.list is None:
            raise ValueError("give keep, drop or list; without them the rule does nothing")
        return self


@register("clean")
class MinRecordings(CleanSpec):
    """Keep species with at least `n` recordings in the table."""

    kind: Literal["min_recordings"] = "min_recordings"
    n: Annotated[int, Field(ge=1)]
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Cap(CleanSpec):
    """Keep at most `n` recordings of a species, chosen by `seed`."""

    kind: Literal["cap"] = "cap"
    n: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Upsample(CleanSpec):
    """Train on rare species more often: copies of their rows up to `n` rows a species.

    Copies are made after the folds, so none is ever validated on or lies in another fold.
    """

    kind: Literal["upsample"] = "upsample"
    n: Annotated[int, Field(ge=1)]
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Trim(CleanSpec):
    """Cut off silence at both ends: what is more than `top_db` below the loudest moment."""

    kind: Literal["trim"] = "trim"
    top_db: Positive = 40.0
    margin_s: Annotated[float, Field(ge=0)] = 0.2
    main_field: ClassVar[str | None] = "top_db"


class _Rare(Spec):
    """What both kinds of stratified folds do with species of fewer than `rare_below` rows.

    `leave` spreads them like others, so that some folds lack them; `train` puts them in every
    training fold and never validates on them; `halves` cuts a species' single recording in two
    that lie in different folds: a leak, which the audit lists and the score leaves apart.
    """

    n: Annotated[int, Field(ge=2, le=50)] = 5
    seed: Annotated[int, Field(ge=0)] = 42
    rare: Annotated[Literal["leave", "train", "halves"], AddedLater(as_before="leave")] = "leave"
    rare_below: Annotated[int | None, Field(ge=2), AddedLater(as_before=None)] = None
    """None: the number of folds for `train`, 2 for `halves`."""

    @model_validator(mode="after")
    def _used(self) -> _Rare:
        if self.rare == "leave" and self.rare_below is not None:
            raise ValueError("rare_below does nothing with rare: leave")
        return self


@register("folds")
class Stratified(_Rare):
    """Folds with equal shares of every species."""

    kind: Literal["stratified"] = "stratified"


@register("folds")
class StratifiedGroup(_Rare):
    """Folds with near-equal shares of every species and no recordist in two of them."""

    kind: Literal["stratified_group"] = "stratified_group"


@register("folds")
class Predefined(Spec):
    """Folds from a column of the base table: 0 to n - 1; empty or -1 is always in training."""

    kind: Literal["predefined"] = "predefined"
    column: str = "fold"
    n: Annotated[int, Field(ge=1, le=50)]


Leak = Literal["recording_id", "content", "author_species"]
"""What two tables can share: a recording's id, its waveform, a recordist's birds of a species."""


class DataSpec(Spec):
    """Which recordings are used: data sets by name, cleaning rules in order, folds.

    `base` is split into folds, `extra` joins every training fold. `soundscapes` names the data
    sets whose labelled soundscapes `birdlab lb score` uses instead of the base's own.
    `accept_leaks` names what a pretraining table may share with validation rows; `teacher` lets
    models teach that were trained on validation rows themselves.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"soundscapes", "accept_leaks"})

    base: Name
    extra: Tuple[Name] = ()
    clean: Annotated[tuple[CleanSpec, ...], NamedList("clean")] = ()
    folds: Annotated[Spec, KindOf("folds", "stratified")] = Stratified()
    on_bad_file: Literal["fail", "skip"] = "fail"
    soundscapes: Tuple[Name] = ()
    accept_leaks: Tuple[Leak | Literal["teacher"]] = ()

    @model_validator(mode="after")
    def _each_once(self) -> DataSpec:
        names = [self.base, *self.extra]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the data set {', '.join(twice)} is named twice in base and extra")
        return self
