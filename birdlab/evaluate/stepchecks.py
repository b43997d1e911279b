"""Whether post-processing steps are such as can be applied: kinds, fields, values, species."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from birdlab.errors import SpecError
from birdlab.evaluate.poststeps import STEPS, Field


def check_steps(steps: Sequence[Mapping[str, Any]], codes: Sequence[str] | None = None) -> None:
    """Raise SpecError, with what is allowed, for an unknown kind, field or value.

    With `codes` also for a species that is none of them.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        raise SpecError(
            "post-processing steps are not a list",
            got=repr(steps)[:80],
            expected="a list like [{kind: smooth, ...}]",
        )
    for number, step in enumerate(steps, 1):
        where = f"post-processing step {number}"
        kind = step.get("kind") if isinstance(step, Mapping) else None
        if not isinstance(kind, str) or kind not in STEPS:
            raise SpecError(
                f"unknown kind of step {kind!r}", where=where, expected=_nearest(kind, STEPS)
            )
        _check_fields(f"{where} ({kind})", step, STEPS[kind].fields, codes)


def check_overlap(steps: Sequence[Mapping[str, Any]], overlap: bool) -> None:
    """Raise SpecError for a step that averages overlapping windows where there will be none."""
    if not overlap and any(step["kind"] == "shift_average" for step in steps):
        raise SpecError(
            "shift_average needs overlapping windows",
            got="windows one after the other",
            fix="add --hop 2.5, or leave the step out: windows that overlap are always averaged",
        )


def _check_fields(
    where: str,
    step: Mapping[str, Any],
    fields: Mapping[str, Field],
    codes: Sequence[str] | None,
) -> None:
    allowed = [*fields, "species"]
    for name in step:
        if name != "kind" and name not in allowed:
            raise SpecError(
                f"unknown field {name!r}", where=where, expected=_nearest(name, allowed)
            )
    for name, field in fields.items():
        if name not in step:
            raise SpecError(f"the field {name!r} is missing", where=where, expected=field.expected)
        if not field.holds(step[name]):
            raise SpecError(
                f"a value of {name} that cannot be",
                where=where,
                got=repr(step[name]),
                expected=field.expected,
            )
    chosen = step.get("species", ())
    if not isinstance(chosen, list | tuple) or not all(isinstance(c, str) for c in chosen):
        raise SpecError(
            "species is not a list of codes",
            where=where,
            got=repr(chosen)[:80],
            expected="codes of the classes, each once",
        )
    if len(set(chosen)) < len(chosen):
        raise SpecError(
            "species names a code twice",
            where=where,
            got=repr(chosen)[:80],
            expected="codes of the classes, each once",
        )
    strange = [code for code in chosen if codes is not None and code not in codes]
    if strange:
        raise SpecError(
            f"species that are no classes: {', '.join(strange[:5])}",
            where=where,
            expected=_nearest(strange[0], codes or ()),
        )


def _nearest(name: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    names = ", ".join(list(known)[:20]) + (", ..." if len(known) > 20 else "")
    return f"did you mean {close[0]!r}? known: {names}" if close else f"known: {names}"
