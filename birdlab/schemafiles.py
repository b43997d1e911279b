"""The JSON Schema files of a lab, by which editors complete and check its files as typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole
from birdlab.labfile import LabFile
from birdlab.spec.kinds import nearest
from birdlab.spec.schema_files import SCHEMAS, kind_of_file, model_schema

SCHEMA_FOLDER = "experiments/.schema"
"""Where they lie, in the lab."""
LAB = "lab"
KINDS = (*SCHEMAS, LAB)
_KEY = re.compile(r"^(\w+):", re.M)
_LINE = re.compile(r"^#\s*(yaml-language-server:\s*)?\$schema", re.M)


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of one of KINDS, with the kinds of all extensions that are loaded.

    Raises LabError for another name.
    """
    if kind == LAB:
        return model_schema(LabFile, "A birdlab lab file")
    if kind not in SCHEMAS:
        raise LabError(
            "there is no schema of this name", got=kind, expected=nearest(kind, [*KINDS])
        )
    return SCHEMAS[kind]()


def write_schemas(lab: Lab) -> list[Path]:
    """The schema files of a lab that were not as its models and extensions say, now written."""
    lab.load_extensions()
    written = []
    for kind in KINDS:
        path = lab.root / SCHEMA_FOLDER / f"{kind}.json"
        text = json.dumps(schema_of(kind)) + "\n"
        try:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_whole(path, text)
                written.append(path)
        except OSError as error:
            raise LabError(
                "a schema cannot be written",
                where=str(path),
                got=error.strerror,
                fix="make the folder of the lab writable",
            ) from None
    return written


def add_editor_line(text: str, folder: str) -> str:
    """The text of a YAML file with the line that names its schema, below the comment at its top.

    `folder` leads from the file to the schemas. A text that has such a line stays as it is.
    """
    if _LINE.search(text):
        return text
    kind = kind_of_file(dict.fromkeys(_KEY.findall(text)))
    lines = text.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    line = f"# yaml-language-server: $schema={folder}/{kind}.json\n"
    return "".join([*lines[:end], line, *lines[end:]])


def add_editor_lines(lab: Lab) -> list[Path]:
    """The YAML files below `experiments/` that lacked the line, and have it now.

    Files that cannot be read as text are left as they are.
    """
    changed = []
    experiments = lab.root / "experiments"
    for path in sorted(experiments.rglob("*.yaml")):
        up = "../" * (len(path.relative_to(experiments).parts) - 1)
        try:
            text = path.read_text(encoding="utf-8")
            new = add_editor_line(text, f"{up}.schema")
        except (OSError, UnicodeDecodeError):
            continue
        if new != text:
            write_whole(path, new)
            changed.append(path)
    return changed
