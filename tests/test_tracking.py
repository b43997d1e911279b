"""MLflow and the lab's own index: what is written, once, and how a RUN is found again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from conftest import MakeLab
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from birdlab.cli.runs import runs as list_runs
from birdlab.cli.show import diff, show
from birdlab.errors import CellError, ResolveError, TrackingError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.runresult import RunNote, RunResult
from birdlab.spec import load_spec
from birdlab.tracking.client import connect
from birdlab.tracking.index import (
    CELL_COLUMNS,
    RUN_COLUMNS,
    load_cells,
    load_link,
    load_runs,
    load_sweeps,
)
from birdlab.tracking.mlflow_sink import MlflowSink
from birdlab.tracking.resolve import resolve_run
from birdlab.tracking.runcontent import MAX_PARAMS
from birdlab.tracking.runextras import Extras
from birdlab.tracking.schema import database_level, known_levels


def report(result: RunResult) -> dict[str, str]:
    return {"report.html": f"<p>{result.spec_id}</p>"}


def run(lab: Lab, changes: dict[str, Any] | None = None, **note: Any) -> RunResult:
    spec = load_spec(lab.root / "tiny.yaml", changes or {})
    with MlflowSink(lab, Extras(report)) as sink:
        return run_experiment(spec, lab=lab, sinks=[sink], note=RunNote(**note))


def all_runs(lab: Lab) -> list[Any]:
    client = connect(lab)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(trained=True, mlflow=True)


# ---------------------------------------------------------------- what MLflow shows


def test_a_run_is_a_parent_with_a_child_per_cell(lab: Lab) -> None:
    delta = {"train.batch": 4}
    changes = {"notes": "my notes", "expect": "a bet", "project": "birds", "train.batch": 4}
    result = run(lab, changes, title="small batch", delta=delta)
    client = connect(lab)
    assert client.get_experiment_by_name("birds").artifact_location.startswith(
        lab.artifacts.resolve().as_uri()
    )
    runs = all_runs(lab)
    link = load_link(lab, result.spec_id)
    parent = client.get_run(link["parent"])
    assert {r.info.run_id for r in runs} == {link["parent"], *link["children"].values()}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert set(link["children"]) == {"0-0", "1-0"}

    tags, params, metrics = parent.data.tags, parent.data.params, parent.data.metrics
    assert parent.info.run_name == "small batch"
    assert tags["spec_id"] == result.spec_id
    assert (tags["delta"], tags["folds"], tags["seeds"]) == ("batch=4", "0,1", "0")
    for tag in ("birdlab.kind", "rows_hash", "classes_hash", "hardware", "cells", "python"):
        assert tags[tag]
    assert all(text in tags["mlflow.note.content"] for text in ("batch=4", "my notes", "a bet"))
    assert len(params) <= MAX_PARAMS == 15
    assert params["train.batch"] == "4"
    assert params["model.backbone"] == "mobilenetv3_small_050"
    for name, score in result.scores.items():
        assert metrics[name] == pytest.approx(score)
    assert metrics["n_rows"] == 24
    own = len(result.spec.evaluate.estimators)
    assert len(metrics) - own < 15, "scores per class go to a table, not to metrics"

    for (fold, seed), (_, row) in zip([(0, 0), (1, 0)], result.cells.iterrows(), strict=True):
        child = client.get_run(link["children"][f"{fold}-{seed}"])
        assert child.data.tags["mlflow.parentRunId"] == link["parent"]
        assert child.data.tags["cell_id"] == row["cell_id"]
        assert child.data.params == {"fold": str(fold), "seed": str(seed)}
        assert child.data.metrics["padded_cmap"] == pytest.approx(row["padded_cmap"])
        curve = client.get_metric_history(child.info.run_id, "loss")
        losses = result.curves[result.curves["fold"] == fold]["loss"].tolist()
        assert [point.value for point in curve] == pytest.approx(losses)
        assert [point.step for point in curve] == list(range(len(losses)))


def test_artifacts_hold_the_spec_the_classes_the_links_and_the_report(lab: Lab) -> None:
    result = run(lab)
    client = connect(lab)
    parent = load_link(lab, result.spec_id)["parent"]
    names = {file.path for file in client.list_artifacts(parent)}
    assert names == {"spec.yaml", "stored_outputs.json", "classes.csv", "report.html"}
    folder = Path(client.get_run(parent).info.artifact_uri.removeprefix("file://"))
    links = json.loads((folder / "stored_outputs.json").read_text())
    assert all((lab.root / link["cell"] / "cell.json").is_file() for link in links)
    assert result.spec_id in (folder / "report.html").read_text()
    assert "tiny" in (folder / "spec.yaml").read_text()
    assert len((folder / "classes.csv").read_text().splitlines()) == 5


def listen_in_the_woods(lab: Lab) -> Lab:
    """The lab with a data set of labelled soundscapes of the split train: the demo's own files."""
    demo = Path(lab.file.data["tiny"].path)
    files = sorted(path.name for path in (demo / "soundscapes").glob("*.ogg"))[:2]
    codes = [path.name for path in sorted((demo / "train_audio").iterdir())]
    rows = [f"{file},{5 * i},{5 * i + 3},{codes[i]}" for i in range(2) for file in files]
    (lab.root / "woods.csv").write_text("filename,start_s,end_s,label\n" + "\n".join(rows))
    (lab.root / "woods").mkdir()
    for file in files:
        shutil.copy(demo / "soundscapes" / file, lab.root / "woods" / file)
    shutil.copy(lab.root / "woods.csv", lab.root / "woods" / "labels.csv")
    toml = lab.root / "birdlab.toml"
    toml.write_text(
        toml.read_text() + '\n[data.woods]\nkind = "soundscapes"\npath = "woods"\n'
        'annotations = "labels.csv"\nsplit = "train"\n'
    )
    return open_lab(lab.root)


