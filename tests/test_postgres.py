"""MLflow on PostgreSQL: a private cluster in a temporary folder, by an unprivileged user."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeLab

from birdlab.lab import Lab, open_lab
from birdlab.tracking.index import load_link
from birdlab.tracking.links import open_links

USER = "postgres"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(on_path).resolve().parent if on_path else found[-1].parent if found else None


def why_not() -> str:
    """Why the cluster cannot be started here; "" where it can."""
    if programs() is None:
        return "PostgreSQL is not installed: make postgres"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'birdlab[postgres]'"
    if os.getuid() == 0 and USER not in {user.pw_name for user in pwd.getpwall()}:
        return f"PostgreSQL refuses root, and there is no user {USER}"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")


def as_user(*command: str) -> None:
    """Run a command as the unprivileged user, or as oneself who is one."""
    prefix = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database of a cluster of this test's own."""
    bin_folder = programs()
    assert bin_folder is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path may have 107 characters
    if os.getuid() == 0:
        shutil.chown(folder, USER)
    cluster, control = str(folder / "data"), str(bin_folder / "pg_ctl")
    owned = ("-U", USER, "-A", "trust", "-N", "-E", "UTF8")
    as_user(str(bin_folder / "initdb"), "-D", cluster, *owned)
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    as_user(control, "-D", cluster, "-o", settings, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    finally:
        as_user(control, "-D", cluster, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def birdlab(lab: Lab, *words: str) -> str:
    """What a command prints, in a process of its own, so that its connections end with it."""
    done = subprocess.run(
        [sys.executable, "-m", "birdlab.cli.app", *words],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "error" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def test_a_sweep_is_logged_to_postgresql(make_lab: MakeLab, database: str) -> None:
    lab = make_lab(trained=True)
    toml = lab.root / "birdlab.toml"
    toml.write_text(f'tracking_uri = "{database}"\n' + toml.read_text())
    lab = open_lab(lab.root)
    out = birdlab(lab, "sweep", "tiny.yaml", "--grid", "evaluate.secondary=count,ignore")
    assert "verdict" in out and "not in MLflow yet" not in out
    assert open_links(lab) == []
    assert not (lab.stores / "mlflow.db").exists()
    code = (
        "import json, sys\nfrom birdlab.lab import open_lab\n"
        "from birdlab.tracking.client import connect\nclient = connect(open_lab(sys.argv[1]))\n"
        "ids = [e.experiment_id for e in client.search_experiments()]\n"
        "print(json.dumps({r.info.run_id: [r.info.status, r.data.metrics, r.data.tags]"
        " for r in client.search_runs(ids)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab.root)], capture_output=True, text=True, check=True
    )
    runs = json.loads(done.stdout)
    assert {status for status, _, _ in runs.values()} == {"FINISHED"}
    kinds = sorted(tags["birdlab.kind"] for _, _, tags in runs.values())
    assert kinds == ["cell"] * 4 + ["run"] * 2 + ["sweep"]
    arms = [p.stem for p in lab.runs.glob("*.json") if "." not in p.stem]
    scored = [runs[load_link(lab, arm)["parent"]] for arm in arms if load_link(lab, arm)]
    assert len(scored) == 2
    assert all(metrics["cv/padded_cmap"] > 0 for _, metrics, _ in scored)
