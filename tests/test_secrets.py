"""Planted secrets go through the commands of a lab, and are nowhere afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from celltasks import is_gone, wait_until
from conftest import MakeLab
from daskcluster import Cluster
from mlflowserver import free_port, kill, start_server, wait_for

from birdlab.cli import app as entry
from birdlab.lab import Lab
from birdlab.tracking.drivernotes import load_driver

PLANTED = {
    "BIRDLAB_NOTIFY_URL": "http://127.0.0.1:{port}/hook-PLANTED1",
    "MLFLOW_TRACKING_USERNAME": "PLANTED2",
    "MLFLOW_TRACKING_PASSWORD": "PLANTED3",
    "MLFLOW_TRACKING_TOKEN": "PLANTED4",
    "XENO_CANTO_KEY": "PLANTED5",
}
"""What a person has in the environment; each holds a word that must not come out of it."""

AT_A_SERVER = 'tracking_uri = "http://me:PLANTED6@127.0.0.1:{port}"\n'
IN_THE_LAB_FILE = 'notify_url = "http://127.0.0.1:{port}/hook-PLANTED7"\n'

COMMANDS = (
    "run tiny.yaml",
    "run tiny.yaml --set train.optimizer.lr=1e30 --set name=broken",  # fails, with a traceback
    "-v run tiny.yaml --set train.optimizer.lrr=1",
    "runs --json",
    "show -1",
    "doctor",
    "report tiny -o report.html",
    "export tiny -o tiny.tar",
    "mlflow sync",
    "lb add tiny --public .5",
    "bundle @champion -o bundle",
    "promote tiny --dry-run",
    "gc",
    "data xenocanto lists/none.yaml",
)
SWEEP = """\
name: rates
base: tiny.yaml
grid:
  train.optimizer.lr: [2.0e-3, 1.0e+30]
"""
AFTER_THE_SWEEP = (
    "run tiny.yaml",  # nothing is trained: the server gets the run, and then its model
    "promote tiny --force --reason tried",
    "bundle @champion --no-wheels -o bundle",
    "models list",
    "status",
    "show rates:lr=0.002",
)
Typed = Callable[[str], str]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Type a command as a person does: all that it printed, whatever came of it."""

    def call(words: str) -> str:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["birdlab", *words.split()])
        with pytest.raises(SystemExit):
            entry.main()
        return "".join(capfd.readouterr())

    return call


def planted_in(folder: Path) -> list[str]:
    """The files below a folder that hold a planted word, the lab file apart: a person wrote it."""
    found = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "birdlab.toml":
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            content += pd.read_parquet(path).to_csv().encode()
        if b"PLANTED" in content:
            found.append(str(path.relative_to(folder)))
    return found


def lab_with_secrets(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, *, server: bool, port: int = 0
) -> Lab:
    """A lab whose file and environment hold secrets; its server, if any, answers at the port."""
    lab = make_lab(trained=True, mlflow=not server)
    nobody = free_port()
    file = lab.root / "birdlab.toml"
    lines = IN_THE_LAB_FILE.format(port=nobody)
    lines += AT_A_SERVER.format(port=port or nobody) if server else ""
    file.write_text(lines + file.read_text())
    for name, value in PLANTED.items():
        if name != "BIRDLAB_NOTIFY_URL" or server:  # it goes before that of the lab file
            monkeypatch.setenv(name, value.format(port=nobody))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    return lab


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(False, id="own store"),
        pytest.param(True, id="a server that is down", marks=pytest.mark.slow),
    ],
)
def test_secrets_stay_where_they_are(
    server: bool, make_lab: MakeLab, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_with_secrets(make_lab, monkeypatch, server=server)
    for words in COMMANDS:
        assert "PLANTED" not in typed(words), words
    assert planted_in(lab.root) == []
    assert list(lab.stores.glob("failed/*")), "no cell failed, so no traceback was looked at"
    assert (lab.root / "tiny.tar").is_file() and (lab.root / "report.html").is_file()


@pytest.fixture
def served(tmp_path: Path, mlflow_database: Path) -> Iterator[tuple[int, Path]]:
    """The port and the folder of an MLflow server that answers."""
    store, port = tmp_path / "server", free_port()
    store.mkdir()
    (store / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    server = start_server(store, port)
    try:
        wait_for(f"http://127.0.0.1:{port}")
        yield port, store
    finally:
        kill(server)


@pytest.mark.slow
def test_a_server_that_answers_a_detached_sweep_and_a_bundle_repeat_none(
    served: tuple[int, Path], make_lab: MakeLab, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, store = served
    lab = lab_with_secrets(make_lab, monkeypatch, server=True, port=port)
    (lab.root / "rates.yaml").write_text(SWEEP)
    command = [sys.executable, "-m", "birdlab.cli.app", "sweep", "rates.yaml", "--detach"]
    begun = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PLANTED" not in begun.stdout + begun.stderr
    note = load_driver(lab.stores / "drivers", "rates")
    assert note is not None
    wait_until(lambda: is_gone(note.pid), seconds=120)
    for words in AFTER_THE_SWEEP:
        assert "PLANTED" not in typed(words), words

    assert planted_in(lab.root) == []
    assert planted_in(store) == [], "the server's database, artifacts and log"
    log = (lab.stores / "drivers" / "rates.log").read_text()
    assert "1e+30" in log, "the sweep wrote of its failure where it was looked at"
    assert (lab.root / "bundle" / "README.md").is_file()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) >= 6 and sum(bool(run.data.params) for run in runs) >= 2


@pytest.fixture
def tls_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A scheduler and a worker behind TLS; keys and certificates are in the environment alone."""
    import dask
    from distributed.security import Security

    own = Security.temporary()
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", own.tls_ca_file)
    for who in ("CLIENT", "SCHEDULER", "WORKER"):
        for what in ("KEY", "CERT"):
            text = getattr(own, f"tls_{who}_{what}".lower())
            monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__{what}", f"PLANTED8\n{text}")
    dask.config.refresh()
    cluster = Cluster(tmp_path / "cluster")
    cluster.folder.mkdir()
    try:
        cluster.start_scheduler("tls")
        cluster.start_worker(1)
        yield cluster
    finally:
        cluster.end()
        monkeypatch.undo()
        dask.config.refresh()


@pytest.mark.slow
def test_keys_of_a_cluster_stay_where_they_are(
    tls_cluster: Cluster, make_lab: MakeLab, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_with_secrets(make_lab, monkeypatch, server=False)
    again = "-v run tiny.yaml --set name=away --set train.optimizer.lr="
    for words in (
        f"{again}2e-3 --scheduler {tls_cluster.address}",
        f"{again}1e30 --scheduler {tls_cluster.address}",  # fails on the worker
        f"{again}4e-3 --scheduler tls://127.0.0.1:{free_port()}",  # nobody listens
        "doctor",
    ):
        assert "PLANTED" not in typed(words), words
    assert planted_in(lab.root) == planted_in(tls_cluster.folder) == []
    assert tls_cluster.address.startswith("tls://")
    assert list(lab.stores.glob("failed/*")), "no cell failed, so no traceback was looked at"


def test_a_planted_word_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text("PLANTED")
    (tmp_path / "a.db").write_bytes(b"\0\1PLANTED9\0")
    pd.DataFrame({"note": ["PLANTED"] * 900}).to_parquet(tmp_path / "b.parquet", compression="zstd")
    assert sorted(planted_in(tmp_path)) == ["a.db", "b.parquet"]
