"""Answers from the cache: the same numbers as when they are computed, and no others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab

from birdlab.errors import OutputsError
from birdlab.lab import Lab
from birdlab.plan import Plan, plan_experiment, plan_experiments
from birdlab.record import collect
from birdlab.recorded import load_record
from birdlab.runresult import RunNote, RunResult
from birdlab.scoring import name_sources
from birdlab.spec import load_spec

TUNE = {"tune": {"start": "pretrain", "transfer": "backbone"}}
SWEEP = RunNote("an arm", "a sweep", {"output.clip": 0.75})


def planned(lab: Lab, **changes: Any) -> Plan:
    return plan_experiment(load_spec(lab.root / "tiny.yaml", {"name": "an arm", **changes}), lab)


def outputs(lab: Lab, plan: Plan, place: int = 0) -> Path:
    cell = plan.final_cells[place]
    return lab.cells / cell.cell_id / f"outputs-{cell.eval_id}"


def assert_same(one: RunResult, other: RunResult) -> None:
    assert one.scores == other.scores
    for name in ("cells", "classes", "curves"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), rtol=0, atol=0)
    assert (one.chosen, one.trained, one.cached) == (other.chosen, other.trained, other.cached)


def test_what_a_record_says_is_what_the_outputs_say(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(trained=True)
    plan = planned(lab)
    first = collect(plan, lab, SWEEP, set())
    written = first.record.stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr("birdlab.scoring.load_outputs", lambda _: pytest.fail("outputs were read"))
        again = collect(planned(lab), lab, SWEEP, set())
        assert_same(first, again)
        assert first.record.stat().st_mtime_ns == written, "there was nothing to write"
        collect(plan, lab, RunNote("other", "another sweep"), set())
    record = load_record(lab, plan.spec_id)
    assert set(record["sweeps"]) == {"a sweep", "another sweep"}
    assert record["scores"] == first.scores


@pytest.mark.parametrize("what", ["other scores", "other seeds", "other code", "copied files"])
def test_a_record_that_is_not_of_these_outputs_is_not_used(
    make_lab: MakeLab, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(trained=True)
    plan = planned(lab)
    first, name = collect(plan, lab, SWEEP, set()), name_sources(plan, lab)
    if what == "other scores":
        file = outputs(lab, plan) / "recordings.parquet"
        stamp, table = file.stat(), pd.read_parquet(file)
        table["primary_label"] = table["primary_label"].to_numpy()[::-1]
        table.to_parquet(file, index=False)
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert collect(planned(lab), lab, SWEEP, set()).scores != first.scores
    elif what == "other seeds":
        again = planned(lab, **{"cells.folds": [0]})
        assert collect(again, lab, SWEEP, set()).scores != first.scores
        assert load_record(lab, plan.spec_id)["scores"] == first.scores, "it holds more"
        return
    elif what == "other code":
        monkeypatch.setattr("birdlab.scoring._scoring_code", lambda: "other")
    else:
        folder = outputs(lab, plan)
        shutil.copytree(folder, folder.with_name("copy"))
        shutil.rmtree(folder)
        folder.with_name("copy").rename(folder)
        assert_same(first, collect(planned(lab), lab, SWEEP, set()))
    assert name_sources(plan, lab) not in ("", name)


def test_outputs_that_are_gone_are_no_answer(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = planned(lab)
    collect(plan, lab, SWEEP, set())
    (outputs(lab, plan) / "windows.parquet").unlink()
    assert name_sources(plan, lab) == ""
    with pytest.raises(OutputsError, match="cannot be read"):
        collect(plan, lab, SWEEP, set())


def test_classes_of_another_time_are_not_taken_for_those_of_the_record(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    first = collect(planned(lab), lab, SWEEP, set())
    table = first.record.with_suffix("") / "classes.parquet"
    first.classes.assign(ap=0.5).to_parquet(table, index=False)
    at = first.record.stat().st_mtime_ns + 1
    os.utime(table, ns=(at, at))
    assert_same(first, collect(planned(lab), lab, SWEEP, set()))


def test_plans_made_together_are_those_made_alone(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes: list[dict[str, Any]] = [
        {},
        {"train.optimizer.lr": 1e-2},
        {"output": {"clip": 0.5, "time_max": 0.5}},
        {"data.folds.n": 3},
        {"cells.folds": [1]},
        {"augment.background": "off"},
        {"data.base": "tiny-again"},
        {"model.frontend": {"sample_rate_hz": 16_000, "f_max_hz": 8_000}},
        {"competition": {"name": "own", "window_s": 4}},
        {"stages": [{"pretrain": {"data": "abroad"}}, TUNE]},
        {"data.clean": [{"dedupe": ["recording"]}]},
        {"evaluate.soundscapes": ["demo-soundscapes"], "cells.folds": "none"},
    ]
    specs = [load_spec(lab.root / "tiny.yaml", change) for change in changes]
    for together, spec in zip(plan_experiments(specs, lab, strict=False), specs, strict=True):
        alone = plan_experiment(spec, lab, strict=False)
        assert together.spec_id == alone.spec_id
        for one, other in zip(together.cells, alone.cells, strict=True):
            assert (one.cell_id, one.eval_id, one.rows_id) == (
                other.cell_id,
                other.eval_id,
                other.rows_id,
            )
            assert np.array_equal(one.chosen, other.chosen)
        for name in ("noise", "paths", "missing", "skipped", "notes", "absent", "rows_hash"):
            assert getattr(together, name) == getattr(alone, name), name
        pd.testing.assert_frame_equal(together.rows.table, alone.rows.table)
        pd.testing.assert_frame_equal(together.data.waterfall, alone.data.waterfall)
        pd.testing.assert_frame_equal(together.leaks, alone.leaks)


def test_tables_that_plans_need_alike_are_read_once(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdlab import tables

    lab, read = make_lab(), tables.load_tables
    asked: list[str] = []

    def counted(needs: Any, *rest: Any) -> Any:
        asked.append(needs.key)
        return read(needs, *rest)

    monkeypatch.setattr(tables, "load_tables", counted)
    rates = [1e-3, 2e-3, 3e-3]
    changes = [{"train.optimizer.lr": lr, "data.folds.n": n} for lr in rates for n in (2, 3)]
    plans = plan_experiments([load_spec(lab.root / "tiny.yaml", c) for c in changes], lab)
    assert len(asked) == len(set(asked)) == 2
    assert len({c.cell_id for plan in plans for c in plan.cells}) == 3 * (2 + 3)
