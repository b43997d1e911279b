"""What a sweep may ask of one field: listed values, named bundles of changes, ranges; and when."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.spec.base import AddedLater, Also, Spec, Tuple
from birdlab.spec.delta import OFF
from birdlab.spec.diff import title_of
from birdlab.spec.identity import canonical_json

WHEN = "when"
Changes = dict[str, Any]
When = dict[str, Any]
"""Conditions by dotted field or entry of the sweep: a value, or a list of which one is to hold."""


def is_bundles(values: object) -> bool:
    """Whether a raw entry holds named bundles of changes: `name: {changes}` pairs."""
    return isinstance(values, dict) and all(isinstance(v, dict) for v in values.values())


def lay_over(delta: Mapping[str, Any], changes: Mapping[str, Any]) -> Changes:
    """`delta` with `changes` made after it."""
    return {k: v for k, v in delta.items() if k not in changes} | dict(changes)


def check_distinct(values: tuple[Any, ...]) -> None:
    """Raise ValueError when a list names one value twice, or two that read the same in titles."""
    if len({repr(v) for v in values}) < len(values):
        raise ValueError("lists a value twice")
    if len({title_of({"": v}) for v in values}) < len(values):
        raise ValueError("lists two values that no title tells apart: write name: {changes} pairs")


class Axis(Spec):
    """One entry of a grid: the values of a dotted field, or named bundles of changes.

    In YAML the list or the mapping of bundles itself, or `{values: ..., when: ...}`. What a
    condition leaves out is no part of the point, and where nothing is left of an entry the point
    exists once, without it.
    """

    values: Tuple[Any] = ()
    """The values of the field."""
    bundles: dict[str, Changes] = Field(default_factory=dict)
    """Changes by name; a bundle may hold a `when` of its own."""
    when: When = Field(default_factory=dict)
    """At which points the entry exists: fields or other entries with the value, or list of values,
    that they have there."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        whole = isinstance(raw, dict) and set(raw) == {"values", "bundles", WHEN}
        if whole and bool(raw["values"]) != bool(raw["bundles"]):  # as a sweep's record has it
            return raw
        raw, when = _split_when(raw)
        if isinstance(raw, list) and raw:
            return {"values": raw, "when": when}
        if isinstance(raw, Spec):
            return raw
        if raw and is_bundles(raw):
            return {"bundles": raw, "when": when}
        raise ValueError("should be a list of values, or name: {changes} pairs")

    @field_validator("bundles")
    @classmethod
    def _conditions(cls, bundles: dict[str, Changes]) -> dict[str, Changes]:
        if any(not isinstance(bundle.get(WHEN, {}), dict) for bundle in bundles.values()):
            raise ValueError("the `when` of a bundle should be {field: value} pairs")
        return bundles

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        check_distinct(values)
        return values


