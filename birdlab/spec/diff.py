"""What differs between experiments, by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.named import item_name


def flatten(spec: ExperimentSpec) -> dict[str, Any]:
    """Every field of a spec by dotted name; of a stage only what it does not inherit."""
    return flatten_dump(spec.model_dump(mode="json"))


def flatten_dump(dump: Mapping[str, Any]) -> dict[str, Any]:
    """`flatten` of a spec as a record stores it, whose kinds need not be known here."""
    flat: dict[str, Any] = {}
    stages = dump["stages"]
    _flatten("", {key: value for key, value in dump.items() if key != "stages"}, flat)
    for stage in stages:
        inner: dict[str, Any] = {}
        _flatten(f"stages.{stage['name']}", stage, inner)
        prefix = f"stages.{stage['name']}."
        flat |= {k: v for k, v in inner.items() if flat.get(k.removeprefix(prefix), ...) != v}
    return flat


def diff_specs(a: ExperimentSpec, b: ExperimentSpec) -> list[tuple[str, Any, Any]]:
    """(field, value in a, value in b) for every field that differs; absent fields are None."""
    return diff_dumps(a.model_dump(mode="json"), b.model_dump(mode="json"))


def diff_dumps(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """`diff_specs` of two specs as records store them."""
    one, two = flatten_dump(a), flatten_dump(b)
    keys = [*one, *(key for key in two if key not in one)]
    return [(k, one.get(k), two.get(k)) for k in keys if one.get(k) != two.get(k)]


NO_CHANGE = "base"
"""The title of an empty delta."""


def title_of(delta: Mapping[str, Any]) -> str:
    """A delta as a short title: `lr=0.001`, `window_s=3`; `base` for no change."""
    return ", ".join(f"{_short(key)}={_text(value)}" for key, value in delta.items()) or NO_CHANGE


def _short(dotted: str) -> str:
    parts = dotted.split(".")
    return ".".join(parts[1:] or parts) if parts[0] in ("augment", "stages") else parts[-1]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(item_name(v) or _text(v) for v in value) + "]"
    return str(value)


def _flatten(dotted: str, value: Any, out: dict[str, Any]) -> None:
    named = isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value)
    if isinstance(value, list) and value and named:
        value = {item["name"]: item for item in value}
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if key != "name" or not dotted:
                _flatten(f"{dotted}.{key}" if dotted else key, inner, out)
    else:
        out[dotted] = value
