"""Plain data as YAML that people like to read: one line where it fits, else a line for each key."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

WIDTH = 96
"""Columns of a line."""


def flow_text(value: Any) -> str:
    """`value` as YAML on one line: `{augment.or_mixup: off}`."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = True, 10**6
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...")


def spread(mapping: Mapping[str, Any], indent: str) -> list[str]:
    """The lines of a mapping: each entry on one line if it fits, else its own entries below it."""
    lines = []
    for key, value in mapping.items():
        name = flow_text(key)
        line = f"{indent}{name}: {flow_text(value)}"
        is_long = len(line) > WIDTH or _lists_mappings(value)
        if not is_long or not value or not isinstance(value, dict | list):
            lines.append(line)
        elif isinstance(value, dict):
            lines += [f"{indent}{name}:", *spread(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}:")
            for item in value:
                one = flow_text(item)
                whole = isinstance(item, dict) and len(item) == 1
                lines.append(f"{indent}  - {one[1:-1] if whole else one}")
    return lines


def _lists_mappings(value: Any) -> bool:
    """Is there a list of mappings in it? On one line such a list is hard to read."""
    if isinstance(value, dict):
        return any(_lists_mappings(item) for item in value.values())
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
