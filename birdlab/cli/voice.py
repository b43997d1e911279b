"""What a command says beside its result: notes, times and JSON, as quiet or verbose asks.

A result goes to standard output, alone; notes, progress, times and errors go to standard error.
How much of them is said is the level of the logger `birdlab`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import PurePath
from typing import Any

import typer

from birdlab.errors import BirdlabError
from birdlab.timing import LOGGER


class _Lines(logging.Handler):
    """Each message as a line on what is standard error just then."""

    def emit(self, record: logging.LogRecord) -> None:
        at_s = record.relativeCreated / 1000
        print(f"[{at_s:7.2f} s] {record.getMessage()}", file=sys.stderr, flush=True)


def speak_normally() -> None:
    """Say progress and notes, no times: what a command does without -q and -v."""
    LOGGER.setLevel(logging.WARNING)
    LOGGER.handlers.clear()
    LOGGER.propagate = True


def be_quiet(asked: bool) -> None:
    """Say results and errors only, where that is asked for."""
    if asked:
        speak_normally()
        LOGGER.setLevel(logging.ERROR)


def be_verbose(asked: bool) -> None:
    """Say also where the time goes, and tracebacks with errors, where that is asked for."""
    if asked:
        speak_normally()
        LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(_Lines())
        LOGGER.propagate = False


def is_quiet() -> bool:
    """Whether only results and errors are said."""
    return LOGGER.level >= logging.ERROR


def is_verbose() -> bool:
    """Whether times are said, and tracebacks with errors."""
    return LOGGER.level == logging.INFO


def print_note(text: str) -> None:
    """Say something beside the result, on standard error; nothing when quiet."""
    if text and not is_quiet():
        print(text, file=sys.stderr, flush=True)


def print_error(error: BirdlabError) -> None:
    """Say what went wrong and what to do; the traceback before it when verbose."""
    if is_verbose():
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON: null where there is no number, tables and dataclasses as objects."""
    typer.echo(json.dumps(plain(value), indent=1, allow_nan=False))


def plain(value: Any) -> Any:
    """A value as JSON takes it: NaN and infinite numbers are None, paths and dates text.

    A DataFrame is a list of objects, a dataclass an object. TypeError for what has no such form.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "to_json"):  # a DataFrame; pandas is not imported to ask
        return json.loads(value.to_json(orient="records", double_precision=15))
    if hasattr(value, "tolist"):  # a number or an array of numpy
        return plain(value.tolist())
    raise TypeError(f"JSON has no form for {type(value).__name__}")
