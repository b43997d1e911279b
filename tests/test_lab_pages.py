"""The pages on a lab as a whole and on its sweeps: what runs, what it cost, what matters."""

from __future__ import annotations

import json
import shutil
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from browsing import (
    DRAWN,
    HOSTILE,
    MadeSource,
    choose,
    complaints,
    fits,
    save,
    serving,
    sized,
    wait,
)
from test_study_tables import build_synthetic

from birdlab.errors import TrackingError
from birdlab.lab import Lab, open_lab
from birdlab.spec import load_spec
from birdlab.study.activity import Activity, read_activity
from birdlab.study.overview import Overview, build_overview, find_unscored, load_unscored
from birdlab.study.sweep_records import load_sweep
from birdlab.study.sweep_view import build_sweep_view
from birdlab.study.tables import StudyTables
from dashboards import overview, sweeps
from dashboards.source import LabSource

BASELINE = Path(__file__).parents[1] / "experiments" / "baseline.yaml"
RATES = (1e-4, 1e-3, 1e-2)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_run(
    lab: Lab, run: str, title: str, delta: dict[str, Any], effect: float, **more: Any
) -> None:
    """A record as a run leaves it: three folds and as many seeds as asked."""
    seeds = more.pop("seeds", [0, 1])
    scores = {(f, s): 0.7 + effect + f / 100 + s / 1000 for f in range(3) for s in seeds}
    spec = load_spec(BASELINE, delta).model_dump(mode="json")
    cells = [
        {
            "fold": f,
            "seed": s,
            "cell_id": f"{run}{f}{s}",
            "padded_cmap": score,
            "floor": 0.5,
            "n_rows": 20,
            "n_classes": 4,
            "seconds": 60.0,
            "device": "A100",
        }
        for (f, s), score in scores.items()
    ]
    mean = sum(scores.values()) / len(scores)
    record = {
        "spec_id": run,
        "name": title,
        "project": "demo",
        "delta": delta,
        "sweeps": {"rates": {"title": title, "delta": delta, "stopped_at": ""}},
        "created_at": f"2026-01-02T00:00:{len(list(lab.runs.iterdir())):02d}.000+00:00",
        "updated_at": "2026-01-02T00:00:00.000+00:00",
        "spec": spec,
        "scores": {"cv/padded_cmap": mean, "cv/floor": 0.5},
        "cells": cells,
        "evaluation": {
            "metric": "padded_cmap",
            "folds": [0, 1, 2],
            "seeds": seeds,
            "n_rows": 60,
            "n_classes": 4,
            "rows_hash": "r",
            "classes_hash": "c",
        },
    }
    write_json(lab.runs / f"{run}.json", record | more)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which a race over rates ran: one arm was stopped, one failed, one is hostile."""
    root = tmp_path_factory.mktemp("pages")
    (root / "birdlab.toml").write_text("")
    lab = open_lab(root)
    lab.runs.mkdir(parents=True)
    arms = []
    for i, rate in enumerate(RATES):
        delta = {"train.optimizer.lr": rate}
        write_run(lab, f"{i:012x}", f"lr={rate:g}", delta, -0.02 * abs(i - 1))
        arms.append({"title": f"lr={rate:g}", "delta": delta, "spec_id": f"{i:012x}"})
    mix = {"augment.or_mixup.p": 0.25}
    write_run(lab, "a" * 12, HOSTILE, mix, 0.001)
    write_run(lab, "b" * 12, "base", {}, 0.0, seeds=[0, 1, 2])
    write_run(lab, "c" * 12, "lr=1", {"train.optimizer.lr": 1.0}, -0.2, seeds=[0], scores={})
    arms += [
        {"title": HOSTILE, "delta": mix, "spec_id": "a" * 12},
        {"title": "base", "delta": {}, "spec_id": "b" * 12},
    ]
    stopped = {"title": "lr=1", "delta": {"train.optimizer.lr": 1.0}, "spec_id": "c" * 12}
    spec = {
        "name": "rates",
        "base": "baseline.yaml",
        "one_factor": {"train.optimizer.lr": [*RATES, 1.0], HOSTILE: mix},
        "cells": {"folds": [0, 1, 2], "seeds": [0, 1]},
        "race": {},
        "notes": f"Which rate? {HOSTILE}",
    }
    record = {
        "name": "rates",
        "updated_at": "2026-01-02T00:00:00+00:00",
        "spec": spec,
        "arms": arms,
        "stopped": [{**stopped, "at": f"after round 1 of 2: {HOSTILE}"}],
        "failed": [{"title": "broken", "error": f"out of\nmemory {HOSTILE}"}],
        "race": ["Racing stopped 1 of 6 arms."],
        "importance": {},
    }
    write_json(lab.stores / "sweeps" / "rates.json", record)
    return lab


def note(lab: Lab, name: str, **changes: Any) -> None:
    """The note of a driver: this very process, alive, half done, unless changed."""
    now = datetime.now(UTC)
    process = psutil.Process()
    cells = {
        "one": {"title": f"{name}: fold 0", "state": "done", "epochs": 4, "epoch": 4},
        "two": {"title": HOSTILE, "state": "running", "epochs": 4, "epoch": 2, "loss": 0.25},
        "three": {"title": "fold 2", "state": "queued"},
    }
    said = {
        "name": name,
        "kind": "sweep",
        "host": socket.gethostname(),
        "pid": process.pid,
        "created": process.create_time(),
        "command": f"birdlab sweep {name}.yaml",
        "started_at": datetime.fromtimestamp(now.timestamp() - 600, UTC).isoformat(),
        "updated_at": now.isoformat(),
        "state": "running",
        "said": "",
        "cells": cells,
    }
    write_json(lab.stores / "drivers" / f"{name}.json", said | changes)


# ---------------------------------------------------------------- what runs


def test_what_runs_is_told_from_what_is_lost(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    assert read_activity(lab).sentence == "Nothing runs."
    note(lab, "alive")
    gone = {"pid": 2**22 - 1, "created": 1.0}
    note(lab, "dead", **gone)
    note(lab, "elsewhere", host="other", updated_at="2026-01-02T00:00:00+00:00")
    old = datetime.fromtimestamp(time.time() - 300, UTC).isoformat()
    note(lab, "silent", updated_at=old)
    note(lab, "done", state="finished", said="all\ngood", **gone)
    part = lab.cells / ".abcd.part"
    part.mkdir(parents=True)
    (part / "checkpoint.pt").write_text("")
    (lab.cells / ".two.part").mkdir()
    found = read_activity(lab)
    assert found.running["name"].tolist() == ["alive"]
    row = found.running.iloc[0]
    assert row["cells"] == "1 of 3" and row["share"] == 0.5 and row["left"] == "10 min"
    ended = found.ended.set_index("name")
    assert ended["state"].to_dict() == {
        "dead": "lost",
        "elsewhere": "lost",
        "silent": "lost",
        "done": "finished",
    }
    assert "no sign of life for 5 min, though process" in ended.loc["silent", "said"]
    assert (
        ended.loc["dead", "next"] == "birdlab sweep dead.yaml" and ended.loc["done", "next"] == ""
    )
    assert ended.loc["done", "said"] == "all good"
    assert found.cells["cell"].tolist() == [HOSTILE] and found.cells["epoch"].tolist() == ["2 of 4"]
    assert found.unfinished["cell"].tolist() == ["abcd"], "a living driver will finish the other"
    assert found.sentence.startswith("alive runs: 1 of 3 cells, about 10 min left. Lost: ")
    assert found.sentence.endswith("1 cell half-trained: the same command goes on.")


# ---------------------------------------------------------------- the lab as a whole


def overview_of(tables: StudyTables, activity: Activity, lab: Lab, project: str = "") -> Overview:
    unscored = load_unscored(find_unscored(lab, tables.cells))
    return build_overview(tables, activity, unscored, project)


def test_the_overview_counts_each_cell_once(lab: Lab, tmp_path: Path) -> None:
    tables = LabSource(lab).tables()
    found = overview_of(tables, read_activity(lab), lab)
    assert found.best["runs"].tolist() == [5] and found.best["best"].tolist() == [HOSTILE]
    assert len(found.newest) == 6 and found.newest["state"].iloc[0] == "finished"
    assert found.cost.to_dict("records") == [
        {"hardware": "A100", "cells": 36, "hours": pytest.approx(36 / 60)}
    ]
    assert found.saved == "" and found.progress["best"].is_monotonic_increasing
    assert (
        "Best of 5 runs: " in found.answer and "36 cells took 36 min of training." in found.answer
    )
    shared = pd.concat([tables.cells, tables.cells.head(3).assign(run=tables.runs["run"][1])])
    twice = overview_of(StudyTables(tables.runs, shared, tables.ledger), read_activity(lab), lab)
    assert twice.cost["cells"].tolist() == [36]
    assert twice.saved.startswith("3 cells of runs that share them with others: 3 min")
    other = Lab(tmp_path)
    card = {"cell_id": "pretrained", "seconds": 3600.0, "device": "L4"}
    write_json(other.cells / "pretrained" / "cell.json", card)
    more = overview_of(tables, read_activity(other), other)
    assert dict(zip(more.cost["hardware"], more.cost["cells"], strict=True)) == {
        "A100": 36,
        "L4": 1,
    }


def test_cards_are_read_when_one_was_written(tmp_path: Path) -> None:
    source = LabSource(Lab(tmp_path))
    card = {"cell_id": "a", "seconds": 60.0, "device": "L4"}
    write_json(source.lab.cells / "a" / "cell.json", card)
    first = source.unscored()
    assert first["seconds"].tolist() == [60.0] and source.unscored() is first
    write_json(source.lab.cells / "b" / "cell.json", card | {"cell_id": "b", "seconds": 30.0})
    assert source.unscored()["cell_id"].tolist() == ["a", "b"]
    write_json(source.lab.cells / "a" / "cell.json", card | {"seconds": 120.0})
    assert source.unscored()["seconds"].tolist() == [120.0, 30.0]


def test_only_runs_that_compare_are_ranked_together() -> None:
    tables = build_synthetic(24)
    tables.runs.loc[:3, "rows_hash"] = "others"
    tables.runs.loc[:3, "project"] = "small"
    tables.runs.loc[0, "cv/padded_cmap"] = 0.99
    lab = Lab(Path("no-such-lab"))
    activity = read_activity(lab)
    found = overview_of(tables, activity, lab)
    assert found.best["runs"].tolist() == [20, 4] and found.best["cv/padded_cmap"].iloc[1] == 0.99
    assert "of the largest of 2 sets that compare" in found.answer and len(found.progress) == 20
    small = overview_of(tables, activity, lab, "small")
    assert small.project == "small" and "Best of 4 runs" in small.answer
    assert overview_of(tables, activity, lab, "none such").project == ""
    empty = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger)
    assert "begin with birdlab run" in overview_of(empty, activity, lab).answer
    at_work = replace(activity, running=pd.DataFrame({"name": ["lr"]}))
    assert overview_of(empty, at_work, lab).answer.endswith("No run has a score yet.")


def test_a_lab_that_holds_only_the_history_of_a_ledger_has_a_best_run() -> None:
    tables = build_synthetic(6)
    tables.runs["cv/padded_cmap"] = float("nan")
    lab = Lab(Path("no-such-lab"))
    found = overview_of(tables, read_activity(lab), lab)
    assert found.metric == "cv/padded_cmap_pooled" and "floor" not in found.best
    assert "padded_cmap_pooled 0." in found.answer and len(found.progress) == 6


def test_pages_of_2000_runs_are_built_in_time() -> None:
    tables = build_synthetic(2000)
    source = MadeSource(lambda: tables)
    began = time.perf_counter()
    text = overview.build_static(source)
    assert time.perf_counter() - began < 3
    assert "Best of 2,000 runs" in text and text.count("<tr>") < 300


# ---------------------------------------------------------------- a sweep


def test_a_sweep_answers_with_its_best_arm_and_warns_at_the_edge(lab: Lab) -> None:
    view = build_sweep_view(load_sweep(lab, "rates"))
    assert view.answer.startswith(f"{HOSTILE} has the highest mean, 0.7115.")
    assert "1 stopped by the race" in view.answer and view.answer.endswith("1 failed.")
    assert "that was tried" not in view.answer
    rates = {r.setting: r for r in view.responses}
    base = load_spec(BASELINE).train.optimizer.lr
    lr = rates["train.optimizer.lr"]
    assert lr.table["x"].tolist() == sorted([*RATES, base]) and lr.log_x and lr.is_line
    assert view.parallel is None, "arms of one_factor change one thing each"
    assert view.rounds is not None and view.rounds.n_rounds == 2
    table = view.table.set_index("arm")
    assert table.index[0] == HOSTILE and table.index[-1] == "lr=1"
    assert table.loc["lr=1", "state"] == "stopped by the race"
    assert table.loc["base", "train.optimizer.lr"] == f"{base:.6g}"
    assert table.loc["base", "gain"] == 0 and table["gain"].max() == table.loc[HOSTILE, "gain"]
    assert view.failed == (f"broken: out of memory {HOSTILE}",)


def test_an_arm_whose_record_is_gone_is_told(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.root, tmp_path / "lab")
    found = load_sweep(open_lab(tmp_path / "lab"), "rates")
    best = found.scored[0]
    (tmp_path / "lab" / "mlruns" / "runs" / f"{found.runs[best]['spec_id']}.json").unlink()
    view = build_sweep_view(load_sweep(open_lab(tmp_path / "lab"), "rates"))
    assert view.failed[-1] == f"{best}: its record is no longer in the lab, so it is left out"
    assert best not in set(view.table["arm"])
    (tmp_path / "lab" / "mlruns" / "sweeps" / "rates.json").write_text("{")
    source = LabSource(open_lab(tmp_path / "lab"))
    assert "rates" in source.unread_sweeps() and "rates" not in source.sweeps()


@pytest.mark.parametrize(
    ("kind", "change"),
    [("arms", {"delta": None}), ("arms", {"point": []}), ("stopped", {"at": 1})],
)
def test_a_sweep_record_that_does_not_hold_is_named(
    lab: Lab, tmp_path: Path, kind: str, change: dict[str, Any]
) -> None:
    shutil.copytree(lab.root, tmp_path / "lab")
    path = tmp_path / "lab" / "mlruns" / "sweeps" / "rates.json"
    record = json.loads(path.read_text())
    told = record[kind][0] | change
    record[kind][0] = {key: value for key, value in told.items() if value is not None}
    write_json(path, record)
    with pytest.raises(TrackingError, match="another version of birdlab, or broken"):
        load_sweep(open_lab(tmp_path / "lab"), "rates")


def test_an_older_sweep_record_says_less_of_what_was_stopped(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.root, tmp_path / "lab")
    path = tmp_path / "lab" / "mlruns" / "sweeps" / "rates.json"
    record = json.loads(path.read_text())
    del record["stopped"][0]["delta"]
    write_json(path, record)
    view = build_sweep_view(load_sweep(open_lab(tmp_path / "lab"), "rates"))
    assert view.table.set_index("arm").loc["lr=1", "state"] == "stopped by the race"


def test_the_exported_pages_hold_what_the_served_ones_show(lab: Lab) -> None:
    source = LabSource(lab)
    text = sweeps.build_static(source)
    assert text.count("plotly-graph-div") >= 3 and HOSTILE not in text
    assert "Which rate?" in text and "after round 1 of 2" in text
    assert "No sweep has ended yet" in sweeps.build_static(MadeSource(build_synthetic))
    assert "Best of 5 runs" in overview.build_static(source)


@pytest.mark.browser
def test_the_pages_in_a_browser(browser: Any, lab: Lab) -> None:
    note(lab, "rates")
    with serving(LabSource(lab)) as address:
        browser.get(f"{address}/sweeps?sweep=rates")
        assert wait(browser, f"{DRAWN} > 30")
        assert wait(browser, "document.body.textContent.includes('<img src=x onerror')")
        arms = pd.read_csv(save(browser, "button[data-name='rates-arms']"))
        assert len(arms) == 6 and HOSTILE in set(arms["arm"])
        figure = save(browser, "figure[aria-label*='race'] button[data-save=svg]")
        assert figure.read_text().startswith("<svg")
        browser.get(f"{address}/overview")
        assert wait(
            browser, "document.querySelector('.answer')?.textContent.includes('rates runs')"
        )
        choose(browser, "overview-project", "demo")
        assert wait(browser, "location.search === '?project=demo'")
        for path in ("/overview", "/sweeps"):
            with sized(browser, 400, dark=True):
                browser.get(address + path)
                assert wait(browser, f"{DRAWN} > 3")
                assert fits(browser) and browser.title == "birdlab"
                assert browser.execute_script("return document.images.length") == 0
    assert complaints(browser) == []
