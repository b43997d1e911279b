"""A recorded experiment in a few lines, as the methods section of a paper would say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birdlab.recorded import is_foreign, reading_spec

Dump = Mapping[str, Any]
_PART_OF_A_LINE = frozenset({"kind", "name"})


def recipe_lines(record: Dump) -> dict[str, str]:
    """What is said of each part of the spec of a record, in the order of a recipe.

    It is read also where its kinds are gone or have changed since. Settings that are off are left
    out. Nothing of a foreign run; ResolveError where the spec is not as birdlab writes it.
    """
    if is_foreign(record):
        return {}
    with reading_spec(record):
        return _recipe(record["spec"])


def _recipe(spec: Dump) -> dict[str, str]:
    train, data = spec["train"], spec["data"]
    length, *_ = (f"{n} {unit}" for unit, n in train["length"].items() if n is not None)
    stages = spec.get("stages", ())
    lines = {
        "competition": f"{spec['competition']['name']}, windows of "
        f"{spec['competition']['window_s']:g} s",
        "data": _join([data["base"], *data.get("extra", ())], " and "),
        "cleaning": _join([describe_part(rule) for rule in data.get("clean", ())]),
        "folds": describe_part(data["folds"]),
        "network": _network(spec["model"]),
        "front-end": describe_part(spec["model"]["frontend"]),
        "head": describe_part(spec["model"]["head"]),
        "training": f"{length} of batches of {train['batch']}, crops of {train['window_s']:g} s, "
        f"{train['precision']}",
        "optimiser": describe_part(train["optimizer"]),
        "schedule": describe_part(train["schedule"]),
        "loss": describe_part(train["loss"]),
        "sampler": describe_part(train["sampler"]),
        "augmentations": _join([describe_part(a) for a in spec.get("augment", ())]) or "none",
        "stages": _join([_stage(stage) for stage in stages]) if len(stages) > 1 else "",
        "output": describe_part(spec["output"]),
    }
    return {name: text for name, text in lines.items() if text}


def describe_part(part: Any) -> str:
    """A part of a spec in one line: its kind or name, and its settings in brackets."""
    if not isinstance(part, Mapping):
        return str(part)
    name = str(part.get("name") or part.get("kind") or "")
    said = [
        f"{key} {_value(value)}"
        for key, value in part.items()
        if key not in _PART_OF_A_LINE and value not in (None, [], {}, False)
    ]
    inside = ", ".join(said)
    return f"{name} ({inside})" if name and inside else name or inside


def _network(model: Dump) -> str:
    given = {k: v for k, v in model.items() if k not in ("backbone", "frontend", "head")}
    backbone = model["backbone"]
    named = backbone if isinstance(backbone, str) else describe_part(backbone)
    return f"{named} ({describe_part(given)})"


def _stage(stage: Dump) -> str:
    """A stage by its name, with the data it trains on and what it starts from."""
    said = [
        *([f"on {stage['data']}"] if stage.get("data") else []),
        *([f"from {stage['start']}"] if stage.get("start") else []),
    ]
    return f"{stage['name']} ({', '.join(said)})" if said else str(stage["name"])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return describe_part(value) if isinstance(value, Mapping) else str(value)


def _join(texts: list[str], by: str = "; ") -> str:
    return by.join(text for text in texts if text)
