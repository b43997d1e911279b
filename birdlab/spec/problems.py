"""Validation errors in words: file, line, dotted field, what was got, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from birdlab.errors import BirdlabError, SpecError
from birdlab.spec.base import Spec
from birdlab.spec.kinds import KindOf, kinds, nearest
from birdlab.spec.named import NamedList, item_name
from birdlab.spec.yamlfile import Document

M = TypeVar("M", bound=Spec)

_INHERITED = (("train",), ("augment",))
"""What a stage takes over from the experiment: an error there is told once."""

_MOST = 20
"""So many problems of a file are told; of the rest only how many they are."""

_VALUE_CHARS = 200
"""A longer value is cut where a problem shows it."""


def validate(cls: type[M], raw: dict[str, Any], document: Document) -> M:
    """`raw` as a `cls`; one SpecError that lists every problem with its place otherwise."""
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        problems = _problems(cls, raw, document, error)
    except PydanticCustomError as error:
        problems = [error.message()]
    except SpecError as error:
        if error.where is None:
            error.where = document.place("competition")
        raise
    head = "a spec does not hold" if len(problems) == 1 else f"{len(problems)} things do not hold"
    if len(problems) > _MOST:
        head = f"more than {_MOST} things do not hold"
    raise SpecError(f"{head}:\n" + "\n".join("  " + p for p in problems))


def _problems(
    cls: type[Spec], raw: dict[str, Any], document: Document, error: ValidationError
) -> list[str]:
    """A line for each problem; behind _MOST of them one that counts what pydantic found more."""
    lines: list[str] = []
    seen: set[tuple[tuple[Any, ...], str]] = set()
    items = error.errors()
    for looked_at, item in enumerate(items):
        if len(lines) == _MOST:
            return [*lines, f"and up to {len(items) - looked_at:,} more"]
        loc, message = tuple(item["loc"]), _message(cls, item)
        inherited = loc[2:] if loc[0:1] == ("stages",) and loc[2:3] in _INHERITED else loc
        if (inherited, message) in seen:
            continue
        seen |= {(loc, message), (inherited, message)}
        dotted = _dotted(raw, loc)
        lines.append(f"{document.place(dotted) or 'spec'}: {dotted or 'spec'}: {message}")
    return lines


def _message(cls: type[Spec], item: Any) -> str:
    loc, kind, got = item["loc"], item["type"], item["input"]
    if kind == "extra_forbidden":
        owner = _owner(cls, loc[:-1], got)
        known = sorted(owner.model_fields) if owner is not None else []
        return f"unknown field {_shown(loc[-1])}; {nearest(loc[-1], known)}"
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    if kind == "missing":
        return "is required and missing"
    if kind == "value_error" or "kind" in kind or isinstance(got, dict | list | tuple | BaseModel):
        return message
    if kind == "tuple_type":
        said = f"got {_shown(got)}; should be a list"
        return said + (f": [{got}]" if isinstance(got, str) and len(got) < _VALUE_CHARS else "")
    if kind == "string_type" and isinstance(got, int | float):
        return f'got {got!r}, which is a number; names and species codes are text: write "{got}"'
    return f"got {_shown(got)}; {message}"


def _shown(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    said = repr(value)
    return said if len(said) <= _VALUE_CHARS else f"{said[:_VALUE_CHARS]}..."


def _owner(cls: type[Spec], loc: tuple[Any, ...], _got: object) -> type[Spec] | None:
    """The class whose field list was violated: the class at `loc`, by the annotations."""
    owner: Any = cls
    family: str | None = None
    is_key = False
    for part in loc:
        if isinstance(part, int) or is_key:
            is_key = False
            continue
        field = getattr(owner, "model_fields", {}).get(part)
        if field is None:
            return None
        is_key = get_origin(field.annotation) is dict
        held = field.annotation if is_key else None
        marks = [
            m for m in (*field.metadata, *_metadata_in(held)) if isinstance(m, KindOf | NamedList)
        ]
        if marks:
            family = marks[0].family
            owner = getattr(marks[0], "cls", None) or _union_of(family)
        else:
            owner = next(_specs_in(field.annotation), None)
    return owner if isinstance(owner, type) else None


def _metadata_in(annotation: Any) -> Iterator[Any]:
    """What annotated types inside `annotation` are marked with."""
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _metadata_in(part)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The classes of specs that an annotation names, also in unions of annotated types."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from _specs_in(part)


def _union_of(family: str | None) -> type[Spec] | None:
    """A stand-in class that has the fields of every kind of a family."""
    fields = {n for k in kinds(family or "").values() for n in k.cls.model_fields}
    stand_in = type("Kinds", (Spec,), {})
    stand_in.__pydantic_fields__ = dict.fromkeys(fields)  # type: ignore[attr-defined]
    return stand_in


def _dotted(raw: Any, loc: tuple[Any, ...]) -> str:
    parts: list[str] = []
    node = raw
    for part in loc:
        if isinstance(part, int) and isinstance(node, list | tuple) and part < len(node):
            node = node[part]
            name = item_name(node)
            parts.append(name or str(part))
            if name and isinstance(node, dict) and "kind" not in node and "name" not in node:
                node = node.get(name)
        else:
            parts.append(str(part))
            node = node.get(part) if isinstance(node, dict) else None
    return ".".join(parts)


def explain(error: Exception) -> str:
    """An error as the text a command prints."""
    return str(error) if isinstance(error, BirdlabError) else f"{type(error).__name__}: {error}"
