"""Planted secrets go through the commands of a lab, and are nowhere afterwards."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeLab

from birdlab.cli import app as entry
from birdlab.lab import Lab

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
Typed = Callable[[str], str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


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


def lab_with_secrets(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, *, server: bool) -> Lab:
    lab = make_lab(trained=True, mlflow=not server)
    port = free_port()
    file = lab.root / "birdlab.toml"
    lines = IN_THE_LAB_FILE + (AT_A_SERVER if server else "")
    file.write_text(lines.format(port=port) + file.read_text())
    for name, value in PLANTED.items():
        if name != "BIRDLAB_NOTIFY_URL" or server:  # it goes before that of the lab file
            monkeypatch.setenv(name, value.format(port=port))
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


def test_a_planted_word_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text("PLANTED")
    (tmp_path / "a.db").write_bytes(b"\0\1PLANTED9\0")
    pd.DataFrame({"note": ["PLANTED"] * 900}).to_parquet(tmp_path / "b.parquet", compression="zstd")
    assert sorted(planted_in(tmp_path)) == ["a.db", "b.parquet"]
