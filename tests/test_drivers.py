"""Drivers: who runs what, one at a time, what is seen of it, how it stops, a word at the end."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeLab
from typer import Exit
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.cli.drivers import SHOWN
from birdlab.cli.driving import driving
from birdlab.errors import LabError, StoppedError
from birdlab.lab import Lab
from birdlab.labfile import LabFile
from birdlab.run import run_experiments
from birdlab.runresult import RunNote
from birdlab.spec import load_spec
from birdlab.tasks import Event, InProcess
from birdlab.tracking.drivernotes import DriverNote, load_drivers
from birdlab.tracking.drivers import ALL, Driver, ask_to_stop, wait_for_end
from birdlab.tracking.webhook import notify

REPOSITORY = Path(__file__).parents[1]
HOLD = """
import sys, time
from birdlab.lab import open_lab
from birdlab.tracking.drivers import Driver
with Driver(open_lab(), "lr", "sweep", ["birdlab", "sweep", "lr.yaml"]):
    print("holds", flush=True)
    time.sleep(60)
"""


def start(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=lab.root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def only(lab: Lab) -> DriverNote:
    (note,) = load_drivers(lab)
    return note


def sweep_file(lab: Lab, steps: int = 4) -> str:
    path = lab.root / "lr.yaml"
    path.write_text(
        f"base: tiny.yaml\nset: {{train.length.steps: {steps}}}\n"
        "grid: {train.optimizer.lr: [1e-3, 2e-3]}\ncells: {folds: all, seeds: [0]}\n"
    )
    return path.name


# ---------------------------------------------------------------- one at a time


def test_one_driver_at_a_time_and_a_dead_one_is_lost(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    process = start(lab, "-c", HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    with pytest.raises(LabError) as caught, Driver(lab, "lr", "sweep", ["again"]):
        pass
    assert str(process.pid) in str(caught.value.got)
    assert "birdlab stop lr" in str(caught.value.fix)
    assert only(lab).state == "running"
    process.kill()
    process.wait()
    process.stdout.close()
    assert only(lab).state == "lost"
    with Driver(lab, "lr", "sweep", ["again"]) as driver:
        assert only(lab).state == "running", "a lock goes with its process"
        assert driver.wanted("lr=1")
    assert only(lab).state == "finished"


def test_a_driver_of_another_machine_is_known_by_its_signs_of_life(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with Driver(lab, "lr", "sweep", []):
        pass
    path = lab.stores / "drivers" / "lr.json"
    note = {**json.loads(path.read_text()), "host": "elsewhere", "state": "running"}
    path.write_text(json.dumps(note))
    assert only(lab).state == "running"
    path.write_text(json.dumps({**note, "updated_at": "2026-01-01T00:00:00+00:00"}))
    assert only(lab).state == "lost"


def test_a_process_with_the_number_of_a_dead_driver_is_not_taken_for_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with Driver(lab, "lr", "sweep", []):
        path = lab.stores / "drivers" / "lr.json"
        note = json.loads(path.read_text())
        path.write_text(json.dumps({**note, "created": note["created"] - 1000}))
        assert only(lab).state == "lost"


def test_what_happens_to_cells_is_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with pytest.raises(LabError, match="broken"), Driver(lab, "lr", "sweep", []) as driver:
        for cell in ("a", "b", "c"):
            driver.event(Event("queued", cell, {"title": f"cell {cell}"}))
        driver.event(Event("start", "a", {"epochs": 4}))
        driver.event(Event("epoch", "a", {"epoch": 0, "n_epochs": 4, "loss": 0.5}))
        driver.event(Event("done", "b"))
        driver.event(Event("failed", "c", {"error": "no\nmore"}))
        wait_until(lambda: only(lab).count("failed") == 1, 5)
        note = only(lab)
        assert note.cells["a"] == {
            "title": "cell a",
            "state": "running",
            "epochs": 4,
            "epoch": 1,
            "loss": 0.5,
        }
        assert note.share == pytest.approx((0.25 + 1 + 0) / 3)
        raise LabError("broken")
    assert (only(lab).state, only(lab).said) == ("failed", "broken")


def test_a_note_that_cannot_be_written_is_written_when_it_can(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with Driver(lab, "lr", "sweep", ["birdlab", "run", "two words.yaml"]) as driver:
        path = lab.stores / "drivers" / "lr.json"
        path.unlink()
        path.mkdir()  # nothing can be renamed to it
        before = path.parent.stat().st_mtime_ns
        driver.event(Event("queued", "a", {"title": "cell a"}))
        wait_until(lambda: path.parent.stat().st_mtime_ns != before, 5)  # it was tried
        wait_until(lambda: not any(path.parent.glob(".*.part")), 5)  # and left nothing
        path.rmdir()
        driver.event(Event("done", "a"))
        wait_until(path.is_file, 5)
        assert only(lab).count("done") == 1
        driver.end("failed", "one arm has no score")
    assert (only(lab).state, only(lab).said) == ("failed", "one arm has no score")
    assert only(lab).command == "birdlab run 'two words.yaml'"


def test_drivers_that_ended_are_not_shown_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    if not cli.app.registered_commands:
        cli._register()
    lab = Lab(tmp_path)
    with Driver(lab, "old", "sweep", []):
        pass
    with ExitStack() as running:
        for n in range(SHOWN):
            running.enter_context(Driver(lab, f"now{n}", "sweep", []))
        shown = CliRunner().invoke(cli.app, ["status"]).output
    assert shown.count(": running") == SHOWN
    assert "sweep old" not in shown


def test_an_error_of_any_kind_is_told_by_the_webhook(
    tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, got = webhook
    lab = Lab(tmp_path, LabFile(notify_url=url))
    with pytest.raises(OSError), driving(lab, "lr", "sweep"):
        raise OSError("no space left")
    with pytest.raises(Exit), driving(lab, "lr", "sweep"):
        raise KeyboardInterrupt
    assert [sent["text"] for sent in got] == ["sweep lr failed: OSError"]


# ---------------------------------------------------------------- stopping


def test_an_arm_that_nobody_wants_has_no_score_and_the_other_does(make_lab: MakeLab) -> None:
    lab = make_lab()
    specs = [
        (load_spec(lab.root / "tiny.yaml", {"name": name, "train.optimizer.lr": lr}), name)
        for name, lr in (("a", 1e-3), ("b", 2e-3))
    ]
    with Driver(lab, "lr", "sweep", []) as driver, InProcess() as executor:
        ask_to_stop(lab, "lr", "b")
        results = run_experiments(
            [(spec, RunNote(title=name)) for spec, name in specs],
            lab=lab,
            executor=executor,
            emit=driver.event,
            wanted=driver.wanted,
        )
        assert driver.wanted("a")
        assert not driver.wanted("b")
    assert not isinstance(results[0], StoppedError)
    assert isinstance(results[1], StoppedError)
    assert (only(lab).count("done"), len(only(lab).cells)) == (2, 4)


def test_a_detached_sweep_is_seen_stopped_and_goes_on(make_lab: MakeLab) -> None:
    lab = make_lab()
    cli = ("-m", "birdlab.cli.app")
    command = ("sweep", sweep_file(lab, 20_000), "--no-mlflow", "--jobs", "1")
    begun = start(lab, *cli, *command, "--detach")
    said, _ = begun.communicate(timeout=100)
    assert begun.returncode == 0, said
    assert "birdlab stop lr" in said
    wait_until(lambda: only(lab).count("running") == 1)
    log = lab.stores / "drivers" / "lr.log"
    wait_until(lambda: log.stat().st_size > 0)
    printed = log.read_text()
    second = start(lab, *cli, *command, "--detach")
    assert "is being run already" in second.communicate(timeout=100)[0]
    assert second.returncode == 1
    assert log.read_text().startswith(printed), "the log is still that of the first"
    wait_until(lambda: "loss" in log.read_text())
    status = start(lab, *cli, "status")
    shown, _ = status.communicate(timeout=60)
    assert "sweep lr: running" in shown
    assert "of 4 cells done" in shown
    stop = start(lab, *cli, "stop", "lr")
    shown, _ = stop.communicate(timeout=120)
    assert stop.returncode == 0, shown
    assert "go on with: birdlab sweep lr.yaml" in shown
    assert only(lab).state == "stopped"
    parts = list(lab.cells.glob(".*.part/checkpoint.pt"))
    assert len(parts) == 1, "it saved the cell that it was at"
    assert wait_for_end(lab, "lr", 0)


def test_sigterm_ends_a_driver_as_stopped(make_lab: MakeLab) -> None:
    lab = make_lab()
    program = "from birdlab.cli.app import start; start()"  # `-m` may die of the signal instead
    process = start(lab, "-c", program, "sweep", sweep_file(lab, 400), "--no-mlflow", "-j1")
    wait_until(lambda: bool(load_drivers(lab)) and only(lab).count("running") == 1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert only(lab).state == "stopped"


def test_a_driver_elsewhere_looks_whether_it_is_asked_to_stop(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with Driver(lab, "lr", "sweep", []) as driver:
        path = lab.stores / "drivers" / "lr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere"}))
        ask_to_stop(lab, "lr")
        assert not driver.wanted("anything")
        assert not driver.wanted(ALL)
    with Driver(lab, "lr", "sweep", []) as driver:
        assert driver.wanted("anything")


# ---------------------------------------------------------------- a word at the end


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps what it is sent, and refuses what asks for it."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(403 if self.path == "/refuse" else 200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_a_word(
    tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = webhook
    assert notify(Lab(tmp_path), "nobody hears") == ""
    assert notify(Lab(tmp_path, LabFile(notify_url=f"{url}/secret")), "done") == ""
    assert got == [{"text": "done", "content": "done"}]
    refused = notify(Lab(tmp_path, LabFile(notify_url=f"{url}/refuse")), "done")
    assert refused == "the webhook answered 403"
    monkeypatch.setenv("BIRDLAB_NOTIFY_URL", "http://127.0.0.1:9/token")
    unreached = notify(Lab(tmp_path, LabFile(notify_url=url)), "done")
    assert "not reached" in unreached
    assert "token" not in unreached
