"""JSON Schema of specs, built from their models: what the YAML loader takes, with descriptions.

A model has two schemas: the whole one, and that of a part, which is what a file says that stands on
a `base`, and what a stage says of the recipe that it inherits. Nothing is required of a part. Where
the loader takes more than a schema can say the schema lets it pass; it never refuses what loads.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined, to_jsonable_python

from birdlab.spec.base import Also, Spec
from birdlab.spec.competition import CompetitionSpec
from birdlab.spec.kinds import Kind, KindOf, kinds
from birdlab.spec.meanings import OWN, class_meaning, meaning_of
from birdlab.spec.named import NamedList
from birdlab.spec.parts import StageSpec
from birdlab.spec.schema_limits import Schema, limited

DRAFT = "https://json-schema.org/draft/2020-12/schema"
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
ALTERNATIVES = {
    "Length": ("epochs", "steps", "clips"),
    "TeacherSpec": ("stage", "run", "model"),
}
"""Models of which exactly one field is given."""


class SchemaBuilder:
    """Makes schemas of models that share their definitions (`defs`, by name).

    known: the kinds of a family by name; all that are registered unless said otherwise.
    """

    def __init__(self, known: Callable[[str], dict[str, Kind]] = kinds) -> None:
        self._kinds = known
        self.defs: dict[str, Schema] = {}

    def model(self, cls: type[Spec], *, part: bool = False) -> Schema:
        """A reference to the definition of a model, or of a part of it."""
        name = _def_name(cls) + (".part" if part else "")
        return self._define(name, lambda: self._object(cls, part))

    def field(self, cls: type[Spec], name: str, *, part: bool = False) -> Schema:
        """The schema of a field with its meaning, unit, default and source as its description."""
        info = cls.model_fields[name]
        schema = self.annotated(info.annotation, info.metadata, part=part)
        description = describe_field(cls, name)
        shown: Schema = {"description": description} if description else {}
        if not info.is_required() and info.default is not PydanticUndefined:
            shown["default"] = to_jsonable_python(info.default)
        return {**schema, **shown}

    def annotated(self, annotation: Any, marks: Iterable[Any], *, part: bool = False) -> Schema:
        """The schema of a type with what is noted on it: limits, kinds, short forms."""
        marks = tuple(marks)
        for mark in marks:
            if isinstance(mark, KindOf):
                return _beside(self.kind(mark, part=part), marks)
            if isinstance(mark, NamedList):
                return _beside(self.named_list(mark, part=part), marks)
        return _beside(limited(self._type(annotation, part), marks), marks)

    def kind(self, mark: KindOf, *, part: bool = False) -> Schema:
        """What a field takes that holds a kind: its name, or a mapping with `kind`."""
        names: Schema = {"type": "string"}
        if not mark.text:
            names["enum"] = list(self._kinds(mark.family))
        return {"anyOf": [names, self.any_kind(mark.family, part=part, default=mark.default)]}

    def any_kind(self, family: str, *, part: bool = False, default: str | None = None) -> Schema:
        """A mapping with the fields of one kind of a family; without `kind` of the default one."""
        name = f"{family}{'.part' if part else ''}{f'.or-{default}' if default else ''}"
        return self._define(name, lambda: self._any_kind(family, part, default))

    def _any_kind(self, family: str, part: bool, default: str | None) -> Schema:
        said, unsaid = [], []
        for kind in self._kinds(family).values():
            one = self.model(kind.cls, part=part)
            said.append(_when("kind", kind.name, one))
            if part or kind.name == default:
                unsaid.append(one)
        known: Schema = {"kind": {"enum": list(self._kinds(family))}}
        return {
            "type": "object",
            "if": {"required": ["kind"]},
            "then": {"properties": known, "allOf": said},
            "else": _either(unsaid) if unsaid else {"required": ["kind"]},
        }

    def named_list(self, mark: NamedList, *, part: bool = False) -> Schema:
        """A list of named items; in a part also a mapping of changes to items by name."""
        whole = {"type": "array", "items": self.item(mark)}
        if not part:
            return whole
        return {"anyOf": [whole, self.bodies(mark, part=True)]}

    def item(self, mark: NamedList) -> Schema:
        """An item of a named list: a name, `name: body`, or all fields with `name` or `kind`."""
        return self._define(f"{_list_name(mark)}.item", lambda: self._item(mark))

    def _item(self, mark: NamedList) -> Schema:
        named: Schema = {"type": "string"}
        if mark.family is not None:
            named |= {"enum": list(self._kinds(mark.family))}
        long: Schema = {
            "type": "object",
            "anyOf": [{"required": ["kind"]}, {"required": ["name"]}],
        }
        if mark.cls is not None:
            long |= self.model(mark.cls)
        else:
            assert mark.family is not None
            long = {
                "type": "object",
                "if": {"required": ["kind"]},
                "then": self.any_kind(mark.family),
                "else": {
                    "required": ["name"],
                    "properties": {"name": {"enum": list(self._kinds(mark.family))}},
                    "allOf": [
                        _when("name", kind.name, self.model(kind.cls))
                        for kind in self._kinds(mark.family).values()
                    ],
                },
            }
        short = {**self.bodies(mark), "minProperties": 1, "maxProperties": 1}
        is_long = {"anyOf": [{"required": ["kind"]}, {"required": ["name"]}]}
        return {
            "if": {"type": "object"},
            "then": {"if": is_long, "then": long, "else": short},
            "else": named,
        }

    def bodies(self, mark: NamedList, *, part: bool = False) -> Schema:
        """A mapping of names to what stands below them in a list, or over it in a part."""
        name = f"{_list_name(mark)}.{'changes' if part else 'bodies'}"
        return self._define(name, lambda: self._bodies(mark, part))

    def _bodies(self, mark: NamedList, part: bool) -> Schema:
        off: list[Schema] = [{"const": "off"}] if part else []
        if mark.cls is not None:
            taken = {"anyOf": [self.model(mark.cls, part=part), {"type": "null"}, *off]}
            return {"type": "object", "additionalProperties": taken}
        assert mark.family is not None
        other = self.any_kind(mark.family, part=part)
        known = {}
        for kind in self._kinds(mark.family).values():
            main = getattr(kind.cls, "main_field", None)
            short = [self.field(kind.cls, main, part=part)] if main else []
            own = {
                "if": {"required": ["kind"]},
                "then": other,
                "else": self.model(kind.cls, part=part),
            }
            # an item of that name may be of another kind in the base
            body: Schema = {"anyOf": [own, other]} if part else own
            known[kind.name] = {
                "description": describe_class(kind.cls),
                "anyOf": [{"type": "object", **body}, {"type": "null"}, *short, *off],
            }
        free = {"anyOf": [other, *off]}
        return {"type": "object", "properties": known, "additionalProperties": free}

    def _define(self, name: str, build: Callable[[], Schema]) -> Schema:
        """A reference to a definition, which is built when it is first asked for."""
        if name not in self.defs:
            self.defs[name] = {}
            self.defs[name] |= build()
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, cls: type[Spec], part: bool) -> Schema:
        """The definition of a model: its fields, and no others."""
        inner = {
            name: self.field(cls, name, part=part or _is_inherited(cls, name))
            for name in cls.model_fields
        }
        schema: Schema = {"type": "object", "description": describe_class(cls)}
        schema |= {"properties": inner, "additionalProperties": False}
        required = [] if part else [n for n in cls.model_fields if _is_needed(cls, n)]
        if required:
            schema["required"] = required
        one_of = ALTERNATIVES.get(cls.__name__, ())
        if one_of and (not part or cls.__name__ == "Length"):
            schema["oneOf"] = [
                {"required": [n], "properties": {n: {"not": {"type": "null"}}}} for n in one_of
            ]
        return _beside(schema, cls.also) if cls.also else schema

    def _type(self, annotation: Any, part: bool) -> Schema:
        """The schema of a plain, nested or combined type."""
        if annotation is Any:
            return {}
        if annotation in PLAIN:
            return {"type": PLAIN[annotation]}
        if isinstance(annotation, type) and issubclass(annotation, Spec):
            return self.model(annotation, part=part)
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.annotated(inner[0], inner[1:], part=part)
        if origin is Literal:
            return {"enum": list(inner)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self._type(one, part) for one in inner]}
        if origin in (tuple, list):
            if origin is tuple and Ellipsis not in inner:
                each = [self._type(one, part) for one in inner]
                n = len(each)
                return {"type": "array", "prefixItems": each, "minItems": n, "maxItems": n}
            return {"type": "array", "items": self._type(inner[0], part)}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self._type(inner[1], part)}
        raise TypeError(f"no schema for the type {annotation!r}")


def describe_field(cls: type[Spec], name: str) -> str:
    """The meaning of a field in a line or two, with its unit and source."""
    meaning = meaning_of(cls, name)
    parts = [meaning.text]
    if meaning.unit:
        parts.append(f"Unit: {meaning.unit}.")
    if meaning.source and meaning.source != OWN:
        parts.append(f"Source: {meaning.source}.")
    return " ".join(filter(None, parts))


def describe_class(cls: type[Spec]) -> str:
    """What a model or kind is, in one paragraph, with its source."""
    meaning = class_meaning(cls)
    source = f" Source: {meaning.source}." if meaning.source and meaning.source != OWN else ""
    return " ".join(meaning.text.split()) + source


def _def_name(cls: type[Spec]) -> str:
    field = cls.model_fields.get("kind")
    own = cls.__module__.rsplit(".", 1)[-1]
    return f"{own}.{cls.__name__}" if field is not None else cls.__name__


def _is_needed(cls: type[Spec], name: str) -> bool:
    """Whether a mapping has to say a field: names come from the list or the file around it."""
    outside = (name == "name" and cls is not CompetitionSpec) or _is_inherited(cls, name)
    return cls.model_fields[name].is_required() and not outside


def _is_inherited(cls: type[Spec], name: str) -> bool:
    """Whether a stage says of a field only what it has otherwise than the experiment."""
    return cls is StageSpec and name in ("train", "augment")


def _when(key: str, value: str, then: Schema) -> Schema:
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": then}


def _either(forms: Sequence[Schema]) -> Schema:
    return dict(forms[0]) if len(forms) == 1 else {"anyOf": list(forms)}


def _list_name(mark: NamedList) -> str:
    return mark.family or (mark.cls.__name__ if mark.cls is not None else "")


def _beside(schema: Schema, marks: Iterable[Any]) -> Schema:
    """A schema, or one of the short forms that a mark names."""
    also = [mark.schema for mark in marks if isinstance(mark, Also)]
    return {"anyOf": [schema, *also]} if also else schema
