"""The command line in this process, for tests of what it prints."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from birdlab.cli import app as entry
from birdlab.lab import Lab


def print_of(lab: Lab, *words: str) -> str:
    """What a command prints in a lab; what it raises is raised."""
    if not entry.app.registered_commands:
        entry._register()
    result = CliRunner().invoke(entry.app, ["--lab", str(lab.root), *words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def run_main(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str
) -> tuple[int, str, str]:
    """A command from start to end: exit code, what it printed, what it complained of."""
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["birdlab", *args])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    got = capsys.readouterr()
    return int(ended.value.code or 0), got.out, got.err
