"""MLflow agrees with the lab: after a crash, after a lost store, with several drivers at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeLab

from birdlab.costs import costs_of, model_id
from birdlab.errors import CellError
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.processes import is_gone, own_process
from birdlab.record import collect
from birdlab.run import run_experiment
from birdlab.runresult import RunNote, RunResult
from birdlab.spec import load_spec
from birdlab.storedrun import load_result
from birdlab.tracking import summaries
from birdlab.tracking.client import connect
from birdlab.tracking.index import load_link
from birdlab.tracking.links import (
    edit_link,
    open_links,
    wish,
)
from birdlab.tracking.mlflow_sink import MlflowSink
from birdlab.tracking.runextras import Extras
from birdlab.tracking.sync import reconcile, sync

DELTA = {"train.batch": 4}


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(trained=True, mlflow=True)


def files(result: RunResult) -> dict[str, str]:
    return {"report.txt": f"{result.spec_id} {len(result.curves)} {len(result.waterfall)}"}


def run(lab: Lab, changes: dict[str, Any] | None = None, **note: Any) -> RunResult:
    spec = load_spec(lab.root / "tiny.yaml", changes or {})
    with MlflowSink(lab, Extras(files)) as sink:
        return run_experiment(spec, lab=lab, sinks=[sink], note=RunNote(**note))


def store_says(lab: Lab) -> dict[str, Any]:
    """All that a reader of MLflow sees, without ids and times."""
    client = connect(lab)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    seen = {}
    for r in runs:
        hidden = ("birdlab.driver", "birdlab.attempt", "mlflow.parentRunId", "mlflow.user")
        tags = {k: v for k, v in r.data.tags.items() if k not in hidden}
        name = (tags.get("spec_id", ""), r.info.run_name)
        seen[name] = {
            "status": r.info.status,
            "metrics": r.data.metrics,
            "params": r.data.params,
            "tags": tags,
            "inputs": sorted((d.dataset.name, d.dataset.digest) for d in r.inputs.dataset_inputs),
            "files": sorted(f.path for f in client.list_artifacts(r.info.run_id)),
            "curve": [m.value for m in client.get_metric_history(r.info.run_id, "loss")],
        }
    return seen


# ---------------------------------------------------------------- a run from the lab alone


def test_a_stored_run_reads_as_it_was(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    made = run(lab, title="small", delta=DELTA)
    read = load_result(lab, made.spec_id)
    assert read.spec == made.spec
    assert read.scores == made.scores
    assert (read.trained, read.cached) == (0, 2)
    for name in ("classes", "waterfall", "dropped", "curves"):
        ours, theirs = getattr(read, name), getattr(made, name)
        assert ours[list(theirs.columns)].to_csv() == theirs.to_csv(), name
    assert read.cells["padded_cmap"].tolist() == pytest.approx(made.cells["padded_cmap"].tolist())


def test_a_record_without_tables_reads_with_empty_ones(lab: Lab) -> None:
    (path,) = lab.runs.glob("*.json")
    shutil.rmtree(path.with_suffix(""))
    shutil.rmtree(lab.cells)
    read = load_result(lab, path.stem)
    assert read.cv > 0
    assert all(getattr(read, n).empty for n in ("classes", "waterfall", "dropped", "curves"))
    assert sync(lab, Extras(files)).runs == [path.stem]


# ---------------------------------------------------------------- sync


def test_a_lost_store_is_built_again_as_it_was(lab: Lab, mlflow_database: Path) -> None:
    one = run(lab, {"name": "one"}, title="arm 1", sweep="s", delta={"output.clip": 0.75})
    two = run(lab, {"name": "two", "output": {"clip": 1.0, "time_max": 0.0}}, sweep="s", title="b")
    summaries.save_summary(
        lab,
        "s",
        project=one.spec.project,
        arms={"arm 1": one.spec_id, "b": two.spec_id},
        metrics={"cv/best_padded_cmap": one.cv},
        tags={"best": "arm 1"},
        files={"ranking.csv": "arm,mean\n", "report.html": "<p>hello</p>"},
    )
    scores = {one.spec_id: ({"lb/public": 0.5}, {"lb/metric": "padded_cmap"})}
    extras = Extras(files, lambda _: scores)
    first = sync(lab, extras)
    assert set(first.runs) >= {one.spec_id} and first.sweeps == ["s"]
    before = store_says(lab)
    shutil.copy(mlflow_database, lab.stores / "mlflow.db")
    again = sync(lab, extras)
    assert {one.spec_id, two.spec_id} <= set(again.runs)
    assert again.sweeps == ["s"]
    after = store_says(lab)
    assert after == before
    (parent,) = [s for (spec_id, _), s in after.items() if spec_id == one.spec_id and s["inputs"]]
    assert parent["metrics"]["lb/public"] == 0.5
    assert {seen["status"] for seen in after.values()} == {"FINISHED"}

    quiet = sync(lab, extras)
    assert (quiet.runs, quiet.sweeps, quiet.ended) == ([], [], [])
    assert quiet.unchanged == len({one.spec_id, two.spec_id}) + 1


def test_the_command_fills_a_store_that_was_deleted(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    command = [
        sys.executable,
        "-m",
        "birdlab.cli.app",
        "-q",
        "--lab",
        str(lab.root),
        "mlflow",
        "sync",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 runs and 0 summaries logged, 0 runs ended, 0 in MLflow already" in done.stdout
    assert statuses(lab) == ["FINISHED"] * 3


def test_a_run_that_was_deleted_in_mlflow_stays_deleted(lab: Lab) -> None:
    result = run(lab)
    client, parent = connect(lab), load_link(lab, result.spec_id)["parent"]
    client.delete_run(parent)
    report = sync(lab, Extras(files))
    assert report.deleted == 1 and report.runs == []
    assert client.get_run(parent).info.lifecycle_stage == "deleted"


def test_an_older_copy_of_the_store_catches_up(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    run(lab, {"cells.folds": [0]})
    backup = (lab.stores / "mlflow.db").read_bytes()
    full = run(lab)
    now = store_says(lab)
    (lab.stores / "mlflow.db").write_bytes(backup)
    assert sync(lab, Extras(files)).runs == [full.spec_id]
    assert store_says(lab) == now


# ---------------------------------------------------------------- what a run carries


def test_a_run_names_its_data_and_what_its_model_costs(lab: Lab) -> None:
    changes = {"train.batch": 6, "cells.folds": [0]}
    result = run(lab, changes)
    client = connect(lab)
    parent = client.get_run(load_link(lab, result.spec_id)["parent"])
    named = {d.dataset.name: d.dataset for d in parent.inputs.dataset_inputs}
    assert set(named) == {"tiny"}
    assert json.loads(named["tiny"].source) == {"data": "tiny"}
    roles = {t.value for d in parent.inputs.dataset_inputs for t in d.tags}
    assert roles >= {"base"}
    costs = costs_of(lab, model_id(result.spec, 4))
    assert costs is not None
    metrics = parent.data.metrics
    assert metrics["model/parameters"] == costs.parameters > 100_000
    assert metrics["model/size_mb"] == pytest.approx(4e-6 * costs.parameters, rel=0.2)
    assert 0 < metrics["model/cpu_ms_per_window"] == costs.cpu_ms_per_window < 1000
    assert parent.data.tags["model/cpu"] == costs.processor
    assert len(parent.data.params) <= 15


def test_a_run_that_a_race_stopped_is_finished_without_a_score(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    spec = load_spec(lab.root / "tiny.yaml", {"cells.seeds": [0, 1]})
    plan = plan_experiment(spec, lab)
    with MlflowSink(lab, Extras(files)) as sink:
        sink.started(plan, RunNote(title="slow", sweep="race"))
        result = collect(
            plan, lab, RunNote(title="slow", sweep="race"), set(), seeds=[0], stopped_at="round 1"
        )
        sink.finished(result)
    client, link = connect(lab), load_link(lab, result.spec_id)
    parent = client.get_run(link["parent"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["stopped_at"] == "round 1"
    assert not any(key.startswith("cv/") for key in parent.data.metrics)
    assert set(link["children"]) == {"0-0", "1-0"}
    child = client.get_run(link["children"]["0-0"])
    assert child.data.metrics["padded_cmap"] >= 0
    run(lab, {"cells.seeds": [0, 1]})
    parent = client.get_run(load_link(lab, result.spec_id)["parent"])
    assert "cv/padded_cmap" in parent.data.metrics
    assert "stopped_at" not in parent.data.tags


def test_a_later_sweep_adds_its_tag_to_a_run_it_reuses(lab: Lab) -> None:
    result = run(lab, title="a", sweep="first")
    run(lab, title="b", sweep="second")
    parent = connect(lab).get_run(load_link(lab, result.spec_id)["parent"])
    assert parent.data.tags["sweeps"] == "first,second"


def test_system_metrics_are_an_option(lab: Lab) -> None:
    spec = load_spec(lab.root / "tiny.yaml", {"train.batch": 7, "cells.folds": [0]})
    with MlflowSink(lab, watch=True) as sink:
        assert sink.machine is not None
        sink.machine.interval_s = 0.05
        result = run_experiment(spec, lab=lab, sinks=[sink])
    client, parent = connect(lab), load_link(lab, result.spec_id)["parent"]
    points = client.get_metric_history(parent, "system/cpu_utilization_percentage")
    assert 1 <= len(points) <= 60
    assert all(0 <= p.value <= 100 for p in points)
    assert [p.step for p in points] == list(range(len(points)))


# ---------------------------------------------------------------- the truth about status

DRIVER = """
import os, sys, time
from birdlab.lab import open_lab
from birdlab.plan import plan_experiment
from birdlab.processes import is_gone, own_process
from birdlab.record import RunNote, collect
from birdlab.spec import load_spec
from birdlab.tracking.mlflow_sink import MlflowSink
lab = open_lab(sys.argv[1])
plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
sink = MlflowSink(lab)
sink.started(plan, RunNote(title="doomed"))
"""


def killed_driver(lab: Lab, then: str) -> None:
    """Run DRIVER and `then`, which prints a line when the process may be killed; kill -9 it."""
    code = DRIVER + textwrap.dedent(then) + "\nprint('now', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lab.root)], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "now\n"
        driver.kill()


def statuses(lab: Lab) -> list[str]:
    client = connect(lab)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return sorted(run.info.status for run in runs)


OPENED = "\nwhile sink.outbox._left(): time.sleep(0.02)\nassert not sink.outbox.refused"


def test_a_dead_driver_s_run_is_killed_and_one_with_a_record_is_finished(lab: Lab) -> None:
    (record,) = lab.runs.glob("*.json")
    kept = record.read_bytes()
    record.unlink()
    killed_driver(lab, OPENED)
    assert statuses(lab) == ["RUNNING"]
    (said,) = reconcile(lab, Extras(files))
    assert "KILLED" in said and record.stem in said
    assert statuses(lab) == ["KILLED"]
    assert reconcile(lab, Extras(files)) == [] == open_links(lab)

    killed_driver(lab, OPENED)
    record.write_bytes(kept)
    assert statuses(lab) == ["KILLED", "RUNNING"]
    assert "FINISHED" in reconcile(lab, Extras(files))[0]
    assert statuses(lab) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
    parent = connect(lab).get_run(load_link(lab, record.stem)["parent"])
    assert parent.data.metrics["cv/padded_cmap"] == json.loads(kept)["scores"]["cv/padded_cmap"]
    assert reconcile(lab, Extras(files)) == []


def test_a_failure_that_mlflow_never_heard_of_arrives_later(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    failing = """
    from birdlab.errors import CellError
    sink.outbox.close(0)
    sink.failed(plan, CellError("it broke"))
    """
    killed_driver(lab, failing)
    connect(lab)
    (said,) = reconcile(lab, Extras(files))
    assert "FAILED" in said
    (seen,) = store_says(lab).values()
    assert seen["status"] == "FAILED"
    assert "it broke" in seen["tags"]["mlflow.note.content"]


def test_a_half_written_run_is_completed_not_doubled(lab: Lab) -> None:
    """A driver that dies between making a run and noting its id leaves no second one."""
    result = run(lab)
    before = store_says(lab)
    link = load_link(lab, result.spec_id)
    client = connect(lab)
    child = link["children"]["0-0"]
    client.update_run(child, status="RUNNING")
    client.update_run(link["parent"], status="RUNNING")
    with edit_link(lab, result.spec_id) as now:
        now |= {"parent": "", "children": {}, "logged": ""}
        wish(now)
    assert sync(lab, Extras(files)).runs == [result.spec_id]
    assert store_says(lab) == before
    assert load_link(lab, result.spec_id)["children"]["0-0"] == child


def test_a_driver_is_known_by_its_start_as_pids_are_used_again() -> None:
    mine = own_process()
    host, pid, start = mine.rsplit(":", 2)
    assert int(pid) == os.getpid()
    assert not is_gone(mine)
    assert is_gone(f"{host}:{pid}:{float(start) - 1000:.2f}")
    assert not is_gone(f"{host}:{pid}"), "links written before told no start"
    assert not is_gone(f"another-machine:{pid}:1.0"), "nothing is known of other machines"
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert is_gone(f"{host}:{gone.pid}:{start}")


def test_what_a_living_driver_trains_is_left_to_it(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    with MlflowSink(lab) as sink:
        sink.started(plan, RunNote(title="alive"))
        sink.outbox.close(20)
    assert open_links(lab) == [plan.spec_id]
    assert reconcile(lab, Extras(files)) == []
    assert statuses(lab) == ["RUNNING"]
    with MlflowSink(lab) as other:
        other.started(plan, RunNote(title="alive"))
        other.failed(plan, CellError("no"), stopped=True)
    assert statuses(lab) == ["KILLED"]


def test_looking_for_dead_runs_imports_no_mlflow(lab: Lab) -> None:
    code = (
        "import sys\nfrom birdlab.lab import open_lab\n"
        "from birdlab.tracking.sync import reconcile\n"
        "from birdlab.tracking.runextras import Extras\n"
        "print(reconcile(open_lab(sys.argv[1]), Extras()), 'mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab.root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] False"


# ---------------------------------------------------------------- several drivers

TOGETHER = """
import os, sys
import mlflow.tracking
from birdlab.lab import open_lab
from birdlab.tracking.mlflow_sink import MlflowSink
lab, (spec_id,) = open_lab(sys.argv[1], extensions=False), sys.argv[2:]

def drive():
    sink = MlflowSink(lab, tell=print)
    sink.update(spec_id)
    return len(sink.close(90))

children = []
for _ in range(8):  # the imports are shared, nothing else is
    pid = os.fork()
    if pid == 0:
        os._exit(drive())
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


def test_eight_drivers_on_a_fresh_database_log_one_run_without_an_error(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    (record,) = lab.runs.glob("*.json")
    assert not (lab.stores / "mlflow.db").exists()
    command = [sys.executable, "-c", TOGETHER, str(lab.root), record.stem]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.splitlines()[-1:], done.stderr) == ([str([0] * 8)], ""), done.stdout
    assert statuses(lab) == ["FINISHED"] * 3, "a parent, two children"
    assert open_links(lab) == []


def test_sweeps_that_score_the_same_run_at_once_are_all_in_its_record(lab: Lab) -> None:
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    names = [f"sweep{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: collect(plan, lab, RunNote(sweep=name), set()), names))
    (record,) = lab.runs.glob("*.json")
    assert sorted(json.loads(record.read_text())["sweeps"]) == names
