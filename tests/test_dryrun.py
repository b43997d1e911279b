"""Before a sweep starts: cells, cache hits, time, what every point needs to hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.cli.progress import console
from birdlab.cli.sweep_plans import (
    describe_detectable,
    describe_estimate,
    describe_models,
    describe_sweep,
)
from birdlab.errors import SpecError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.recorded import load_card
from birdlab.spec import load_spec
from birdlab.spec.sweep import load_sweep
from birdlab.study.noise import detectable_delta, estimate_noise
from birdlab.study.noise_file import save_noise
from birdlab.sweep.driver import run_sweep
from birdlab.sweep.dryrun import SweepPlan, check_models, estimate_sweep, plan_sweep, slots_here
from birdlab.sweep.estimate import estimate_plans, load_cards, shape_of
from birdlab.tasks import InProcess
from birdlab.upkeep.foreign import import_foreign

BATCHES = "base: tiny.yaml\nname: s\ngrid: {train.batch: [4, 5], output.clip: [0.75]}\n"
PRETRAINED = (
    "base: tiny.yaml\nname: s\nset:\n  stages:\n"
    "    - pretrain: {data: abroad, train: {loss: bce}}\n"
    "    - tune: {start: pretrain, transfer: backbone}\ngrid: {train.batch: [3, 4]}\n"
)


def plan_of(lab: Lab, text: str) -> SweepPlan:
    path = lab.root / "s.yaml"
    path.write_text(text)
    return plan_sweep(load_sweep(path), lab)


def card(document: Any, seconds: float, steps: int = 4) -> dict[str, Any]:
    return {"document": document, "seconds": seconds, "steps": steps}


# ---------------------------------------------------------------- time


def test_time_is_told_from_finished_cells_of_the_same_shape(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = plan_of(lab, BATCHES)
    estimate = estimate_sweep(plan, lab, 1)
    assert (estimate.cells, estimate.cached, estimate.to_train, estimate.steps) == (4, 2, 2, 8)
    seconds = sorted(load_card(lab, cell_id)["seconds"] for cell_id in plan.cached)
    per_clip = sum(seconds) / 2 / (4 * 4)
    assert estimate.seconds == pytest.approx(per_clip * 2 * 4 * 5)
    assert (estimate.measured, estimate.unmeasured) == (2, 0)
    text = describe_estimate(plan, estimate, "nothing")
    assert "2 arms, 4 distinct cells, 2 cached, 2 to train (8 steps)" in text
    assert "as 2 finished cells like them took" in text


def test_time_is_unknown_where_no_such_cell_is_finished(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    other = "base: tiny.yaml\nname: s\ngrid: {train.window_s: [1, 2], train.batch: [2, 3]}\n"
    plan = plan_of(lab, other)
    estimate = estimate_sweep(plan, lab, 1)
    assert (estimate.to_train, estimate.unmeasured) == (8, 4)
    assert estimate.seconds is not None
    assert "at least" in describe_estimate(plan, estimate, "")
    none = plan_of(lab, other.replace("[1, 2]", "[1, 1.5]"))
    estimate = estimate_sweep(none, lab, 1)
    assert estimate.seconds is None
    assert "time     unknown" in describe_estimate(none, estimate, "")


def test_nothing_to_train_takes_no_time(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = plan_of(lab, "base: tiny.yaml\nname: s\ngrid: {evaluate.secondary: [count, ignore]}\n")
    estimate = estimate_sweep(plan, lab, 2)
    assert (estimate.to_train, estimate.seconds) == (0, 0)
    assert "every cell is in the cache" in describe_estimate(plan, estimate, "")


def test_the_middle_of_finished_cells_counts_and_other_shapes_do_not(make_lab: MakeLab) -> None:
    lab = make_lab()
    plan = plan_of(lab, "base: tiny.yaml\nname: s\ncells: {folds: [0]}\ngrid: {train.batch: [4]}\n")
    plans = [arm_plan for _, arm_plan in plan.arms]
    document = plans[0].cells[0].document
    wide = {**document, "train": {**document["train"], "window_s": 3}}
    cards = [card(document, s) for s in (16.0, 32.0, 800.0)]
    others = [card(wide, 1.0), card(document, 1e6, steps=17), card(document, 0.1, steps=400)]
    estimate = estimate_plans(plans, (), [*cards, *others], 1)
    assert (estimate.seconds, estimate.measured) == (32.0, 3)
    assert estimate_plans(plans, (), others, 1).seconds is None
    assert estimate_plans(plans, (), [card(document, 64.0, steps=16)], 1).seconds == 16.0
    assert shape_of(document) == shape_of({**document, "seed": 7, "rows": "others"})


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 40])
def test_slots_divide_the_time_down_to_the_longest_chain(pretrained: SweepPlan, slots: int) -> None:
    plans = [plan for _, plan in pretrained.arms]
    document = plans[0].cells[0].document
    estimate = estimate_plans(plans, (), [card(document, 8.0)], slots)
    batch = document["train"]["batch"]
    costs = {
        c.cell_id: 8.0 / (4 * batch) * c.steps.total * c.document["train"]["batch"]
        for plan in plans
        for c in plan.cells
    }
    chains = [
        costs[c.cell_id] + costs[c.start.cell_id]
        for plan in plans
        for c in plan.final_cells
        if c.start is not None
    ]
    assert len(costs) == 6 and len(chains) == 4
    assert estimate.seconds == pytest.approx(max(sum(costs.values()) / slots, max(chains)))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> SweepPlan:
    """The plan of a sweep whose cells start from a pretraining cell."""
    root = tmp_path_factory.mktemp("pretrained") / "lab"
    shutil.copytree(trained_lab, root, ignore=shutil.ignore_patterns("cells", "runs"))
    return plan_of(open_lab(root), PRETRAINED)


def test_slots_are_those_of_the_lab_file_and_the_threads_of_a_cell(make_lab: MakeLab) -> None:
    lab = make_lab()
    (lab.root / "birdlab.local.toml").write_text("cores = 8\ngpus = []\n")
    lab = open_lab(lab.root)
    plan = plan_of(lab, BATCHES.replace("grid:", "set: {train.threads_per_cell: 3}\ngrid:"))
    assert [slots_here(plan, lab, jobs) for jobs in (1, 2, 8)] == [1, 2, 2]
    assert slots_here(plan_of(lab, BATCHES), lab, 8) == 8


def test_cards_are_those_of_finished_cells(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    (lab.cells / ".half.part").mkdir()
    assert {c["cell_id"] for c in load_cards(lab)} == {
        path.name for path in lab.cells.iterdir() if not path.name.startswith(".")
    }


def test_foreign_cells_tell_no_time(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    known = load_cards(lab)
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    rows = pd.DataFrame(
        [(name, c.fold) for c in plan.final_cells for name in plan.rows.names[c.validation]],
        columns=["recording", "fold"],
    )
    rows[list(plan.data.classes)] = 0.5
    rows.to_parquet(lab.root / "oof.parquet")
    import_foreign(lab, plan, lab.root / "oof.parquet", "theirs", like=plan.spec_id)
    assert len(list(lab.cells.glob("*/cell.json"))) > len(known)
    assert {c["cell_id"] for c in load_cards(lab)} == {c["cell_id"] for c in known}
    assert estimate_sweep(plan_of(lab, BATCHES), lab, 1).measured == 2


def test_the_detectable_difference_comes_from_measured_noise(make_lab: MakeLab) -> None:
    lab = make_lab()
    text = "base: tiny.yaml\nname: s\nset: {data.folds.n: 3}\none_factor: {train.batch: [2, 8]}\n"
    plan = plan_of(lab, text)
    assert (
        describe_detectable(plan, lab) == f"unknown: run `birdlab noise {lab.root / 'tiny.yaml'}`"
    )
    rng = np.random.default_rng(0)
    rows = [(f, s, 0.7 + 0.01 * rng.normal()) for f in range(3) for s in range(3)]
    noise = estimate_noise(pd.DataFrame(rows, columns=["fold", "seed", "score"]))
    base = plan.arms[0][1]
    evaluation = {"rows_hash": base.rows_hash, "classes_hash": base.data.classes.digest}
    save_noise(lab, {"spec_id": "x", "name": "tiny", "evaluation": evaluation}, noise)
    delta = detectable_delta(noise, n_folds=3, n_seeds=1, n_arms=2)
    assert f"at least {delta:.4f} to base" in describe_detectable(plan, lab)
    other = plan_of(lab, text.replace("n: 3", "n: 4"))
    assert "unknown" in describe_detectable(other, lab), "it was measured on other rows"
    two = plan_of(lab, text + "cells: {folds: [0, 1]}\n")
    assert describe_detectable(two, lab) == "nothing: 2 folds give no verdict"


# ---------------------------------------------------------------- points and networks


def test_every_choice_and_end_of_a_search_is_checked_alone(make_lab: MakeLab) -> None:
    text = (
        "base: tiny.yaml\nname: s\noptuna:\n  trials: 4\n  batch: 2\n  space:\n"
        "    train.loss: [bce, focal]\n"
        "    train.loss.gamma: {kind: uniform, low: 0.5, high: 4, when: {train.loss: focal}}\n"
        "    mixing: {with: {}, without: {augment.or_mixup: off}}\n"
        "    train.batch: {kind: int, low: 2, high: 8}\n"
    )
    lab = make_lab()
    plan = plan_of(lab, text)
    assert [arm.title for arm, _ in plan.alone] == [
        *("loss=bce", "loss=focal", "gamma=0.5", "gamma=4", "with", "without", "batch=2", "batch=8")
    ]
    alone = {arm.title: arm for arm, _ in plan.alone}
    assert alone["gamma=4"].delta == {"train.loss.gamma": 4}, "the base is focal already"
    assert not (lab.stores / "sweeps").exists()
    assert f"the first {len(plan.arms)} of 4 points" in describe_sweep(plan)
    assert "4 points by tpe" in describe_estimate(plan, estimate_sweep(plan, lab, 1), "")
    bce_base = plan_of(lab, text.replace("name: s\n", "name: s\nset: {train.loss: bce}\n"))
    alone = {arm.title: arm for arm, _ in bce_base.alone}
    assert alone["gamma=4"].delta == {"train.loss": "focal", "train.loss.gamma": 4}
    with pytest.raises(SpecError, match="unknown field 'gamma'"):
        plan_of(lab, text.replace(", when: {train.loss: focal}", ""))
    with pytest.raises(SpecError) as caught:
        plan_of(lab, text.replace("high: 8", "high: 8.0").replace("low: 2,", "low: 0,"))
    assert "batch=0" in str(caught.value) and "s.yaml:10" in str(caught.value)


def test_each_distinct_network_hears_each_length_once(make_lab: MakeLab) -> None:
    plan = plan_of(
        make_lab(),
        "base: tiny.yaml\nname: s\ngrid: {model.head.hidden: [8, 16], train.window_s: [1, 2], "
        "train.batch: [2, 3]}\n",
    )
    check = check_models(plan)
    assert (check.n, check.bad) == (2, ())
    assert check.shapes == tuple(f"[1, {s * 32000}] -> [1, 4]" for s in (1, 5, 2))


def test_stages_with_other_classes_are_networks_of_their_own(pretrained: SweepPlan) -> None:
    check = check_models(pretrained)
    assert check.n == 2
    assert {s.split(" -> ")[1] for s in check.shapes} == {"[1, 3]", "[1, 4]"}


def test_a_network_that_cannot_be_is_named_with_its_arms(make_lab: MakeLab) -> None:
    plan = plan_of(
        make_lab(),
        "base: tiny.yaml\nname: s\ngrid:\n  arm:\n    good: {}\n"
        "    misspelt: {model.backbone: mobilenetv3_smal_050}\n"
        "    deep: {model.feature_level: 9}\n",
    )
    check = check_models(plan)
    assert check.n == 3
    assert {titles for titles, _ in check.bad} == {("misspelt",), ("deep",)}
    text = describe_models(check)
    assert "bad      misspelt: timm" in text and "mobilenetv3_small_050" in text


# ---------------------------------------------------------------- commands


def told(lab: Lab, monkeypatch: pytest.MonkeyPatch, *command: str) -> tuple[int, str]:
    monkeypatch.chdir(lab.root)
    if not cli.app.registered_commands:
        cli._register()
    with console.capture() as captured:
        result = CliRunner().invoke(cli.app, list(command))
    return result.exit_code, captured.get()


def test_a_dry_run_says_what_would_be_and_trains_nothing(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab()
    (lab.root / "s.yaml").write_text(BATCHES)
    code, text = told(lab, monkeypatch, "sweep", "s.yaml", "--dry-run", "--jobs", "1")
    assert code == 0
    assert "sweep s: 2 arms, 4 distinct cells, 0 cached, 4 to train" in text
    assert "time     unknown" in text
    assert "birdlab noise tiny.yaml" in text
    assert "checked  1 network: [1, 64000] -> [1, 4]; [1, 160000] -> [1, 4]" in text
    assert not lab.cells.exists()
    (lab.root / "bad.yaml").write_text(
        "base: tiny.yaml\ngrid: {model.backbone: [mobilenetv3_small_050, nothing_like_it]}\n"
    )
    code, text = told(lab, monkeypatch, "sweep", "bad.yaml", "--dry-run")
    assert code == 1
    assert "bad      backbone=nothing_like_it" in text


def test_a_sweep_tells_its_plan_once_before_it_starts(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    seen: list[Any] = []
    path = lab.root / "s.yaml"
    path.write_text(BATCHES + "then: {top: 1, cells: {folds: all, seeds: [0]}}\n")
    run_sweep(
        load_sweep(path),
        lab,
        InProcess(),
        emit=lambda event: seen.append(event.kind),
        planned=seen.append,
    )
    assert isinstance(seen[0], SweepPlan)
    assert [kind for kind in seen if isinstance(kind, SweepPlan)] == seen[:1]
    assert (len(seen[0].cells), len(seen[0].cached)) == (4, 2)
    path.write_text(
        "base: tiny.yaml\nname: o\ncells: {folds: [0]}\n"
        "optuna: {trials: 3, batch: 1, space: {evaluate.batch: {kind: int, low: 1, high: 9}}}\n"
    )
    plans: list[SweepPlan] = []
    run_sweep(load_sweep(path), lab, InProcess(), planned=plans.append)
    assert [len(plan.arms) for plan in plans] == [1]
