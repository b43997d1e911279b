"""What a change is called apart from the base it was tried on: an idea, its direction, its family.

An idea is a set of fields with the values before and after, so that leaving something out of a
base that has it is the idea of adding it, with the opposite sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from birdlab.spec.field_changes import OFF, Change
from birdlab.spec.identity import canonical_json, digest

ID_CHARS = 8


@dataclass(frozen=True)
class Idea:
    """name: a short hash of the changes in their own direction; title: these in words.

    sign: 1 where the changes were made in that direction, -1 where they were taken back; 0 for
    arms that differ in nothing.
    """

    name: str
    title: str
    sign: int


def name_idea(changes: Sequence[Change]) -> Idea:
    """The idea behind the changes of an arm.

    Its direction is from off to on, from a smaller to a larger number, else by the spelling of the
    values; of several fields the first that goes from or to off says it, else the first by name.
    """
    if not changes:
        return Idea(digest([], ID_CHARS), "no change", 0)
    sign = _direction(changes)
    ordered = sorted(_turn(c, sign) for c in changes)
    title = ", ".join(_word(*one) for one in ordered)
    return Idea(digest([list(one) for one in ordered], ID_CHARS), title, sign)


def name_family(changes: Sequence[Change]) -> str:
    """The fields that are changed, whatever the values: what ideas are alike."""
    return ", ".join(sorted(c.field for c in changes)) or "no change"


def _direction(changes: Sequence[Change]) -> int:
    ordered = sorted(changes, key=lambda c: (OFF not in (c.before, c.after), c.field))
    first = ordered[0]
    return 1 if _rank(first.before) <= _rank(first.after) else -1


def _rank(value: Any) -> tuple[int, float, str]:
    """Where a value stands in the order that gives an idea its direction."""
    if value == OFF:
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    return (2, 0.0, canonical_json(value))


class _Turned(tuple[str, Any, Any]):
    """A change as it is hashed; ordered by its field."""

    def __lt__(self, other: Any) -> bool:
        return bool(self[0] < other[0])


def _turn(change: Change, sign: int) -> _Turned:
    pair = (change.before, change.after)
    return _Turned((change.field, *(pair if sign > 0 else pair[::-1])))


def _word(field: str, before: Any, after: Any) -> str:
    short = _short(field)
    if before == OFF:
        return f"+{short}" + ("" if isinstance(after, bool) else f" {_text(after)}")
    if after == OFF:
        return f"-{short} {_text(before)}"
    return f"{short} {_text(before)} -> {_text(after)}"


def _short(field: str) -> str:
    """A field by its last two parts, without the rooms everybody knows; the stage of one alone."""
    parts = [part for part in field.split(".") if part not in ("augment", "stages", "train")]
    stage = f"stage {parts.pop(0)} " if len(parts) > 1 and parts[0].isdigit() else ""
    return stage + ".".join(parts[-2:] or [field])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
