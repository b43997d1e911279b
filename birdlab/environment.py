"""Where and with what runs are made."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("birdlab", "torch", "timm", "numpy", "pandas", "soundfile", "soxr")
"""Whose versions a record keeps: what computes waveforms, networks and scores."""


@cache
def environment() -> dict[str, str]:
    """Tags of where a run was made: git commit and dirty flag, Python, packages, host processor."""
    out = {"python": platform.python_version(), "machine": platform.machine()}
    installed = {d.name: d.version for d in metadata.distributions()}
    out["packages"] = ", ".join(f"{p} {installed[p]}" for p in PACKAGES if p in installed)
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return out
    if commit.returncode == 0:
        out |= {"git_commit": commit.stdout.strip(), "git_dirty": str(bool(dirty.stdout.strip()))}
    return out
