"""Writes the pages of docs/reference that are made from the code.

python docs/generate.py            writes what is stale
python docs/generate.py --check    names what is stale, and exits with 1 where anything is
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def _spec() -> str:
    from birdlab.spec.reference import spec_page

    return spec_page()


def _lab() -> str:
    from birdlab.labfile import LabFile, SlurmSettings
    from birdlab.spec.reference import lab_page

    return lab_page((("The lab file", LabFile), ("slurm", SlurmSettings)))


def _commands() -> str:
    from birdlab.cli.reference import commands_page

    return commands_page()


def _errors() -> str:
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    from error_catalogue import errors_page

    return errors_page()


def _fields() -> str:
    from birdlab.cli.fields import fields_text

    return fields_text()


PAGES: dict[str, Callable[[], str]] = {
    "reference/spec.md": _spec,
    "reference/lab.md": _lab,
    "reference/commands.md": _commands,
    "reference/errors.md": _errors,
    "../birdlab/cli/fields.txt": _fields,
}
"""Pages by path below docs/, each with the function that gives its text."""


def find_stale() -> dict[str, str]:
    """The pages whose file is not what the code says, each with the text it should have."""
    stale = {}
    for name, build in PAGES.items():
        path, text = DOCS / name, build()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale[name] = text
    return stale


def main(arguments: Sequence[str]) -> int:
    """0, or with --check 1 where a page is stale."""
    stale = find_stale()
    if "--check" in arguments:
        for name in stale:
            print(f"stale: docs/{name} (python docs/generate.py writes it)")
        return 1 if stale else 0
    for name, text in stale.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
