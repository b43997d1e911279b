"""What holds of stages that are soups: where their recipe comes from, what they may average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from birdlab.spec.model import ModelSpec
from birdlab.spec.parts import StageSpec
from birdlab.spec.teaching import SoupSpec

TAKEN = ("data", "train", "augment")
"""What a soup has from the stage that it averages: clips like those make its batch norms."""
OWN = {"start": None, "transfer": "all", "seeds": "per_seed", "pseudo": None, "distill": None}
"""What says nothing of a mean of weights, and so stays as it is where nobody sets it."""


def inherit_recipe(stage: Mapping[str, Any], before: Sequence[Any]) -> dict[str, Any]:
    """A raw stage in its long form, if it is a soup, with what it takes over from its `of`.

    `before` are the stages before it, with their complete recipes. What the stage says itself
    stays, for `check_soups` to compare. A soup of no earlier stage, and any other stage, comes
    as it is.
    """
    soup = stage.get("soup")
    of = soup.of if isinstance(soup, SoupSpec) else _read(soup, "of")
    source = next((s for s in before if _read(s, "name") == of), None)
    if of is None or source is None:
        return dict(stage)
    taken = {key: _read(source, key) for key in TAKEN}
    return {**{key: value for key, value in taken.items() if value is not None}, **stage}


def _read(raw: Any, key: str) -> Any:
    return raw.get(key) if isinstance(raw, Mapping) else getattr(raw, key, None)


def check_soups(stages: Sequence[StageSpec], model: ModelSpec) -> None:
    """ValueError for a soup of what cannot be averaged, or with a recipe of its own."""
    for i, stage in enumerate(stages):
        if stage.soup is None:
            continue
        earlier = [s for s in stages[:i] if s.soup is None]
        source = next((s for s in earlier if s.name == stage.soup.of), None)
        if source is None:
            raise ValueError(
                f"stage {stage.name!r} is a soup of {stage.soup.of!r}, which is not an earlier "
                f"stage that is trained; these are: {', '.join(s.name for s in earlier) or 'none'}"
            )
        _check_fields(stage, source)
        _check_sources(stage, source, stages, model)


def _check_fields(stage: StageSpec, source: StageSpec) -> None:
    wanted = OWN | {key: getattr(source, key) for key in TAKEN}
    said = [key for key, value in wanted.items() if getattr(stage, key) != value]
    if said:
        raise ValueError(
            f"stage {stage.name!r} is a soup, trains nothing, and takes data, train and augment "
            f"from {source.name!r}; leave out its {', '.join(said)}"
        )


def _check_sources(
    stage: StageSpec, source: StageSpec, stages: Sequence[StageSpec], model: ModelSpec
) -> None:
    """The sources are several, and go back to the same weights."""
    if source.seeds == "shared":
        raise ValueError(
            f"stage {stage.name!r} is a soup of seeds of {source.name!r}, which is trained once "
            "for all seeds (`seeds: shared`)"
        )
    named = {s.name: s for s in stages}
    first = source
    while first.start in named:
        first = named[first.start]
        if first.seeds == "shared":
            return
        if first.soup is not None:
            first = named[first.soup.of]
    random = not model.pretrained and model.weights is None and first.start != "imagenet"
    if random or first.start == "none":
        raise ValueError(
            f"stage {stage.name!r} averages seeds of {source.name!r} that go back to different "
            "random weights, and the mean of such networks is none; let them start from the same: "
            "`seeds: shared` in a stage before, model.pretrained or model.weights"
        )
