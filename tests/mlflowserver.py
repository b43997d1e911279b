"""A real MLflow server on this machine: a process on a database and a folder of artifacts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(store: Path, port: int) -> subprocess.Popen[bytes]:
    """The process of a server on `store`/mlflow.db, a leader of its group."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{store}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(store / "artifacts")),
    ]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (store / "log").open("ab") as log:
        return subprocess.Popen(command, env=quiet, stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 the server with its workers."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()


def wait_for(uri: str) -> None:
    """Return when the server answers; fail after 40 s."""
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")
