"""The machine and the code that a measurement was made with, without names or paths."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "torch", "timm", "onnxruntime", "openvino", "soundfile", "soxr", "librosa", "pandas",
    "scikit-learn", "mlflow", "optuna", "distributed", "dash", "pytest-benchmark",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where and when something was measured. `load`: mean of the last minute before the start."""

    date: str
    commit: str
    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    load: float
    packages: dict[str, str]

    @property
    def quiet(self) -> bool:
        """Whether less than a third of a core was busy with something else."""
        return self.load < 0.33

    def plain(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        return asdict(self)


def describe_machine(root: Path) -> Machine:
    """This machine, and the commit that is checked out at `root`."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        commit=_commit(root),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        system=platform.freedesktop_os_release()["PRETTY_NAME"],
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
        packages={name: version(name) for name in PACKAGES},
    )


def _commit(root: Path) -> str:
    """The short commit, with "changed" where tracked code differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "birdlab", "dashboards")
    return git("rev-parse", "--short", "HEAD") + (", changed" if changed else "")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