class Range(Spec):
    """One searched field: uniform, log-uniform or integer between `low` and `high`, or choices.

    A list, or bundles alone, is a choice in short.
    """

    also: ClassVar[tuple[Also, ...]] = (
        Also({"type": "array"}),
        Also({"type": "object", "not": {"required": ["kind"]}}),
    )

    kind: Literal["uniform", "log_uniform", "int", "choice"]
    """How a value is drawn."""
    low: float | None = None
    """The lowest value. Unit: of the field."""
    high: float | None = None
    """The highest value. Unit: of the field."""
    step: Annotated[float | None, Field(gt=0), AddedLater(as_before=None)] = None
    """The step from one value to the next, for `int` and `uniform`. Unit: of the field."""
    log: Annotated[bool, AddedLater(as_before=False)] = False
    """Ask for an `int` on a logarithmic scale."""
    choices: Annotated[tuple[Any, ...], Field(strict=False)] = ()
    """The values of a choice."""
    bundles: Annotated[dict[str, Changes], AddedLater(as_before={})] = Field(default_factory=dict)
    """The changes of a choice, by name."""
    when: Annotated[When, AddedLater(as_before={})] = Field(default_factory=dict)
    """Where the field is asked at all."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "kind" in raw:
            return raw
        inner, when = _split_when(raw)
        if isinstance(inner, list):
            return {"kind": "choice", "choices": inner, "when": when}
        if inner and is_bundles(inner):
            return {"kind": "choice", "bundles": inner, "when": when}
        return raw

    @model_validator(mode="after")
    def _complete(self) -> Range:
        if self.kind == "choice":
            one = bool(self.choices) != bool(self.bundles)
            if not one or any(v is not None for v in (self.low, self.high, self.step)) or self.log:
                raise ValueError("a choice has `choices` or `bundles`, and no `low` and `high`")
            check_distinct(self.choices)
            if any(WHEN in bundle for bundle in self.bundles.values()):
                raise ValueError("a searched entry is asked whole: {values: ..., when: ...}")
            return self
        if self.choices or self.bundles or self.low is None or self.high is None:
            raise ValueError("should have `low` < `high`, and no `choices`")
        if self.low >= self.high:
            raise ValueError("should have `low` < `high`, and no `choices`")
        if (self.kind == "log_uniform" or self.log) and self.low <= 0:
            raise ValueError(f"{'log' if self.log else 'log_uniform'} should have `low` > 0")
        self._check_scale(self.low, self.high)
        return self

    def _check_scale(self, low: float, high: float) -> None:
        if self.log and self.kind != "int":
            raise ValueError("`log` goes with int; floats on a log scale are `kind: log_uniform`")
        if self.kind == "int" and any(v % 1 for v in (low, high, self.step or 0)):
            raise ValueError("an int has whole numbers as low, high and step")
        if self.step is not None:
            if self.log or self.kind == "log_uniform":
                raise ValueError("a step goes with a plain scale")
            steps = (high - low) / self.step
            if abs(steps - round(steps)) > 1e-9:
                raise ValueError("`high` should be `low` plus a whole number of steps")

    @property
    def options(self) -> tuple[Any, ...]:
        """What a choice chooses from: values, or names of bundles; empty for numbers."""
        return tuple(self.bundles) if self.bundles else self.choices

    @property
    def ends(self) -> tuple[Any, ...]:
        """The lowest and highest value of a range; empty for a choice."""
        ends = [value for value in (self.low, self.high) if value is not None]
        return tuple(int(value) if self.kind == "int" else value for value in ends)

    def place_of(self, value: Any) -> int:
        """The place of an option; ValueError when it is none. 1 and true are two options."""
        return [repr(option) for option in self.options].index(repr(value))

    def changes(self, key: str, value: Any) -> Changes:
        """The changes that `value` stands for in the entry `key` of the space.

        A number is taken with the six digits that its title shows, so that a title names one
        experiment.
        """
        if self.bundles:
            return dict(self.bundles[value])
        exact = self.kind in ("choice", "int")
        return {key: value if exact else float(f"{value:.6g}")}

    def draw(self, rng: random.Random) -> Any:
        """A random value of the field."""
        if self.kind == "choice":
            return rng.choice(self.options)
        assert self.low is not None and self.high is not None
        if self.step is not None:
            value = self.low + self.step * rng.randint(0, round((self.high - self.low) / self.step))
        elif self.kind == "int" and not self.log:
            value = rng.randint(int(self.low), int(self.high))
        else:
            half = 0.5 if self.log else 0.0
            low, high = self.low - half, self.high + half
            is_log = self.log or self.kind == "log_uniform"
            value = _log_uniform(rng, low, high) if is_log else rng.uniform(low, high)
            value = min(max(value, self.low), self.high)
        return round(value) if self.kind == "int" else float(value)


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _split_when(raw: Any) -> tuple[Any, When]:
    """What an entry holds apart from its condition."""
    if isinstance(raw, dict) and set(raw) == {"values", WHEN}:
        return raw["values"], raw[WHEN]
    return raw, {}


def matches(value: Any, wanted: Any) -> bool:
    """Whether a field's `value` is what a condition wants: equal to it, or to one of a list.

    A kind is named by its name alone; a named item that is not there is `off`.
    """
    if isinstance(wanted, list | tuple):
        return any(matches(value, one) for one in wanted)
    if value is None and wanted == OFF:
        return True
    if isinstance(value, Mapping) and isinstance(wanted, str):
        return bool(value.get("kind") == wanted)
    return canonical_json(value) == canonical_json(wanted)
