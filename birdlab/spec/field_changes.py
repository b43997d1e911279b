"""The fields in which two parts of specs differ, as plain data, by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OFF = "off"
"""The value of what is not there."""


@dataclass(frozen=True)
class Change:
    """A field by dotted name, its value before and after; `off` for what is not there."""

    field: str
    before: Any
    after: Any


def compare_fields(dotted: str, one: Any, two: Any) -> list[Change]:
    """The fields that differ below `dotted`; parts of another kind are compared whole."""
    if one == two:
        return []
    lists = [value for value in (one, two) if isinstance(value, list)]
    if dotted and any(lists) and all(_is_item(item) for items in lists for item in items):
        one, two = (_by_kind(value) for value in (one, two))
        shared = [key for key in one if key in two]
        if shared != [key for key in two if key in one]:
            return [Change(f"{dotted}.order", list(one), list(two)), *_inner(dotted, one, two)]
        return _inner(dotted, one, two)
    both = isinstance(one, Mapping) and isinstance(two, Mapping)
    if both and one.get("kind") == two.get("kind"):
        return _inner(dotted, one, two)
    return [Change(dotted, one, two)]


def _inner(dotted: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Change]:
    keys = [*one, *(key for key in two if key not in one)]
    found = []
    for key in keys:
        inner = f"{dotted}.{key}" if dotted else str(key)
        found += compare_fields(inner, one.get(key, OFF), two.get(key, OFF))
    return found


def _is_item(item: Any) -> bool:
    return isinstance(item, Mapping) and "name" in item


def _by_kind(value: Any) -> dict[str, Any]:
    """A list of named items by kind; the second of a kind is `kind.2`. Nothing for `off`."""
    items: dict[str, Any] = {}
    for item in value if isinstance(value, list) else ():
        kind = str(item.get("kind", item["name"]))
        n = sum(key == kind or key.startswith(f"{kind}.") for key in items)
        body = {k: v for k, v in item.items() if k not in ("name", "kind")}
        items[f"{kind}.{n + 1}" if n else kind] = body
    return items
