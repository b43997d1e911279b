"""Sources: how the lab file describes a data set, and so how its folder is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from birdlab.spec.base import Positive, Spec
from birdlab.spec.kinds import KindOf, register


class SourceSpec(Spec):
    """A data set: the folder it lies in and, by its kind, how to read that.

    `path` is relative to the lab file. `labels` is a CSV file (from, to) that has to name every
    label of the data set (an empty `to` drops the rows); `synonyms` is one that names only those
    that change. Both lie in the lab.
    """

    kind: str
    path: str
    labels: str | None = None
    synonyms: str | None = None


@register("source")
class AutoSource(SourceSpec):
    """What the folder looks like: a competition, a Xeno-canto download, or just audio."""

    kind: Literal["auto"] = "auto"


@register("source")
class BirdclefSource(SourceSpec):
    """A competition folder of 2020 to 2026."""

    kind: Literal["birdclef"] = "birdclef"


@register("source")
class TableSource(SourceSpec):
    """Any CSV or Parquet table: `columns` says which of its columns is which of ours.

    `file` and `audio` (the folder that file names are relative to) are relative to `path`.
    """

    kind: Literal["table"] = "table"
    file: str
    audio: str = "."
    columns: dict[str, str] = Field(default_factory=dict)


@register("source")
class XenoCantoSource(SourceSpec):
    """What `birdlab data xenocanto` wrote."""

    kind: Literal["xenocanto"] = "xenocanto"


@register("source")
class SoundscapesSource(SourceSpec):
    """Long recordings with labels in time: an annotation CSV, or Raven selection tables.

    `annotations` is a CSV file, or a folder of Raven tables, relative to `path`; `columns` maps
    filename, start_s, end_s, label where they have names that birdlab does not know. Files that
    it names are `public` or `private`, a leaderboard's, or `train`: those may judge models before
    any leaderboard does (`evaluate.soundscapes`).
    """

    kind: Literal["soundscapes"] = "soundscapes"
    annotations: str
    audio: str = "."
    columns: dict[str, str] = Field(default_factory=dict)
    window_s: Positive = 5.0
    split: Literal["train", "public", "private", "unlabelled"] = "public"


@register("source")
class BackgroundSource(SourceSpec):
    """Background noise: parts of recordings that a CSV of the lab names (filename, start_s, end_s).

    `birdlab data nocall` writes such tables.
    """

    kind: Literal["background"] = "background"
    table: str


@register("source")
class DemoSource(SourceSpec):
    """The built-in competition, or a `part` that goes with it, generated on first use."""

    kind: Literal["demo"] = "demo"
    seed: Annotated[int, Field(ge=0)] = 0
    part: Literal[
        "competition", "environment", "soundscapes", "unlabelled", "phones", "mislabelled"
    ] = "competition"


def _path_alone(value: Any) -> Any:
    return {"kind": "auto", "path": value} if isinstance(value, str) else value


Source = Annotated[Spec, KindOf("source", "auto"), BeforeValidator(_path_alone)]
"""A data set in the lab file: a path, or a mapping with `path` and the fields of its kind."""
