"""The model every part of a spec is made of, and the small types its fields share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict

T = TypeVar("T")

Tuple = Annotated[tuple[T, ...], Strict(False)]
"""An ordered list in YAML, a tuple in Python; its items stay strict."""

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""A name that is also safe as a file name and as one part of a dotted path."""


class AddedLater:
    """Marks a field that did not exist when older cells were made.

    `as_before` is the value that behaves as birdlab did without the field. A field equal to
    it is left out of the identity, so that ids made before stay valid.
    """

    def __init__(self, as_before: object) -> None:
        self.as_before = as_before


class Also:
    """Marks what YAML may say in place of a field's own type; a validator before reads it.

    `schema` is that form as JSON Schema, for editors.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)


class Spec(BaseModel):
    """A frozen piece of a spec: data only, unknown fields refused, numbers finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True
    )

    not_in_identity: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change a weight or a score (names, notes, how much evidence)."""
    also: ClassVar[tuple[Also, ...]] = ()
    """Short forms of the whole model."""


@cache
def _identity_fields(spec: type[Spec]) -> tuple[tuple[str, AddedLater | None], ...]:
    """The fields of a spec that belong to its identity, with how those added later are marked."""
    return tuple(
        (name, next((m for m in field.metadata if isinstance(m, AddedLater)), None))
        for name, field in spec.model_fields.items()
        if name not in spec.not_in_identity
    )


def canonical(value: Any) -> Any:
    """`value` as plain JSON data with one form per meaning.

    Mappings keep string keys (sorted when they are written), sequences keep their order,
    integral floats become integers, fields marked `AddedLater` are left out while they
    equal their as-before value, and a spec's `not_in_identity` fields are left out.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Spec):
        out = {}
        for name, later in _identity_fields(type(value)):
            item = getattr(value, name)
            if later is None or item != later.as_before:
                out[name] = canonical(item)
        return out
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (dict, Mapping)):
        return {str(key): canonical(item) for key, item in value.items()}
    return value
