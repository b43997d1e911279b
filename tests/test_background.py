"""MLflow in the background: a server that is killed, hangs or is not there costs no training."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import MakeLab
from mlflowserver import free_port, kill, start_server, wait_for
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.errors import TrackingError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.record import collect
from birdlab.runresult import RunNote, RunResult
from birdlab.spec import load_spec
from birdlab.tracking import mlflow_sink
from birdlab.tracking.client import connect
from birdlab.tracking.links import edit_link, open_links
from birdlab.tracking.mlflow_sink import MlflowSink
from birdlab.tracking.outbox import Item, Outbox
from birdlab.tracking.runextras import Extras
from birdlab.tracking.sync import reconcile, sync

MOST_S = 0.25
"""What a run may cost the driver."""

Serve = Callable[[], subprocess.Popen[bytes]]


def track_at(lab: Lab, uri: str) -> Lab:
    """The lab with another place to log to."""
    toml = lab.root / "birdlab.toml"
    toml.write_text(f'tracking_uri = "{uri}"\n' + toml.read_text())
    return open_lab(lab.root)


@pytest.fixture(autouse=True)
def no_setting_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client sets in the environment is gone after the test."""
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)


@pytest.fixture
def server(
    make_lab: MakeLab, tmp_path: Path, mlflow_database: Path
) -> Iterator[tuple[Lab, Serve, list[subprocess.Popen[bytes]]]]:
    """A lab that logs to a server, a function that starts it, and the processes it started."""
    port, started = free_port(), []
    store = tmp_path / "server"
    store.mkdir()
    (store / "mlflow.db").write_bytes(mlflow_database.read_bytes())

    def serve() -> subprocess.Popen[bytes]:
        started.append(start_server(store, port))
        return started[-1]

    yield track_at(make_lab(trained=True), f"http://127.0.0.1:{port}"), serve, started
    for process in started:
        kill(process)


def blends(lab: Lab, sink: MlflowSink, shares: list[float]) -> tuple[list[RunResult], float]:
    """Results of runs that differ in their output, and the longest time one cost the driver."""
    results, longest = [], 0.0
    for share in shares:
        changes = {"output": {"clip": share, "time_max": 1 - share}, "name": f"clip {share}"}
        plan, note = plan_experiment(load_spec(lab.root / "tiny.yaml", changes), lab), RunNote()
        began = time.perf_counter()
        sink.started(plan, note)
        told = time.perf_counter() - began
        results.append(collect(plan, lab, note, set()))
        began = time.perf_counter()
        sink.finished(results[-1])
        longest = max(longest, told + time.perf_counter() - began)
    return results, longest


def parents(lab: Lab) -> dict[str, list[str]]:
    """The status of every parent run, by spec id."""
    client, found = connect(lab), {}
    for run in client.search_runs(
        [e.experiment_id for e in client.search_experiments()], "tags.`birdlab.kind` = 'run'"
    ):
        found.setdefault(run.data.tags["spec_id"], []).append(run.info.status)
    return found


@pytest.mark.crash
def test_a_server_that_is_killed_and_started_again_gets_everything_once(
    server: tuple[Lab, Serve, list[subprocess.Popen[bytes]]],
) -> None:
    lab, serve, _ = server
    first = serve()
    wait_for(lab.tracking_uri)
    said: list[str] = []
    sink = MlflowSink(lab, tell=said.append)
    before, _ = blends(lab, sink, [0.1, 0.2, 0.3])
    while before[0].spec_id in open_links(lab):
        time.sleep(0.01)
    kill(first)  # the second run is half written
    during, longest = blends(lab, sink, [0.4, 0.5])
    assert longest < MOST_S
    assert sink.outbox.close(1.5), "nobody listens"
    assert len(open_links(lab)) >= 4

    serve()
    wait_for(lab.tracking_uri)
    again = MlflowSink(lab, tell=said.append)
    after, _ = blends(lab, again, [0.6])
    assert again.close() == []
    report = sync(lab, Extras())
    assert report.refused == {}
    records = [path.stem for path in lab.runs.glob("*.json") if "." not in path.stem]
    assert {r.spec_id for r in (*before, *during, *after)} <= set(records)
    assert parents(lab) == {spec_id: ["FINISHED"] for spec_id in records}
    client = connect(lab)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert [r.info.status for r in runs] == ["FINISHED"] * (3 * len(records))
    assert open_links(lab) == []


