"""What makes a file that of a sweep, and not of an experiment."""

from __future__ import annotations

from pathlib import Path

from birdlab.errors import SpecError
from birdlab.spec.yamlfile import Document

FORMS = ("grid", "one_factor", "add_one", "leave_one_out", "random", "optuna")
"""What a sweep may be; each has exactly one."""


def refuse_sweep(document: Document, path: str | Path) -> None:
    """Nothing; SpecError for the file of a sweep where an experiment is asked for."""
    form = next((form for form in FORMS if form in document.data), None)
    if form is not None:
        raise SpecError(
            "this file describes a sweep, and an experiment is asked for",
            where=document.place(form),
            got=f"`{form}:`",
            fix=f"birdlab sweep {path}, or name the experiment that it stands on",
        )
