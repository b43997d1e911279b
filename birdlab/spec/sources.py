"""Sources: how the lab file describes a data set, and so how its folder is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from birdlab.spec.base import Also, Positive, Spec
from birdlab.spec.kinds import KindOf, register


class SourceSpec(Spec):
    """A data set: the folder it lies in and, by its kind, how to read that.

    Source: birdlab.
    """

    kind: str
    """How the folder is read; `auto` unless said."""
    path: str
    """The folder, relative to the lab file."""
    labels: str | None = None
    """A CSV file of the lab (from, to) that has to name every label of the data set; an empty `to`
    drops the rows."""
    synonyms: str | None = None
    """A CSV file of the lab (from, to) that names only the labels that change."""


@register("source")
class AutoSource(SourceSpec):
    """What the folder looks like: a competition, a Xeno-canto download, or just audio."""

    kind: Literal["auto"] = "auto"


@register("source")
class BirdclefSource(SourceSpec):
    """A competition folder of 2020 to 2026.

    Source: the folders of the competitions.
    """

    kind: Literal["birdclef"] = "birdclef"


@register("source")
class TableSource(SourceSpec):
    """Any CSV or Parquet table."""

    kind: Literal["table"] = "table"
    file: str
    """The table, relative to `path`."""
    audio: str = "."
    """The folder that file names are relative to, relative to `path`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which of its columns is which of ours."""


@register("source")
class XenoCantoSource(SourceSpec):
    """What `birdlab data xenocanto` wrote."""

    kind: Literal["xenocanto"] = "xenocanto"


@register("source")
class SoundscapesSource(SourceSpec):
    """Long recordings with labels in time: an annotation CSV, or Raven selection tables."""

    kind: Literal["soundscapes"] = "soundscapes"
    annotations: str
    """A CSV file, or a folder of Raven tables, relative to `path`."""
    audio: str = "."
    """The folder that file names are relative to, relative to `path`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which columns are filename, start_s, end_s, label, where they have names that birdlab does
    not know."""
    window_s: Positive = 5.0
    """How long the windows are that are labelled."""
    split: Literal["train", "public", "private", "unlabelled"] = "public"
    """What the files are: those of a `public` or `private` leaderboard, or `train`: these may judge
    models before any leaderboard does (`evaluate.soundscapes`)."""


@register("source")
class BackgroundSource(SourceSpec):
    """Background noise: parts of recordings that a CSV of the lab names (filename, start_s, end_s).

    `birdlab data nocall` writes such tables.
    """

    kind: Literal["background"] = "background"
    table: str
    """The CSV file, relative to the lab."""


@register("source")
class DemoSource(SourceSpec):
    """The built-in competition, or a `part` that goes with it, generated on first use."""

    kind: Literal["demo"] = "demo"
    seed: Annotated[int, Field(ge=0)] = 0
    """Of all that is generated. Unit: seed."""
    part: Literal[
        "competition", "environment", "soundscapes", "unlabelled", "phones", "mislabelled"
    ] = "competition"
    """What is generated."""


def _path_alone(value: Any) -> Any:
    return {"kind": "auto", "path": value} if isinstance(value, str) else value


Source = Annotated[
    Spec, KindOf("source", "auto"), BeforeValidator(_path_alone), Also({"type": "string"})
]
"""A data set in the lab file: a path, or a mapping with `path` and the fields of its kind."""
