"""A real Dask cluster on this machine: a scheduler and workers, each a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from celltasks import wait_until

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Cluster:
    """A scheduler on this machine, and workers by the cores that they declare."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    address: str = ""

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process of Dask; its output goes into a file."""
        name = f"{command[0]}{len(self.processes)}"
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard"],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def start_scheduler(self, protocol: str = "tcp") -> None:
        file = self.folder / "scheduler.json"
        self.start(
            "scheduler", "--protocol", protocol, "--host", "127.0.0.1", "--port", "0",
            "--scheduler-file", str(file),
        )  # fmt: skip
        wait_until(lambda: file.is_file() and file.read_text().rstrip().endswith("}"))
        self.address = json.loads(file.read_text())["address"]

    def start_worker(self, cores: int) -> subprocess.Popen[bytes]:
        return self.start(
            "worker", self.address, "--nthreads", str(cores + 1), "--no-nanny",
            "--resources", f"cores={cores}", "--host", "127.0.0.1",
        )  # fmt: skip

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
