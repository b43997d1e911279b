"""Ordered lists whose items are addressed by name: augmentations, stages, cleaning rules.

In YAML an item is `name: {fields}`, `name: value` (the kind's main field) or a bare `name`;
`kind` is the name unless it is given. In Python it is the parsed spec, which carries both.
"""

from __future__ import annotations

from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from pydantic_core import ValidationError as CoreValidationError

from birdlab.spec.base import Spec
from birdlab.spec.kinds import KindOf, kinds


def item_name(item: Any) -> str | None:
    """The name of a raw list item, or None when it has none."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        if isinstance(item.get("name"), str):
            return str(item["name"])
        if isinstance(item.get("kind"), str):
            return str(item["kind"])
        if len(item) == 1:
            key = next(iter(item))
            return key if isinstance(key, str) else None
    return None


def unfold(item: Any, family: str | None) -> Any:
    """A raw list item in its long form: a mapping with `name`, and `kind` where there are kinds."""
    if isinstance(item, Spec):
        return item
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict):
        return item
    if "kind" in item or "name" in item:
        long = dict(item)
        long.setdefault("name", long.get("kind"))
    elif len(item) == 1:
        name, body = next(iter(item.items()))
        if body is None:
            body = {}
        if not isinstance(body, dict):
            kind = kinds(family).get(str(name)) if family else None
            main = getattr(kind.cls, "main_field", None) if kind else None
            if main is None:
                return item
            body = {main: body}
        long = {"name": name, **body}
    else:
        return item
    if family is not None:
        long.setdefault("kind", long["name"])
    return long


class NamedList:
    """Annotation of a tuple of named items: kinds of a family, or one spec class."""

    def __init__(self, family: str | None = None, cls: type[Spec] | None = None) -> None:
        self.family, self.cls = family, cls

    def parse(self, value: Any) -> tuple[Spec, ...]:
        """The parsed items in order; every error of every item, or names that occur twice."""
        if not isinstance(value, list | tuple):
            raise PydanticCustomError("named_list", "should be a list of `- name: {fields}`")
        items: list[Spec] = []
        errors: list[InitErrorDetails] = []
        for index, raw in enumerate(value):
            try:
                items.append(self._parse_item(unfold(raw, self.family)))
            except CoreValidationError as error:
                errors += [
                    InitErrorDetails(
                        type=PydanticCustomError(
                            e["type"], e["msg"].replace("{", "{{").replace("}", "}}")
                        ),
                        loc=(index, *e["loc"]),
                        input=e["input"],
                    )
                    for e in error.errors()
                ]
            except PydanticCustomError as error:
                errors.append(InitErrorDetails(type=error, loc=(index,), input=raw))
        if errors:
            raise CoreValidationError.from_exception_data("list", errors)
        names = [getattr(item, "name", "") for item in items]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise PydanticCustomError(
                "named_twice",
                "names {names} more than once; write `- another_name: {kind: ...}`",
                {"names": ", ".join(twice)},
            )
        return tuple(items)

    def _parse_item(self, raw: Any) -> Spec:
        if self.family is not None:
            item = KindOf(self.family).parse(raw)
            assert isinstance(item, Spec)
            return item
        assert self.cls is not None
        return self.cls.model_validate(raw)

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda items: [item.model_dump(mode="json") for item in items]
            ),
        )
