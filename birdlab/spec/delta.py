"""Changes to raw specs: base + delta, and single fields by dotted name.

Raw specs are the plain data of YAML files. Mappings merge; a mapping that names another
`kind` replaces the one below it; a list replaces a list; a mapping over a list of named
items changes these by name, and `off` takes an item out. A stage that started from a
stage that is taken out, or learned from it, starts where that one started and has its teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from birdlab.errors import SpecError
from birdlab.spec.kinds import nearest
from birdlab.spec.named import item_name

OFF = "off"
_EXCLUSIVE = {"length"}
"""Mappings with exactly one key: a change replaces them whole."""
_UNSAID: dict[str, Any] = {"stages": [{"train": {}}], "augment": [], "data.clean": []}
"""Lists that are there although nobody wrote them; the one stage is called `train`."""


def merge(raw: dict[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with `delta` laid over it; neither is changed."""
    merged = _merge_any(raw, delta, "")
    assert isinstance(merged, dict)
    return merged


def set_fields(raw: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with each dotted field of `changes` set; neither is changed.

    Raises SpecError when a dotted name leads through something that is no mapping, or
    into a named item that does not exist.
    """
    out = copy.deepcopy(raw)
    for dotted, value in changes.items():
        _set(out, dotted, copy.deepcopy(value))
    return out


def get_field(raw: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted field in raw data; None where there is no such field."""
    node: Any = raw
    for part in dotted.split("."):
        if isinstance(node, list):
            index = _find(node, part)
            node = None if index is None else _body(node[index], part)
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _merge_any(old: Any, new: Any, key: str) -> Any:
    if isinstance(old, list) and isinstance(new, Mapping):
        items = copy.deepcopy(old)
        for name, change in new.items():
            items = _merge_item(items, name, change, key)
        return items
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return copy.deepcopy(new)
    if key in _EXCLUSIVE or ("kind" in new and new["kind"] != old.get("kind", new["kind"])):
        return copy.deepcopy(dict(new))
    out = copy.deepcopy(dict(old))
    for inner, value in new.items():
        out[inner] = _merge_any(out[inner], value, inner) if inner in out else copy.deepcopy(value)
    return out


def _merge_item(items: list[Any], name: str, change: Any, key: str) -> list[Any]:
    index = _find(items, name)
    if change == OFF:
        if index is None:
            raise SpecError(f"{key}.{name} is off already", expected=_names(items, name))
        return _without(items, index)
    if index is None:
        return [*items, {name: change}]
    body = _merge_any(_body(items[index], name), change, name)
    return [*items[:index], {name: body}, *items[index + 1 :]]


def _set(raw: dict[str, Any], dotted: str, value: Any) -> None:
    node: Any = raw
    parts = dotted.split(".")
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            index = _find(node, part)
            if last:
                node[:] = _merge_item(node, part, value, ".".join(parts[:depth]))
                return
            if index is None:
                raise SpecError(
                    f"{dotted} names an item that is not in the list",
                    where=".".join(parts[:depth]),
                    got=part,
                    expected=_names(node, part),
                )
            node[index] = {part: _body(node[index], part)}
            node = node[index][part]
        elif isinstance(node, dict):
            if part in _EXCLUSIVE and not last:
                node[part] = {}
            if last:
                node[part] = value
                return
            if isinstance(node.get(part), str):
                node[part] = {"kind": node[part]}
            node = node.setdefault(part, _unsaid(parts[: depth + 1]))
        else:
            raise SpecError(
                f"{dotted} leads through a value that has no fields",
                where=".".join(parts[:depth]),
                got=node,
                expected="a dotted name of a field, such as train.optimizer.lr",
            )


def _unsaid(parts: list[str]) -> Any:
    return copy.deepcopy(_UNSAID.get(".".join(parts), {}))


def _find(items: list[Any], name: str) -> int | None:
    return next((i for i, item in enumerate(items) if item_name(item) == name), None)


def _names(items: list[Any], name: str) -> str:
    return nearest(name, [n for n in map(item_name, items) if n])


def _body(item: Any, name: str) -> Any:
    if isinstance(item, str):
        return {}
    if "kind" in item or "name" in item:
        return {k: v for k, v in item.items() if k != "name"}
    body = item[name]
    return {} if body is None else body


def _without(items: list[Any], index: int) -> list[Any]:
    """The list without one item; stages that went back to it go back to where it did."""
    name = item_name(items[index])
    body = _body(items[index], name or "")
    kept: list[Any] = []
    for item in items[:index] + items[index + 1 :]:
        own = item_name(item)
        inner = None if own is None else _body(item, own)
        if isinstance(inner, dict) and isinstance(body, dict) and name is not None:
            handed = _handed_on(inner, name, body)
            item = item if handed == inner else {own: handed}
        kept.append(item)
    return kept


def _handed_on(inner: dict[str, Any], name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A stage that started from the stage `name`, or learned from it, without that one."""
    out = dict(inner)
    if out.get("start") == name:
        del out["start"]
        if body.get("start") is not None:
            out["start"] = body["start"]
    for kind in ("pseudo", "distill"):
        mine, theirs = out.get(kind), body.get(kind)
        if not isinstance(mine, dict) or not isinstance(theirs, dict):
            continue
        if mine.get("teacher") in (name, {"stage": name}) and "teacher" in theirs:
            out[kind] = {**mine, "teacher": theirs["teacher"]}
    return out
