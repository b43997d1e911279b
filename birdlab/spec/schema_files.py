"""JSON Schema of whole files: experiments, sweeps, ensembles, files of steps, and the lab file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from birdlab.spec.base import Spec
from birdlab.spec.ensemble import EnsembleSpec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.forms import FORMS
from birdlab.spec.kinds import KindOf, kinds
from birdlab.spec.named import NamedList
from birdlab.spec.postprocess import PostChain
from birdlab.spec.schema import DRAFT, SchemaBuilder
from birdlab.spec.schema_limits import Schema
from birdlab.spec.space import WHEN
from birdlab.spec.sweep import SweepSpec

_FREE = r"^(stages|augment|postprocess|data\.clean|evaluate\.estimators)\."
"""Dotted names that lead into lists of named items, which may have any name."""


def experiment_schema() -> Schema:
    """An experiment; one with a `base` says only what it has otherwise."""
    builder = SchemaBuilder()
    whole, part = builder.model(ExperimentSpec), builder.model(ExperimentSpec, part=True)
    base = {
        "type": ["string", "null"],
        "description": "The file of the experiment that this one stands on, relative to it.",
    }
    for name in ("ExperimentSpec", "ExperimentSpec.part"):
        fields = builder.defs[name]["properties"]
        builder.defs[name]["properties"] = {"base": base, **fields}
    stands = {"properties": {"base": {"type": "string"}}, "required": ["base"]}
    return _file("A birdlab experiment", {"if": stands, "then": part, "else": whole}, builder)


def sweep_schema() -> Schema:
    """A sweep: exactly one form, whose entries are dotted fields or bundles of changes."""
    builder = SchemaBuilder()
    whole = builder.model(SweepSpec)
    sweep = builder.defs["SweepSpec"]
    fields = _dotted_fields(builder)
    builder.defs["Changes"] = {
        "type": "object",
        "properties": {**fields, WHEN: {"type": "object", "description": _WHEN}},
        "patternProperties": {_FREE: {}},
        "additionalProperties": False,
    }
    changes = {"$ref": "#/$defs/Changes"}
    bundle = {**changes, "minProperties": 1}
    builder.defs["Bundles"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": changes,
    }
    builder.defs["Conditional"] = _conditional()
    builder.defs["Axes"] = _entries(fields, lambda value: [_list(value), _CONDITIONAL, _BUNDLES])
    builder.defs["Factors"] = _entries(fields, lambda value: [_list(value), bundle])
    places: Mapping[str, Schema] = {
        "set": changes,
        "grid": {"$ref": "#/$defs/Axes"},
        "one_factor": {"$ref": "#/$defs/Factors"},
        "add_one": {"type": "object", "additionalProperties": bundle},
        "leave_one_out": {"type": "object", "additionalProperties": bundle},
    }
    for name, schema in places.items():
        said = sweep["properties"][name].get("description", "")
        sweep["properties"][name] = {**schema, "description": said}
    given = {"type": "object", "minProperties": 1}
    sweep["oneOf"] = [{"required": [f], "properties": {f: given}} for f in FORMS]
    sweep["required"] = ["base"]
    return _file("A birdlab sweep", whole, builder)


def model_schema(cls: type[Spec], title: str) -> Schema:
    """A file that holds one model and nothing else."""
    builder = SchemaBuilder()
    return _file(title, builder.model(cls), builder)


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "experiment": experiment_schema,
    "sweep": sweep_schema,
    "ensemble": lambda: model_schema(EnsembleSpec, "A birdlab ensemble"),
    "steps": lambda: model_schema(PostChain, "A file of post-processing steps"),
}
"""The kinds of YAML files, each with what makes its schema."""


def kind_of_file(data: Mapping[str, Any]) -> str:
    """Which of SCHEMAS a YAML file is by what stands in it."""
    if any(form in data for form in FORMS):
        return "sweep"
    return "ensemble" if "members" in data else "steps" if "steps" in data else "experiment"


_BUNDLES = {"$ref": "#/$defs/Bundles"}
_CONDITIONAL = {"$ref": "#/$defs/Conditional"}
_WHEN = "At which points this exists: fields or other entries with the value that they have there."


def _file(title: str, schema: Schema, builder: SchemaBuilder) -> Schema:
    return {"$schema": DRAFT, "title": title, **schema, "$defs": builder.defs}


def _list(value: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": value}


def _conditional() -> Schema:
    """An entry that exists at some points only: its values or bundles, and where that is."""
    values = {"anyOf": [_list({}), _BUNDLES]}
    return {
        "type": "object",
        "properties": {"values": values, WHEN: {"type": "object", "description": _WHEN}},
        "required": ["values", WHEN],
        "additionalProperties": False,
    }


def _entries(fields: Mapping[str, Schema], forms: Callable[[Schema], list[Schema]]) -> Schema:
    """Entries of a sweep by dotted field, or by a name of the user's own."""
    known = {
        name: {"anyOf": forms({"$ref": f"#/$defs/Changes/properties/{name}"}), **_shown(schema)}
        for name, schema in fields.items()
    }
    return {
        "type": "object",
        "properties": known,
        "additionalProperties": {"anyOf": forms({})},
    }


def _shown(schema: Schema) -> Schema:
    return {"description": schema["description"]} if "description" in schema else {}


def _dotted_fields(builder: SchemaBuilder) -> dict[str, Schema]:
    """Every field of an experiment by its dotted name, as a change may set it."""
    found: dict[str, list[Schema]] = {}
    for dotted, schema in _walk(builder, ExperimentSpec, ""):
        forms = found.setdefault(dotted, [])
        if schema not in forms:
            forms.append(schema)
    return {
        dotted: forms[0] if len(forms) == 1 else {**_shown(forms[0]), "anyOf": forms}
        for dotted, forms in found.items()
    }


def _walk(builder: SchemaBuilder, cls: type[Spec], prefix: str) -> Iterator[tuple[str, Schema]]:
    for name, info in cls.model_fields.items():
        dotted = prefix + name
        yield dotted, builder.field(cls, name, part=True)
        marks = [mark for mark in info.metadata if isinstance(mark, KindOf | NamedList)]
        if not marks:
            for inner in _specs_in(info.annotation):
                yield from _walk(builder, inner, dotted + ".")
        elif isinstance(marks[0], KindOf):
            for kind in kinds(marks[0].family).values():
                yield from _walk(builder, kind.cls, dotted + ".")
        elif marks[0].family is not None:
            off: Schema = {"anyOf": [{"const": "off"}, {}]}
            for kind in kinds(marks[0].family).values():
                yield f"{dotted}.{kind.name}", off
                yield from _walk(builder, kind.cls, f"{dotted}.{kind.name}.")


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The models that a field holds itself; those in lists have no dotted names."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    elif getattr(annotation, "__origin__", None) not in (tuple, list, dict):
        for inner in get_args(annotation):
            yield from _specs_in(inner)