def test_chosen_scores_and_soundscapes_are_told_wherever_a_run_is_shown(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = listen_in_the_woods(lab)
    run(lab, {"name": "fixed"})
    best = {"train.validate_every": 1, "train.checkpoint": "best", "train.length": {"epochs": 2}}
    result = run(lab, {"name": "picked", "evaluate.soundscapes": ["woods"], **best})
    assert result.chosen.startswith("best epoch")
    parent = connect(lab).get_run(load_link(lab, result.spec_id)["parent"])
    tags, metrics = parent.data.tags, parent.data.metrics
    assert tags["chosen"] == result.chosen
    assert result.chosen in tags["mlflow.note.content"]
    for name in ("padded_cmap", "macro_auc", "floor", "padded_cmap_sd"):
        key = f"cv/soundscapes_{name}"
        assert metrics[key] == pytest.approx(result.scores[key])
    assert metrics["cv/padded_cmap"] == pytest.approx(result.cv)
    child = connect(lab).get_run(load_link(lab, result.spec_id)["children"]["0-0"])
    assert child.data.metrics["soundscapes_padded_cmap"] > 0

    runs = load_runs(lab).set_index("name")
    assert runs["chosen"].to_dict() == {"fixed": "", "picked": result.chosen}
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    capsys.readouterr()
    list_runs()
    shown = capsys.readouterr().out
    starred = [line for line in shown.splitlines() if "*" in line]
    assert result.spec_id in starred[0] and "picked the weights" in starred[1]
    assert len(starred) == 2 and result.chosen in shown
    assert f"{result.scores['cv/soundscapes_padded_cmap']:.4f}" in shown
    show("picked")
    assert f"A chosen score ({result.chosen})" in capsys.readouterr().out
    diff("fixed", "picked")
    gaps = capsys.readouterr().out
    assert "fixed beforehand" in gaps and result.chosen in gaps


def test_the_same_run_again_logs_nothing_twice(lab: Lab) -> None:
    one = run(lab)
    seen = {r.info.run_id: r.data for r in all_runs(lab)}
    link = load_link(lab, one.spec_id)
    run(lab)
    after = {r.info.run_id: r.data for r in all_runs(lab)}
    assert set(after) == set(seen)
    assert load_link(lab, one.spec_id) == link
    client = connect(lab)
    assert len(client.get_metric_history(link["parent"], "cv/padded_cmap")) == 1


def test_more_cells_join_the_same_parent(lab: Lab) -> None:
    next(lab.runs.glob("*.json")).unlink()
    one = run(lab, {"cells.folds": [0]})
    first = load_link(lab, one.spec_id)
    two = run(lab)
    second = load_link(lab, two.spec_id)
    assert second["parent"] == first["parent"]
    assert second["children"].items() > first["children"].items()
    assert len(all_runs(lab)) == 3
    parent = connect(lab).get_run(second["parent"])
    assert parent.data.metrics["cv/padded_cmap"] == pytest.approx(two.cv)
    assert parent.data.tags["folds"] == "0,1"


def test_stages_have_curves_of_their_own(lab: Lab) -> None:
    stages = [
        {"pretrain": {"data": "abroad", "augment": [], "train": {"length": {"steps": 2}}}},
        {"tune": {"start": "pretrain", "transfer": "backbone"}},
    ]
    result = run(lab, {"stages": stages, "cells.folds": [1]})
    child = load_link(lab, result.spec_id)["children"]["1-0"]
    client = connect(lab)
    for name in ("pretrain/loss", "tune/loss"):
        assert client.get_metric_history(child, name)


def test_training_on_all_data_is_logged_without_a_score(lab: Lab) -> None:
    result = run(lab, {"cells.folds": "none", "train.batch": 3})
    link = load_link(lab, result.spec_id)
    assert set(link["children"]) == {"all-0"}
    client = connect(lab)
    assert "cv/padded_cmap" not in client.get_run(link["parent"]).data.metrics
    assert client.get_run(link["parent"]).data.tags["folds"] == "none"


def test_training_on_all_data_leaves_the_score_of_the_folds(lab: Lab) -> None:
    result = run(lab, {"cells.folds": "none"})
    link = load_link(lab, result.spec_id)
    assert set(link["children"]) == {"0-0", "1-0", "all-0"}
    assert "cv/padded_cmap" in connect(lab).get_run(link["parent"]).data.metrics


def test_a_failed_run_is_failed_and_may_be_tried_again(lab: Lab) -> None:
    changes = {"model.backbone": "no_such_network", "cells.folds": [0]}
    for _ in range(2):
        with pytest.raises(CellError):
            run(lab, changes)
    failed = all_runs(lab)
    assert [r.info.status for r in failed] == ["FAILED", "FAILED"]
    assert all("no_such_network" in r.data.tags["mlflow.note.content"] for r in failed)


def test_a_lost_database_is_written_again(lab: Lab, mlflow_database: Path) -> None:
    result = run(lab)
    shutil.copy(mlflow_database, lab.stores / "mlflow.db")
    changed = run(lab, {"cells.seeds": [0, 1]})
    assert changed.spec_id == result.spec_id
    link = load_link(lab, result.spec_id)
    parent = connect(lab).get_run(link["parent"])
    assert parent.data.metrics["cv/padded_cmap"] == pytest.approx(changed.cv)
    assert len(all_runs(lab)) == 5


def test_a_database_whose_migration_was_cut_short_is_migrated(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    path = lab.stores / "mlflow.db"
    lab.stores.mkdir(exist_ok=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    levels = known_levels()
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, levels[3])
    engine.dispose()
    assert database_level(path) == levels[3]
    path.with_name("mlflow.db.part").write_bytes(b"of a migration that was killed")
    connect(lab)
    assert database_level(path) == levels[0]
    assert not path.with_name("mlflow.db.part").exists()
    before = path.stat().st_ino
    connect(lab)
    assert path.stat().st_ino == before


def test_a_tracker_that_cannot_be_used_costs_no_training(lab: Lab) -> None:
    (lab.stores / "mlflow.db").write_text("this is no database, and much too long for one" * 50)
    said: list[str] = []
    sink = MlflowSink(lab, tell=said.append)
    result = run_experiment(load_spec(lab.root / "tiny.yaml"), lab=lab, sinks=[sink])
    assert result.cv > 0
    assert sink.close(0.5) == [("run", result.spec_id)]
    assert "birdlab mlflow sync" in said[-1] and result.spec_id in said[-1]
    with pytest.raises(TrackingError, match="--no-mlflow"):
        connect(lab)


def test_leaderboard_scores_are_copied_to_the_parent(lab: Lab) -> None:
    result = run(lab)
    for score, shown in ((0.5, 0.5), (0.6, 0.6), (None, math.nan)):
        metrics = {} if score is None else {"lb/public": score}
        scores = {result.spec_id: (metrics, {"lb/metric": "padded_cmap"})}
        with MlflowSink(lab, Extras(scores=lambda _, s=scores: s)) as sink:
            sink.update(result.spec_id)
        parent = connect(lab).get_run(load_link(lab, result.spec_id)["parent"])
        assert parent.data.metrics["lb/public"] == pytest.approx(shown, nan_ok=True)
        assert parent.data.tags["lb/metric"] == "padded_cmap"


# ---------------------------------------------------------------- the index


def test_runs_and_cells_come_as_tables(lab: Lab) -> None:
    result = run(lab, {"name": "one"}, delta={"train.batch": 4}, sweep="s", title="batch=4")
    run(lab, {"cells.folds": [0], "evaluate.secondary": "ignore"})
    runs, cells = load_runs(lab), load_cells(lab)
    declared = [f"cv/{e.name}" for e in result.spec.evaluate.estimators]
    assert list(runs.columns) == [*RUN_COLUMNS, *declared]
    assert list(cells.columns)[: len(CELL_COLUMNS)] == list(CELL_COLUMNS)
    row = runs.set_index("run").loc[result.spec_id]
    assert (row["name"], row["delta"], row["sweeps"]) == ("tiny", "batch=4", ["s"])
    assert (row["n_folds"], row["n_seeds"], row["n_rows"], row["n_classes"]) == (2, 1, 24, 4)
    assert row["cv/padded_cmap"] == pytest.approx(result.cv)
    assert row["mlflow_run_id"] == load_link(lab, result.spec_id)["parent"]
    mine = cells[cells["run"] == result.spec_id]
    assert mine["padded_cmap"].to_list() == pytest.approx(result.cells["padded_cmap"].to_list())


def test_an_empty_lab_has_empty_tables(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    assert tuple(load_runs(lab).columns) == RUN_COLUMNS
    assert load_runs(lab).empty
    assert load_cells(lab).empty
    assert load_sweeps(lab) == {}
    with pytest.raises(ResolveError, match="no runs yet"):
        resolve_run(lab, "-1")


def test_a_torn_record_is_named(lab: Lab) -> None:
    (path,) = lab.runs.glob("*.json")
    path.write_text("{")
    with pytest.raises(TrackingError, match="cannot be read") as caught:
        load_runs(lab)
    assert str(path) in str(caught.value)


# ---------------------------------------------------------------- what a RUN names


@pytest.fixture
def three(make_lab: MakeLab) -> Iterator[tuple[Lab, list[RunResult]]]:
    """A lab with three runs of equal cells: two arms of a sweep and one by name."""
    lab = make_lab(trained=True)
    results = []
    for clip, title in ((1.0, "clip=1"), (0.0, "clip=0"), (0.5, "")):
        spec = load_spec(
            lab.root / "tiny.yaml",
            {"output": {"clip": clip, "time_max": 1 - clip}, "name": title or "my: run"},
        )
        note = RunNote(title=title, sweep="blend" if title else "", delta={"output.clip": clip})
        results.append(run_experiment(spec, lab=lab, note=note))
    (lab.stores / "sweeps").mkdir()
    arms = [{"title": r.note.title, "spec_id": r.spec_id} for r in results[:2]]
    (lab.stores / "sweeps" / "blend.json").write_text(json.dumps({"name": "blend", "arms": arms}))
    yield lab, results


def test_every_form_of_run(three: tuple[Lab, list[RunResult]]) -> None:
    lab, (one, two, named) = three
    best = one if one.cv > two.cv else two
    link = {"parent": "p" * 32, "children": {"0-0": "c" * 32}, "logged": ""}
    (lab.runs / f"{two.spec_id}.mlflow.json").write_text(json.dumps(link))
    (lab.models / "m").mkdir(parents=True)
    (lab.models / "aliases.json").write_text('{"champion": "m"}')
    (lab.models / "m" / "card.json").write_text(json.dumps({"spec_ids": [one.spec_id]}))
    forms = {
        one.spec_id: one,
        one.spec_id[:6]: one,
        one.spec_id[:6].upper(): one,
        "clip=0": two,
        "blend:clip=0": two,
        "blend:best": best,
        "my: run": named,
        "-1": named,
        "-2": two,
        "-3": one,
        "p" * 32: two,
        "c" * 32: two,
        "@champion": one,
    }
    for text, expected in forms.items():
        assert resolve_run(lab, text)["spec_id"] == expected.spec_id, text


def test_the_best_of_a_sweep_is_none_that_was_taken_out_of_it(
    three: tuple[Lab, list[RunResult]],
) -> None:
    lab, (one, two, _) = three
    better, other = sorted((one, two), key=lambda r: -r.cv)
    record = {"name": "blend", "arms": [{"title": "left", "spec_id": other.spec_id}]}
    (lab.stores / "sweeps" / "blend.json").write_text(json.dumps(record))
    assert resolve_run(lab, "blend:best")["spec_id"] == other.spec_id
    assert resolve_run(lab, f"blend:{better.note.title}")["spec_id"] == better.spec_id


@pytest.mark.parametrize(
    "text", ["nothing", "-9", "-0", "@nobody", "blend:clip=7", "nosweep:best", "", ":", "f" * 32]
)
def test_a_run_that_names_nothing_shows_what_there_is(
    three: tuple[Lab, list[RunResult]], text: str
) -> None:
    lab, results = three
    with pytest.raises(ResolveError, match="names no run") as caught:
        resolve_run(lab, text)
    assert all(r.spec_id in str(caught.value) for r in results)


def test_a_name_of_two_runs_lists_the_candidates(three: tuple[Lab, list[RunResult]]) -> None:
    lab, (one, two, named) = three
    for result in (one, two):
        record = json.loads(result.record.read_text())
        result.record.write_text(json.dumps({**record, "name": "twin"}))
    with pytest.raises(ResolveError, match="names 2 runs") as caught:
        resolve_run(lab, "twin")
    assert one.spec_id in str(caught.value)
    assert two.spec_id in str(caught.value)
    assert named.spec_id not in str(caught.value)


def test_a_record_of_one_lab_is_not_seen_by_another(
    three: tuple[Lab, list[RunResult]], make_lab: MakeLab
) -> None:
    lab, _ = three
    other = open_lab(make_lab(trained=True).root)
    assert len(load_runs(lab)) == 4
    assert len(load_runs(other)) == 1
    plan = plan_experiment(load_spec(other.root / "tiny.yaml"), other)
    assert resolve_run(other, plan.spec_id[:4])["spec_id"] == plan.spec_id
