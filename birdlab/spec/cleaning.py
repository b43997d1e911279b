"""The rules that clean tables of recordings: each what stays, and by which limits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.spec.base import AddedLater, Also, Name, Positive, Spec, Tuple
from birdlab.spec.kinds import register

Texts = Annotated[Tuple[str], AddedLater(as_before=())]


class CleanSpec(Spec):
    """A cleaning rule; each subclass is one kind."""

    name: Name
    """What the rule is called in this list; its kind unless said."""
    kind: str
    """Which rule it is; its name unless said."""
    tables: Texts = ()
    """Limits the rule to roles (`base`, `extra`, `pretrain`) or data sets by name; empty means
    every table."""
    main_field: ClassVar[str | None] = None


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@register("clean")
class Dedupe(CleanSpec):
    """Keep the first of the rows that agree in every column of `by`.

    Source: first place of BirdCLEF 2023, who compared recording ids, and recordists with species.
    """

    kind: Literal["dedupe"] = "dedupe"
    by: Annotated[Tuple[str], Also({"type": "string"})] = ("xc_id",)
    """Columns, or the words recording_id, species and content (equal audio after decoding)."""
    against: Annotated[Literal["table", "base"], AddedLater(as_before="table")] = "table"
    """`base`: rows of other tables go when they agree with a row of the base table. Source:
    birdlab."""
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

    Found by acoustic fingerprints: copies in another format, louder or quieter, or cut.

    Source: birdlab.
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    overlap_s: Annotated[float, Field(ge=2)] = 3.0
    """How much two recordings share at least. Below 2 s two songs of one bird look alike."""
    against: Literal["table", "base"] = "table"
    """`base`: recordings of other tables go when they share audio with one of the base table."""
    main_field: ClassVar[str | None] = "overlap_s"


@register("clean")
class Exclude(CleanSpec):
    """Drop the recordings named in the `filename` column of a CSV file of the lab.

    Source: birdlab.
    """

    kind: Literal["exclude"] = "exclude"
    list: str
    """The CSV file, relative to the lab."""
    main_field: ClassVar[str | None] = "list"


@register("clean")
class KeepRanges(CleanSpec):
    """Keep only the listed time ranges: a CSV file with filename, start_s, end_s.

    A recording that is not listed stays whole. Each range becomes a row of its own; all rows of a
    recording share a fold.

    Source: birdlab.
    """

    kind: Literal["keep_ranges"] = "keep_ranges"
    list: str
    """The CSV file, relative to the lab."""
    main_field: ClassVar[str | None] = "list"


@register("clean")
class Duration(CleanSpec):
    """Keep recordings of `min_s` to `max_s`, by the table, else by the header of the file.

    Source: birdlab.
    """

    kind: Literal["duration"] = "duration"
    min_s: Annotated[float, Field(ge=0)] = 0.0
    """The shortest that stays."""
    max_s: Positive | None = None
    """The longest that stays; without it there is no limit."""

    @model_validator(mode="after")
    def _in_order(self) -> Duration:
        if self.max_s is None and self.min_s == 0:
            raise ValueError("give min_s or max_s; without them the rule does nothing")
        if self.max_s is not None and self.max_s < self.min_s:
            raise ValueError(f"max_s {self.max_s:g} is below min_s {self.min_s:g}")
        return self


@register("clean")
class Rating(CleanSpec):
    """Keep recordings rated `min` or better.

    Source: birdlab.
    """

    kind: Literal["rating"] = "rating"
    min: Annotated[float, Field(ge=0, le=5)]
    """The lowest rating that stays. Unit: stars."""
    unrated: Literal["keep", "drop"] = "keep"
    """What is done with recordings rated 0 or not at all."""
    main_field: ClassVar[str | None] = "min"


@register("clean")
class License(CleanSpec):
    """Keep recordings whose licence contains one of `allow` and none of `deny`, without case.

    Source: birdlab.
    """

    kind: Literal["license"] = "license"
    allow: Annotated[Tuple[str], Also({"type": "string"})] = ()
    """Parts of licences of which one is needed; empty allows all."""
    deny: Annotated[Tuple[str], Also({"type": "string"})] = ()
    """Parts of licences that are refused."""

    _texts = field_validator("allow", "deny", mode="before")(_one_or_many)

    @model_validator(mode="after")
    def _says_something(self) -> License:
        if not self.allow and not self.deny:
            raise ValueError("give allow or deny; without them the rule does nothing")
        return self


@register("clean")
class SampleRate(CleanSpec):
    """Keep recordings made at `min_hz` or more, by the header of the file.

    Source: birdlab.
    """

    kind: Literal["sample_rate"] = "sample_rate"
    min_hz: Annotated[int, Field(ge=1)]
    """The lowest sample rate that stays."""
    main_field: ClassVar[str | None] = "min_hz"


@register("clean")
class Species(CleanSpec):
    """Keep the species of `keep` (and of the `species` column of the CSV `list`), never `drop`.

    Source: birdlab.
    """

    kind: Literal["species"] = "species"
    keep: Tuple[str] = ()
    """Codes of species that stay."""
    drop: Tuple[str] = ()
    """Codes of species that go."""
    list: str | None = None
    """A CSV file of the lab with more species that stay."""

    @model_validator(mode="after")
    def _says_something(self) -> Species:
        if not self.keep and not self.drop and self.list is None:
            raise ValueError("give keep, drop or list; without them the rule does nothing")
        return self


@register("clean")
class MinRecordings(CleanSpec):
    """Keep species with at least `n` recordings in the table.

    Source: first place of BirdCLEF 2023, who pretrained on species with more than 10.
    """

    kind: Literal["min_recordings"] = "min_recordings"
    n: Annotated[int, Field(ge=1)]
    """The fewest recordings of a species that stays. Unit: recordings."""
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Cap(CleanSpec):
    """Keep at most `n` recordings of a species, chosen by `seed`.

    Source: birdlab.
    """

    kind: Literal["cap"] = "cap"
    n: Annotated[int, Field(ge=1)]
    """The most recordings of a species. Unit: recordings."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which ones are chosen. Unit: seed."""
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Upsample(CleanSpec):
    """Train on rare species more often: copies of their rows up to `n` rows a species.

    Copies are made after the folds, so none is ever validated on or lies in another fold.

    Source: birdlab.
    """

    kind: Literal["upsample"] = "upsample"
    n: Annotated[int, Field(ge=1)]
    """The fewest rows of a species in training. Unit: rows."""
    main_field: ClassVar[str | None] = "n"


@register("clean")
class Trim(CleanSpec):
    """Cut off silence at both ends: what is more than `top_db` below the loudest moment.

    Source: birdlab.
    """

    kind: Literal["trim"] = "trim"
    top_db: Positive = 40.0
    """How far below the loudest moment silence begins."""
    margin_s: Annotated[float, Field(ge=0)] = 0.2
    """How much of the silence stays at either end."""
    main_field: ClassVar[str | None] = "top_db"
