"""The limits of fields (ranges, lengths, patterns) in the words of JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

Schema = dict[str, Any]

LIMITS: dict[type, str] = {
    Ge: "minimum",
    Gt: "exclusiveMinimum",
    Le: "maximum",
    Lt: "exclusiveMaximum",
}


def limited(schema: Schema, marks: Iterable[Any]) -> Schema:
    """A schema within the limits of the marks, which hold for those of its forms they fit."""
    limits = _limits(marks)
    if not limits:
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_limits(one, limits) for one in schema["anyOf"]]}
    return _with_limits(schema, limits)


def _limits(marks: Iterable[Any]) -> Schema:
    limits: Schema = {}
    for mark in marks:
        for kind, key in LIMITS.items():
            if isinstance(mark, kind):
                limits[key] = getattr(mark, kind.__name__.lower())
        if isinstance(mark, MinLen):
            limits["min"] = mark.min_length
        if isinstance(mark, MaxLen):
            limits["max"] = mark.max_length
        if isinstance(getattr(mark, "pattern", None), str):
            limits["pattern"] = mark.pattern
    return limits


def _with_limits(schema: Schema, limits: Schema) -> Schema:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        fits = {key: value for key, value in limits.items() if key in LIMITS.values()}
    elif kind == "string":
        fits = {f"{k}Length": v for k, v in limits.items() if k in ("min", "max")}
        fits |= {k: v for k, v in limits.items() if k == "pattern"}
    elif kind in ("array", "object"):
        end = "Items" if kind == "array" else "Properties"
        fits = {f"{k}{end}": v for k, v in limits.items() if k in ("min", "max")}
    else:
        return schema
    return {**schema, **fits}
