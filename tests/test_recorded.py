"""Files of the lab that birdlab wrote and something broke: words, and no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from birdlab.cellfiles import CARD
from birdlab.costs import costs_of, costs_path
from birdlab.data.csvfile import Findings
from birdlab.errors import BirdlabError, ResolveError, TrackingError
from birdlab.keeping import cells_in_work
from birdlab.lab import Lab, open_lab
from birdlab.labfile import LabFile
from birdlab.recorded import load_card, load_record, load_records
from birdlab.recordshape import find_card_fault, find_record_fault
from birdlab.runtables import scored_as
from birdlab.spec.field_changes import compare_fields
from birdlab.study.recipe_words import recipe_lines
from birdlab.tracking.client import Experiments
from birdlab.tracking.drivers import Driver, ask_to_stop
from birdlab.tracking.summaries import LINK, is_due, load_summary_link, save_summary, summary_folder

RECORD: dict[str, Any] = {
    "spec_id": "0123456789ab",
    "name": "one",
    "project": "birds",
    "created_at": "2026-01-01T00:00:00+00:00",
    "updated_at": "2026-01-01T00:00:00+00:00",
    "delta": {},
    "sweeps": {"lr": {"title": "one", "delta": {}}},
    "scores": {"cv/padded_cmap": 0.5, "cv/macro_auc": None},
    "evaluation": {
        "metric": "padded_cmap",
        "rows_hash": "a",
        "classes_hash": "b",
        "folds": [0],
        "seeds": [0],
        "n_rows": 3,
        "n_classes": 2,
    },
    "cells": [{"cell_id": "c" * 16, "fold": None, "seed": 0}],
}
CARD_CONTENT = {
    "stage": "train",
    "device": "cpu",
    "document": {},
    "model": {},
    "seconds": 1.5,
    "steps": 3,
    "seed": 0,
    "classes": ["a"],
}


def changed(where: str, value: Any) -> dict[str, Any]:
    """The record with one field at a dotted place changed, or taken out for `...`."""
    record = json.loads(json.dumps(RECORD))
    *before, last = where.split(".")
    node = record
    for part in before:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return record


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("created_at", ..., "created_at: not there"),
        ("name", 7, "name: int"),
        ("evaluation", [], "evaluation: list"),
        ("evaluation.rows_hash", ..., "evaluation.rows_hash: not there"),
        ("cells", [[]], "cells.0: list"),
        ("cells.0.fold", "0", "cells.0.fold: str"),
        ("scores", {"cv/padded_cmap": "high"}, "scores.cv/padded_cmap: str"),
        ("sweeps", {"lr": {}}, "sweeps.lr.title: not there"),
        ("model_id", ["m"], "model_id: list"),
        ("estimators", [["auc"]], "estimators.0: list"),
        ("data", {}, "data: dict"),
        ("data", [{"name": "birds", "role": "base", "n_rows": 3}], "data.0.digest: not there"),
        ("environment", {"python": 3.11}, "environment.python: float"),
    ],
)
def test_a_record_that_is_not_as_written_is_named_with_its_fault(
    tmp_path: Path, where: str, value: Any, said: str
) -> None:
    lab = Lab(tmp_path)
    lab.runs.mkdir(parents=True)
    path = lab.runs / "0123456789ab.json"
    path.write_text(json.dumps(RECORD))
    assert find_record_fault(RECORD) == "" and load_records(lab) == [RECORD]
    path.write_text(json.dumps(changed(where, value)))
    with pytest.raises(TrackingError, match="not as birdlab writes it") as error:
        load_records(lab)
    assert (error.value.got, error.value.where) == (said, str(path))
    assert "move the file away" in str(error.value.fix)


def test_a_file_that_is_no_object_is_one_error(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.runs.mkdir(parents=True)
    for text, said in (("[]", "JSON of the type list"), ("[" * 100_000, "recursion"), ("{", "")):
        (lab.runs / "0123456789ab.json").write_text(text)
        with pytest.raises(TrackingError, match="cannot be read") as error:
            load_record(lab, "0123456789ab")
        assert said in str(error.value.got)


def test_a_card_says_what_it_lacks_and_that_of_a_foreign_cell_says_little(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    path = lab.cells / "c1" / CARD
    path.parent.mkdir(parents=True)
    foreign = {"cell_id": "c1", "start": None, "document": {}}
    for card in (CARD_CONTENT, foreign):
        path.write_text(json.dumps(card))
        assert load_card(lab, "c1") == card and find_card_fault(card) == ""
    path.write_text(json.dumps({**CARD_CONTENT, "seconds": "long"}))
    with pytest.raises(TrackingError, match="seconds: str"):
        load_card(lab, "c1")
    path.write_text("{")
    with pytest.raises(TrackingError, match="trained anew"):
        load_card(lab, "c1")


@pytest.mark.parametrize(
    "text",
    [
        "[1",
        '{"m": 3}',
        '{"m": {"cpu": {"parameters": 1}}}',
        '{"m": {"cpu": {"parameters": 1, "size_mb": 1, "cpu_ms_per_window": "2", '
        '"processor": ""}}}',
    ],
)
def test_broken_costs_are_one_error(tmp_path: Path, text: str) -> None:
    lab = Lab(tmp_path)
    costs_path(lab).parent.mkdir(parents=True)
    costs_path(lab).write_text(text)
    with pytest.raises(TrackingError, match="remove the file: costs are measured again"):
        costs_of(lab, "m")


def test_the_summary_of_a_sweep_is_written_once_and_its_broken_link_is_one_error(
    tmp_path: Path,
) -> None:
    lab, files = Lab(tmp_path), {"report.md": "text"}

    def save() -> bool:
        metrics = {"best": float("nan")}
        return save_summary(lab, "lr", project="p", arms={}, metrics=metrics, tags={}, files=files)

    assert (save(), save()) == (True, False) and is_due(lab, "lr")
    del files["report.md"]
    assert save() and not (summary_folder(lab, "lr") / "report.md").exists()
    (summary_folder(lab, "lr") / LINK).write_text("[")
    with pytest.raises(TrackingError, match="remove the file: MLflow gets the summary anew"):
        load_summary_link(lab, "lr")


def test_stores_elsewhere_are_named_whole(tmp_path: Path) -> None:
    away = tmp_path / "disk"
    lab = Lab(tmp_path / "lab", LabFile(stores=str(away)))
    assert lab.cells == away / "cells" and lab.name_path(lab.cells / "c1") == away / "cells" / "c1"
    assert Lab(tmp_path).name_path(Lab(tmp_path).cells) == Path("mlruns/cells")


def test_cells_of_a_queue_are_in_work_after_their_driver_left(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    job = lab.stores / "slurm" / "c1" / "job" / "job.json"
    job.parent.mkdir(parents=True)
    job.write_text(json.dumps({"cell_id": "c1", "start": "c0", "sources": ["s1"]}))
    assert cells_in_work(lab) == {"c0", "c1", "s1"}


def test_the_driver_of_another_user_is_asked_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    with Driver(lab, "lr", "sweep", ["birdlab", "sweep", "lr.yaml"]) as driver:
        monkeypatch.setattr(os, "kill", refuse)
        assert driver.wanted("any arm")
        ask_to_stop(lab, "lr")
        driver._asked = (0.0, frozenset())  # a second later
        assert not driver.wanted("any arm")


def test_a_server_of_the_environment_keeps_its_artifacts_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str | None] = []

    class Client:
        """An MLflow client that is asked for one new experiment."""

        def get_experiment_by_name(self, _name: str) -> None:
            return None

        def create_experiment(self, _name: str, artifact_location: str | None) -> str:
            places.append(artifact_location)
            return "1"

    lab = Lab(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Experiments(lab, Client())["birds"] == "1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert Experiments(lab, Client())["birds"] == "1"
    assert places == [lab.artifacts.resolve().as_uri(), None]


def test_lists_that_are_no_named_items_are_compared_whole() -> None:
    one, two = [{"name": "a", "p": 1}], [{"name": "a", "p": 1}, ["b"]]
    assert [change.field for change in compare_fields("augment", one, two)] == ["augment"]
    assert [change.field for change in compare_fields("augment", one, [])] == ["augment.a"]


def test_a_lab_file_holds_no_character_that_no_path_has(tmp_path: Path) -> None:
    (tmp_path / "birdlab.toml").write_text('[data]\nbirds = "a\\u0000b"\n')
    with pytest.raises(BirdlabError, match="number 0"):
        open_lab(tmp_path)


def test_an_example_of_what_is_wrong_is_cut() -> None:
    findings = Findings(Path("a.csv"))
    findings.note("file is not there", ["x" * 5_000])
    assert len(findings.notes[0]) < 400 and findings.notes[0].endswith("...")


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({}, "'train' is not there"),
        ({"train": {"length": {}}, "data": {}}, "not enough values"),
        ({"train": 3, "data": {}}, "not subscriptable"),
    ],
)
def test_a_recorded_spec_that_lacks_a_part_is_named(spec: Any, part: str) -> None:
    with pytest.raises(ResolveError, match="does not hold") as caught:
        recipe_lines({**RECORD, "spec": spec})
    assert part in str(caught.value) and RECORD["spec_id"] in str(caught.value)
    with pytest.raises(ResolveError, match="does not hold"):
        scored_as({**RECORD, "spec": spec})
    assert recipe_lines({**RECORD, "spec": None}) == {}


def test_how_a_changed_record_was_scored_is_named() -> None:
    spec = {"output": {}, "evaluate": {"secondary": [0.0, 1.0]}}
    with pytest.raises(ResolveError, match=r"field secondary(.|\n)*'count' or 'ignore'"):
        scored_as({**RECORD, "spec": spec})
