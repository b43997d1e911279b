"""What the dashboard reads of a lab, and that it reads no file twice for nothing."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import MakeLab

from birdlab.errors import OutputsError, ResolveError
from birdlab.evaluate.score import score_fold
from birdlab.study.ledger import append_row
from birdlab.tracking.index import load_cells, load_runs
from dashboards import source as module
from dashboards.source import KEPT, LabSource


@pytest.fixture
def source(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> LabSource:
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    return LabSource(make_lab(trained=True))


def test_a_run_is_read_as_it_was_scored(source: LabSource) -> None:
    tables = source.tables()
    assert tables.runs.equals(load_runs(source.lab)) and tables.cells.equals(load_cells(source.lab))
    (run,) = tables.runs["run"]
    scored = {cell: score_fold(table) for cell, table in source.fold_tables(run).items()}
    for cell in source.record(run)["cells"]:
        assert scored[cell["fold"], cell["seed"]].padded_cmap == pytest.approx(cell["padded_cmap"])
    assert set(source.classes(run)["code"]) == set(source.fold_tables(run)[0, 0].codes)
    assert np.isfinite(source.curves(run)["loss"]).all()
    named = {name for table in source.fold_tables(run).values() for name in table.recordings}
    assert named <= set(source.recordists(run))
    assert source.noise("rows", "classes") is None and source.sweeps() == {}


def test_files_are_read_again_only_when_they_changed(
    source: LabSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source.tables()
    (run,) = first.runs["run"]
    curves = source.curves(run)
    assert source.tables() is first and source.curves(run) is curves and source.version == 1
    append_row(source.lab.ledger, {"run": run, "metric": "m", "source": "add", "public": 0.5})
    assert len(source.tables().ledger) == 1 and source.version == 2
    assert source.curves(run) is curves
    read: list[Any] = []
    monkeypatch.setattr(
        module, "load_record_file", lambda path: read.append(path) or json.loads(path.read_bytes())
    )
    path = source.lab.runs / f"{run}.json"
    other = json.loads(path.read_bytes()) | {"spec_id": "f" * 12, "name": "other"}
    (source.lab.runs / f"{'f' * 12}.json").write_text(json.dumps(other))
    assert list(source.tables().runs["name"]) == ["tiny", "other"] and len(read) == 1
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"name": "renamed"}))
    assert source.record(run)["name"] == "renamed" and source.curves(run) is not curves
    path.unlink()
    assert list(source.tables().runs["name"]) == ["other"]


def test_a_run_that_lost_the_outputs_of_a_cell_is_not_shown_on_the_rest(
    source: LabSource,
) -> None:
    (run,) = source.tables().runs["run"]
    shutil.rmtree(source.lab.cells / source.record(run)["cells"][0]["cell_id"])
    with pytest.raises(OutputsError, match="cannot be read"):
        source.fold_tables(run)


@pytest.mark.parametrize("run", ["", "nobody", "../secret", "../../birdlab"])
def test_only_runs_of_the_lab_are_read(source: LabSource, run: str) -> None:
    (source.lab.stores / "secret.json").write_text("{}")
    for read in (source.record, source.curves, source.classes, source.fold_tables):
        with pytest.raises(ResolveError, match="no such run"):
            read(run)


def test_what_is_kept_has_a_bound(source: LabSource) -> None:
    made: list[int] = []

    def read(number: int) -> int:
        return source.keep("kind", number, "state", lambda: made.append(number) or number)

    for number in [*range(KEPT), 0, KEPT]:
        assert read(number) == number
    assert made == list(range(KEPT + 1))
    assert read(0) == 0 and len(made) == KEPT + 1, "what was asked for last stays"
    assert read(1) == 1 and made[-1] == 1


def test_who_asks_for_one_thing_does_not_wait_for_another(source: LabSource) -> None:
    """While a value is read others are, and who asks for the same one gets that of the first."""
    begun, go_on, made = threading.Event(), threading.Event(), list[str]()

    def slow() -> str:
        begun.set()
        assert go_on.wait(10)
        made.append("slow")
        return "slow"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(source.keep, "kind", "slow", 0, slow)
        assert begun.wait(10)
        second = pool.submit(source.keep, "kind", "slow", 0, slow)
        assert source.keep("kind", "quick", 0, lambda: "quick") == "quick"
        assert len(source.tables().runs) and not first.done()
        go_on.set()
        assert first.result(10) == second.result(10) == "slow" and made == ["slow"]
