"""What crosses the border of a process: tasks, events and errors as lines of JSON, never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from birdlab import errors
from birdlab.errors import BirdlabError, CellError
from birdlab.tasks import CellTask, Event

_FIELDS = ("what", "where", "got", "expected", "fix")


def encode_line(message: Mapping[str, Any]) -> bytes:
    """One message as a line; numpy numbers become plain ones, anything unknown its text."""
    return json.dumps(message, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def encode_task(task: CellTask) -> dict[str, Any]:
    """A task as plain data."""
    return asdict(task)


def decode_task(data: Mapping[str, Any]) -> CellTask:
    """The task that `encode_task` wrote."""
    return CellTask(**{**data, "after": tuple(data["after"])})


def encode_event(event: Event) -> dict[str, Any]:
    """An event as plain data."""
    return {"kind": event.kind, "cell_id": event.cell_id, "values": dict(event.values)}


def decode_event(data: Mapping[str, Any]) -> Event:
    """The event that `encode_event` wrote; tuples among its values come back as lists."""
    return Event(data["kind"], data["cell_id"], data["values"])


def encode_error(error: BirdlabError | None) -> dict[str, Any] | None:
    """An error by the nearest name in birdlab.errors, with its fields as text."""
    if error is None:
        return None
    name = next(c.__name__ for c in type(error).__mro__ if hasattr(errors, c.__name__))
    fields = {field: getattr(error, field) for field in _FIELDS}
    return {"kind": name} | {k: None if v is None else str(v) for k, v in fields.items()}


def decode_error(data: Mapping[str, Any] | None) -> BirdlabError | None:
    """The error that `encode_error` wrote; a CellError where its name is none of ours."""
    if data is None:
        return None
    kind = getattr(errors, str(data["kind"]), None)
    if not (isinstance(kind, type) and issubclass(kind, BirdlabError)):
        kind = CellError
    what, *rest = _FIELDS
    return kind(str(data[what]), **{field: data.get(field) for field in rest})
