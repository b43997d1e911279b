"""What fields and kinds mean: the docstring below each field of a spec, read when it is asked for.

    lr: Positive = 1e-3
    \"\"\"The learning rate. Unit: none. Source: the first place of 2023.\"\"\"

`Unit:` says what a number counts where its name does not end in one (`_s`, `_hz`, `_db`), and
`Source:` where the field or its default comes from. A kind says its source in the docstring of its
class, and its fields have that unless they say another.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import get_args

from birdlab.spec.base import Spec

OWN = "birdlab"
"""The source of what is a choice of birdlab."""

SUFFIXES = {
    "_s": "s",
    "_hz": "Hz",
    "_db": "dB",
    "_gb": "GB",
    "_min": "minutes",
    "_minutes": "minutes",
    "_epochs": "epochs",
    "_db_per_octave": "dB",
}
"""The units that names of fields end in."""

_PART = re.compile(r"\s*\b(Unit|Source): (.*?)\.?(?=\s+(?:Unit|Source): |\s*$)", re.S)


@dataclass(frozen=True)
class Meaning:
    """What a field or class means, the unit of a number, where it comes from; "" where unsaid."""

    text: str
    unit: str = ""
    source: str = ""


def meaning_of(cls: type[Spec], name: str) -> Meaning:
    """What the field `name` of a spec class means, by it or the nearest class above it."""
    text = next((said for c in cls.__mro__ if (said := _field_texts(c).get(name))), "")
    if not text and name == "kind":
        text = "Which kind it is."
    found = _split(text)
    unit = found.unit or next(
        (unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), ""
    )
    numbers = holds_number(cls.model_fields[name].annotation)
    return Meaning(found.text, unit if numbers else "", found.source or class_meaning(cls).source)


def class_meaning(cls: type[Spec]) -> Meaning:
    """What a spec class means by its docstring, and the source that it or one above it names."""
    own = _split(inspect.cleandoc(cls.__dict__.get("__doc__") or ""))
    above = (_split(c.__dict__.get("__doc__") or "").source for c in cls.__mro__[1:-1])
    return Meaning(own.text, source=own.source or next(filter(None, above), ""))


def holds_number(annotation: object) -> bool:
    """Whether a value of the annotated type may be, or hold, an integer or a float."""
    if annotation in (int, float):
        return True
    return any(holds_number(inner) for inner in get_args(annotation) if inner is not annotation)


def _split(text: str) -> Meaning:
    parts = {key: " ".join(value.split()) for key, value in _PART.findall(text)}
    return Meaning(_PART.sub("", text).strip(), parts.get("Unit", ""), parts.get("Source", ""))


def _field_texts(cls: type) -> dict[str, str]:
    """The docstrings below the fields of a class itself, by field."""
    return _module_texts(cls.__module__).get(cls.__qualname__, {})


@cache
def _module_texts(module: str) -> dict[str, dict[str, str]]:
    """Class by class the docstrings of a module's fields; nothing where it has no source."""
    loaded = sys.modules.get(module)
    try:
        source = inspect.getsource(loaded) if loaded is not None else ""
    except (OSError, TypeError):
        return {}
    tree = ast.parse(source)
    return {node.name: _read_fields(node) for node in tree.body if isinstance(node, ast.ClassDef)}


def _read_fields(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
