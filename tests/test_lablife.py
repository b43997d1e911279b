"""Runs listed, shown and run again: queries over many records, and what changed since."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab

import birdlab
from birdlab.cellfiles import WEIGHTS, outputs_folder
from birdlab.cli import app as entry
from birdlab.data.audio import Waveform
from birdlab.data.waves import open_waves
from birdlab.errors import ResolveError
from birdlab.evaluate.metrics import padded_cmap
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs, build_windowing
from birdlab.evaluate.windows import iter_windows
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.recorded import load_record, load_records, record_paths, spec_of
from birdlab.tracking.index import load_runs
from birdlab.tracking.query import RunQuery, group_runs, parse_condition, select_runs, spec_field
from birdlab.tracking.resolve import resolve_run


@dataclass
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def lab(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = make_lab(trained=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)
    return lab


@pytest.fixture
def cli(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def call(*args: str) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["birdlab", *args])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        return Answer(int(ended.value.code or 0), got.out, got.err)

    return call


def copy_records(lab: Lab, n: int) -> None:
    """`n` records more: copies of the real one with ids, names, scores and sweeps of their own."""
    record = load_records(lab)[0]
    for i in range(n):
        rate = (i + 1) * 1e-4
        delta = {"train.optimizer.lr": rate}
        copy = json.loads(json.dumps(record)) | {
            "spec_id": hashlib.sha256(str(i).encode()).hexdigest()[:12],
            "name": f"arm-{i}",
            "project": "even" if i % 2 == 0 else "odd",
            "delta": delta,
            "sweeps": {f"s{i % 3}": {"title": f"a{i}", "delta": delta, "stopped_at": ""}},
            "updated_at": f"2025-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}.000+00:00",
        }
        copy["scores"]["cv/padded_cmap"] = 0.5 + i / 10_000
        for part in (copy["spec"], copy["spec"]["stages"][0]):
            part["train"]["optimizer"]["lr"] = rate
        (lab.runs / f"{copy['spec_id']}.json").write_text(json.dumps(copy, indent=1))
        link = {"parent": copy["spec_id"] * 2, "children": {}}
        (lab.runs / f"{copy['spec_id']}.mlflow.json").write_text(json.dumps(link))


# ---------------------------------------------------------------- queries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cv/padded_cmap>0.7", ("cv/padded_cmap", ">", "0.7")),
        ("score >= .7", ("cv/padded_cmap", ">=", ".7")),
        ("train.loss.kind==focal", ("train.loss.kind", "=", "focal")),
        ("name!=a=b", ("name", "!=", "a=b")),
        ("delta~lr=", ("delta", "~", "lr=")),
    ],
)
def test_conditions_are_parsed(text: str, expected: tuple[str, str, str]) -> None:
    found = parse_condition(text)
    assert (found.column, found.sign, found.value) == expected


@pytest.mark.parametrize("text", ["", "score", ">3", "score>", "__import__('os')", "a b=3", "1>0"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ResolveError, match="cannot be read"):
        parse_condition(text)


TABLE = pd.DataFrame(
    {
        "run": ["a", "b", "c", "d"],
        "name": ["lr-1", "lr-2", "big", "wide"],
        "project": ["p", "p", "q", "q"],
        "sweeps": [["lr"], ["lr", "all"], [], ["all"]],
        "updated_at": ["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04"],
        "cv/padded_cmap": [0.6, 0.8, float("nan"), 0.7],
        "train.batch": [8, 16, None, 32],
        "train.loss.kind": ["bce", "focal", "focal", "bce"],
    }
)


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ({}, "abcd"),
        ({"where": ("score>0.65",)}, "bd"),
        ({"where": ("score<=0.7", "train.loss.kind=bce")}, "ad"),
        ({"where": ("train.batch=16",)}, "b"),
        ({"where": ("train.batch!=16",)}, "acd"),
        ({"where": ("updated_at>=2025-01-03",)}, "cd"),
        ({"where": ("sweep=all",)}, "bd"),
        ({"where": ("name~LR",)}, "ab"),
        ({"project": "q"}, "cd"),
        ({"sweep": "lr"}, "ab"),
        ({"name": "*i?*"}, "cd"),
        ({"sort": "score"}, "cadb"),
        ({"sort": "score", "descending": True}, "bdac"),
        ({"sort": "score", "limit": 2}, "db"),
        ({"sort": "score", "limit": 2, "descending": True}, "bd"),
        ({"sort": "train.batch"}, "cabd"),
        ({"sort": "name"}, "cabd"),
        ({"sort": "sweep", "where": ("project=p",)}, "ba"),
    ],
)
def test_queries_choose_and_order(query: dict[str, Any], runs: str) -> None:
    assert "".join(select_runs(TABLE, RunQuery(**query))["run"]) == runs


def test_queries_that_make_no_sense_are_told() -> None:
    with pytest.raises(ResolveError, match="no run has such a column") as told:
        select_runs(TABLE, RunQuery(sort="scor"))
    assert "score" in str(told.value)
    with pytest.raises(ResolveError, match="not both numbers"):
        select_runs(TABLE, RunQuery(where=("score>high",)))


def test_groups_hold_a_run_for_each_of_its_sweeps() -> None:
    groups = {name: "".join(part["run"]) for name, part in group_runs(TABLE, "sweep")}
    assert groups == {"lr": "ab", "all": "bd", "-": "c"}
    assert [name for name, _ in group_runs(TABLE, "train.loss.kind")] == ["bce", "focal"]


def test_fields_of_a_spec_are_found_by_name(lab: Lab) -> None:
    spec = load_records(lab)[0]["spec"]
    assert spec_field(spec, "train.batch") == 4
    assert spec_field(spec, "augment.or_mixup.p") == 0.5
    assert spec_field(spec, "stages.train.train.optimizer.kind") == "adam"
    for absent in ("train.batch.size", "augment.gone.p", "nothing"):
        assert spec_field(spec, absent) is None
    assert spec_field(None, "train.batch") is None


# ---------------------------------------------------------------- birdlab runs


def test_runs_are_filtered_sorted_grouped_and_written_for_machines(cli: Cli, lab: Lab) -> None:
    copy_records(lab, 12)
    best = cli(
        "runs",
        "--where",
        "train.optimizer.lr<=1e-3",
        "--sort",
        "score",
        "--limit",
        "3",
        "--project",
        "even",
        "--json",
    )
    assert best.code == 0, best.err
    rows = json.loads(best.out)
    assert [row["name"] for row in rows] == ["arm-4", "arm-6", "arm-8"]
    assert [row["train.optimizer.lr"] for row in rows] == pytest.approx([5e-4, 7e-4, 9e-4])
    table = list(csv.DictReader(io.StringIO(cli("runs", "--name", "arm-1*", "--csv").out)))
    assert [row["name"] for row in table] == ["arm-1", "arm-10", "arm-11"]
    assert float(table[0]["cv/padded_cmap"]) == pytest.approx(0.5001)
    grouped = cli("runs", "--group", "sweep", "--where", "train.batch=4", "--desc").out
    assert [line for line in grouped.splitlines() if line.startswith("sweep ")] == [
        "sweep -",
        "sweep s2",
        "sweep s1",
        "sweep s0",
    ]
    assert "train.batch" in grouped and "finished" in grouped
    assert "none of 13 runs fits" in cli("runs", "--where", "score>2").out
    refused = cli("runs", "--where", "score is good")
    assert (refused.code, "cannot be read" in refused.err) == (1, True)


def test_two_thousand_runs_are_listed_at_once(lab: Lab) -> None:
    copy_records(lab, 2000)
    whole = lab.root / "all.jsonl"
    whole.write_text("\n".join(json.dumps(json.loads(p.read_text())) for p in record_paths(lab)))

    def seconds(call: Callable[[], Any]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def list_all() -> None:
        query = RunQuery(where=("score>0.6", "name~arm"), sort="score")
        assert len(select_runs(load_runs(lab, query.columns), query)) == 999

    peer = min(
        seconds(lambda: [json.loads(s) for s in whole.read_text().splitlines()]) for _ in range(3)
    )
    ours = min(seconds(list_all) for _ in range(3))
    assert ours < 12 * peer, f"{ours:.2f} s, plain JSON {peer:.2f} s"
    assert ours < 4


def test_a_stopped_run_is_told_and_ranked_nowhere(cli: Cli, lab: Lab) -> None:
    copy_records(lab, 1)
    (copied,) = (p for p in record_paths(lab) if "arm-0" in p.read_text())
    record = json.loads(copied.read_text())
    said = {"title": "a0", "delta": {}, "stopped_at": "round 1"}
    copied.write_text(
        json.dumps(record | {"stopped_at": "round 1", "scores": {}, "sweeps": {"s0": said}})
    )
    listed = cli("runs").out
    assert "stopped   arm-0" in listed and f"{record['spec_id']}  round 1" in listed
    shown = cli("show", "arm-0").out
    assert "stopped by a race, so without a score: round 1" in shown
    assert "in sweep  s0: a0 (stopped at round 1)" in shown
    assert json.loads(cli("runs", "--json", "--where", "status=stopped").out)[0]["stopped_at"]


# ---------------------------------------------------------------- show, diff


def test_show_and_diff_say_what_machines_and_people_need(cli: Cli, lab: Lab) -> None:
    copy_records(lab, 1)
    shown = cli("show", "tiny").out
    record = resolve_run(lab, "tiny")
    for part in (
        "MLflow    not logged",
        "weights of 2 of 2 scored cells",
        f"birdlab rerun {record['spec_id']}",
        f"birdlab promote {record['spec_id']}",
    ):
        assert part in shown, part
    facts = json.loads(cli("show", "tiny", "--json").out)
    assert facts["spec_id"] == record["spec_id"]
    assert facts["settings"]["train.batch"] == 4
    difference = json.loads(cli("diff", "tiny", "arm-0", "--json").out)
    assert difference["settings"] == [{"field": "train.optimizer.lr", "a": 0.003, "b": 0.0001}]
    score = difference["scores"]["cv/padded_cmap"]
    assert score["difference"] == pytest.approx(0.5 - record["scores"]["cv/padded_cmap"])


# ---------------------------------------------------------------- rerun


def test_a_run_is_run_again_from_its_record(cli: Cli, lab: Lab) -> None:
    before = load_records(lab)[0]
    (lab.root / "tiny.yaml").unlink()
    again = cli("rerun", "tiny", "--no-mlflow")
    assert again.code == 0, again.err
    assert "nothing was trained: every cell is in the cache" in again.out
    lost = next(iter(lab.cells.glob(f"*/{WEIGHTS}")))
    lost.unlink()
    dry = cli("rerun", "tiny", "--dry-run")
    assert "cells     2, 1 of them cached" in dry.out
    assert "1 cell trained, 1 from the cache" in cli("rerun", "-1", "--no-mlflow").out
    assert lost.is_file()
    after = load_record(lab, before["spec_id"])
    assert after["scores"] == before["scores"]
    cli("rerun", "tiny", "--keep", "outputs", "--no-mlflow")
    assert not list(lab.cells.glob(f"*/{WEIGHTS}"))
    assert "--keep" in cli("rerun", "tiny", "--keep", "some").err


def test_what_changed_since_a_run_is_said(
    cli: Cli, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdlab import cellplan

    monkeypatch.setitem(cellplan.SEMANTICS, "crop", 99)
    card = next(lab.cells.glob("*/cell.json"))
    document = json.loads(card.read_text())
    document["document"]["rows"] = "others"
    document["document"]["kinds"]["loss/focal"] = {"semantics": 0}
    record = record_paths(lab)[0]
    moved = json.loads(record.read_text()) | {"spec_id": "000000000000"}
    (lab.runs / "000000000000.json").write_text(json.dumps(moved | {"name": "old"}))
    card.write_text(json.dumps(document))
    answer = cli("rerun", "old")
    assert answer.code == 1
    for part in ("training rows are others", "loss/focal computes other", "crop computes other"):
        assert part in answer.err, part
    assert "000000000000" in answer.err


# ---------------------------------------------------------------- in Python


def test_runs_and_out_of_fold_predictions_are_tables(lab: Lab) -> None:
    copy_records(lab, 3)
    runs = birdlab.load_runs(lab, where=["name~arm"], sort="score", fields=["train.batch"])
    assert list(runs["name"]) == ["arm-0", "arm-1", "arm-2"]
    assert set(runs["train.batch"]) == {4}

    record = resolve_run(lab, "tiny")
    oof = birdlab.load_oof("tiny", lab)
    assert len(oof) == record["evaluation"]["n_rows"] == oof["recording"].nunique()
    codes = [name.removeprefix("prob/") for name in oof if name.startswith("prob/")]
    assert [f"true/{code}" for code in codes] == [name for name in oof if name.startswith("true/")]
    for cell in record["cells"]:
        rows = oof[oof["fold"] == cell["fold"]]
        truth = rows[[f"true/{c}" for c in codes]].to_numpy(bool)
        probs = rows[[f"prob/{c}" for c in codes]].to_numpy(np.float32)
        assert padded_cmap(truth, probs, 5) == pytest.approx(cell["padded_cmap"])
    long = birdlab.load_oof("tiny", lab, form="long")
    assert len(long) == len(oof) * len(codes)
    first = long.iloc[: len(codes)]
    assert list(first["prob"]) == [oof.iloc[0][f"prob/{code}"] for code in codes]


def test_a_model_of_a_run_says_what_its_stored_outputs_say(lab: Lab) -> None:
    spec = spec_of(resolve_run(lab, "tiny"))
    plan = plan_experiment(spec, lab)
    model = birdlab.load_model("tiny", fold=1, seed=0, lab=lab)
    (cell,) = (c for c in plan.final_cells if c.fold == 1)
    stored = load_outputs(outputs_folder(lab, cell)).windows
    held = plan.rows.keys[cell.validation[0]]
    waves = open_waves(lab, plan.sample_rate_hz)
    wave = Waveform(waves.read_int16(held, 0, waves.n_samples(held)), waves.scale(held), 32_000)
    window = next(iter_windows(wave, build_windowing(spec, plan.sample_rate_hz)))
    p, m = model(window[None])
    assert p[0] == pytest.approx(stored.clip_probs[0], abs=1e-5)
    assert m[0] == pytest.approx(stored.time_max[0], abs=1e-5)
    with pytest.raises(ResolveError, match="no such model"):
        birdlab.load_model("tiny", fold=4, lab=lab)


def test_stored_outputs_are_at_most_as_large_as_is_said(tmp_path: Path) -> None:
    """docs/lab.md: 8 bytes a window and class, and 60 bytes a window, even for pure noise."""
    n, n_classes = 2000, 264
    draws = np.random.default_rng(0)
    names = tuple(f"species{i // 10:03d}/XC{i:06d}.ogg" for i in range(n // 10))
    windows = WindowOutputs(
        names,
        tuple(f"code{i:03d}" for i in range(n_classes)),
        np.repeat(np.arange(n // 10), 10),
        np.tile(np.arange(5.0, 55.0, 5.0), n // 10),
        draws.random((n, n_classes), np.float32),
        draws.random((n, n_classes), np.float32),
    )
    labels = pd.DataFrame({"recording": names, "primary_label": "code000"})
    labels["secondary_labels"] = [()] * len(labels)
    save_outputs(tmp_path / "outputs", StoredOutputs(windows, labels))
    size = sum(p.stat().st_size for p in (tmp_path / "outputs").iterdir())
    assert size <= n * (8 * n_classes + 60)


def test_the_example_of_the_page_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "lab.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (lab.root / "example.py").write_text(code + "print(len(runs), len(oof), model)\n")
    monkeypatch.chdir(lab.root)
    capsys.readouterr()
    runpy.run_path("example.py", run_name="__main__")
    assert capsys.readouterr().out.startswith("1 24 ")