def test_runs_wait_for_a_server_that_comes_back_in_time() -> None:
    told: list[Item] = []
    away = [True]

    def write(item: Item) -> None:
        if away[0]:
            raise ConnectionError("nobody listens")
        told.append(item)

    outbox = Outbox(write)
    for name in ("a", "b", "a"):
        outbox.put(("run", name))
    time.sleep(0.7)
    assert told == [] and outbox.trouble == "nobody listens"
    away[0] = False
    assert outbox.close(5) == []
    assert sorted(told) == [("run", "a"), ("run", "b")]


def test_what_is_refused_is_named_and_stops_nothing() -> None:
    told: list[Item] = []

    def write(item: Item) -> None:
        if item[1] == "wrong":
            raise ValueError("no such thing")
        told.append(item)

    outbox = Outbox(write)
    outbox.put(("run", "wrong"))
    outbox.put(("run", "right"))
    assert outbox.close(5) == [("run", "wrong")]
    assert outbox.refused == {("run", "wrong"): "ValueError: no such thing"}
    assert told == [("run", "right")]


def test_what_was_refused_and_is_taken_later_is_not_left() -> None:
    refusing = [True]

    def write(_: Item) -> None:
        if refusing[0]:
            raise ValueError("no such thing")

    outbox = Outbox(write)
    outbox.put(("run", "a"))
    while not outbox.refused:
        time.sleep(0.01)
    refusing[0] = False
    outbox.put(("run", "a"))
    assert outbox.close(5) == []


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_sweep_without_a_summary_leaves_nothing_to_wait_for(make_lab: MakeLab) -> None:
    said: list[str] = []
    with MlflowSink(make_lab(), tell=said.append) as sink:
        sink.summarise("lr")
    assert said == []


def test_a_server_that_hangs_costs_the_driver_nothing(make_lab: MakeLab, silent: str) -> None:
    lab = track_at(make_lab(trained=True), silent)
    said: list[str] = []
    sink = MlflowSink(lab, tell=said.append)
    (result,), longest = blends(lab, sink, [0.2])
    assert longest < MOST_S
    began = time.perf_counter()
    assert sink.close(1.0) == [("run", result.spec_id)]
    assert time.perf_counter() - began < 2
    assert said[-1].startswith("not in MLflow yet: 1 runs or summaries")
    assert "birdlab mlflow sync" in said[-1]


def test_a_command_ends_well_without_its_server(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = track_at(make_lab(trained=True), f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(mlflow_sink, "WAIT_S", 1.0)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    if not cli.app.registered_commands:
        cli._register()
    done = CliRunner().invoke(cli.app, ["run", str(lab.root / "tiny.yaml")])
    assert done.exit_code == 0, done.output
    assert "padded cmAP" in done.output
    assert "not in MLflow yet" in done.output and "birdlab mlflow sync" in done.output


def test_reconciling_with_a_server_that_is_gone_is_told_and_raises_nothing(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdlab.tracking.sync.RECONCILE_S", 1.0)
    lab = track_at(make_lab(trained=True), f"http://127.0.0.1:{free_port()}")
    (record,) = lab.runs.glob("*.json")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with edit_link(lab, record.stem) as link:
        link["due"] = f"{socket.gethostname()}:{gone.pid}:1.00 1"
    (said,) = reconcile(lab, Extras())
    assert "not in MLflow yet" in said and record.stem in said
    assert open_links(lab) == [record.stem]


def test_a_password_in_the_address_is_in_no_message(make_lab: MakeLab) -> None:
    lab = track_at(make_lab(trained=True), f"http://me:p@ss:word@127.0.0.1:{free_port()}")
    with pytest.raises(TrackingError) as caught:
        connect(lab)
    said = [str(caught.value)]
    sink = MlflowSink(lab, tell=said.append)
    blends(lab, sink, [0.3])
    assert sink.close(1.0)
    assert sink.outbox.trouble and "API request to http://127.0.0.1" in said[-1]
    links = [path.read_text() for path in lab.runs.glob("*.mlflow.json")]
    for text in (*said, *links):
        assert "ss:word" not in text and "me:" not in text


def test_a_run_costs_the_driver_little_with_the_lab_s_own_database(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(trained=True, mlflow=True)
    with MlflowSink(lab) as sink:
        _, longest = blends(lab, sink, [0.1 * n for n in range(1, 9)])
    assert longest < MOST_S
    assert sum(len(status) for status in parents(lab).values()) == 8
