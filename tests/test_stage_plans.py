"""What a dry run says of a stage: expected draws from training rows, what validation costs."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from conftest import TINY_SPEC, MakeLab

from birdlab.cellplan import CellPlan
from birdlab.cli.plans import describe_plan
from birdlab.cli.stage_plans import describe_draws, how_chosen, species_draws
from birdlab.cli.summaries import summarise_run
from birdlab.lab import Lab
from birdlab.plan import Plan, plan_experiment
from birdlab.run import run_experiment
from birdlab.sed.sampler import draw_rows
from birdlab.spec.experiment import build_spec
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.yamlfile import parse_yaml

STAGES: dict[str, Any] = {
    "stages": [
        {"pretrain": {"data": "abroad", "augment": []}},
        {"tune": {"start": "pretrain", "transfer": "backbone"}},
    ]
}


def plan_of(lab: Lab, changes: dict[str, Any] | None = None) -> Plan:
    return plan_experiment(build_spec(parse_yaml(TINY_SPEC, "x.yaml"), changes), lab)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(decoded=False)


def line_of(text: str, word: str, place: int = 0) -> str:
    return [line for line in text.splitlines() if line.strip().startswith(word + " ")][place]


@pytest.mark.parametrize(
    "sampler",
    [
        {"kind": "inverse_power", "power": 1},
        {"kind": "clamped", "minimum": 4, "cap": 6},
        {"kind": "plain"},
    ],
)
def test_expected_draws_are_those_of_many_epochs(lab: Lab, sampler: dict[str, Any]) -> None:
    cell = plan_of(lab, {"train.sampler": sampler, "train.batch": 4}).cells[0]
    labels = cell.rows.table["primary_label"].to_numpy(object)[cell.chosen]
    n_draws = cell.steps.per_epoch * 4
    assert n_draws == 12
    rng = np.random.default_rng(0)
    drawn = [draw_rows(cell.stage.train.sampler, labels, n_draws, rng) for _ in range(4000)]
    expected = species_draws(cell)
    assert expected.sum() == pytest.approx(n_draws)
    assert expected.is_monotonic_increasing
    for species, n in expected.items():
        seen = np.mean([(labels[rows] == species).sum() for rows in drawn])
        assert seen == pytest.approx(n, abs=0.12), species


def test_only_training_rows_are_counted(lab: Lab) -> None:
    cells = plan_of(lab, {"train.sampler": {"kind": "plain"}}).cells
    for cell in cells:
        labels = cell.rows.table["primary_label"]
        trained = labels[cell.rows.table["fold"] != cell.fold].value_counts()
        draws = species_draws(cell)
        assert dict(draws.round(9)) == {k: float(v) for k, v in trained.items()}
    assert dict(species_draws(cells[0])) != dict(species_draws(cells[1]))


def test_species_that_an_epoch_seldom_or_never_draws_are_named(lab: Lab) -> None:
    changes = {"train.sampler": {"kind": "plain"}, "train.batch": 1, "train.length": {"epochs": 1}}
    cell = plan_of(lab, changes).cells[0]
    assert "under 1: none" in describe_draws(cell)
    labels = cell.rows.table["primary_label"].to_numpy(object)
    rare = labels[cell.chosen[0]]
    of_rare = cell.chosen[labels[cell.chosen] == rare]
    others = cell.chosen[labels[cell.chosen] != rare]
    thin = remade(cell, np.concatenate([of_rare[:1], np.repeat(others, 5)]), 5)
    assert f"under 1: 1 ({rare})" in describe_draws(thin)
    assert f"no row to train on: 1 ({rare})" in describe_draws(remade(cell, others, 5))
    assert describe_draws(remade(cell, others[:0], 5)) == "none: no rows"


def remade(cell: CellPlan, chosen: np.ndarray[Any, Any], per_epoch: int) -> CellPlan:
    from dataclasses import replace

    return replace(cell, chosen=chosen, steps=replace(cell.steps, per_epoch=per_epoch, batch=1))


def test_every_stage_says_what_it_draws(lab: Lab) -> None:
    text = describe_plan(plan_of(lab, STAGES), lab)
    first, second = line_of(text, "draws"), line_of(text, "draws", 1)
    assert re.search(
        r"draws +8 an epoch, a species [\d.]+ \(\w+\) to [\d.]+ \(\w+\), median", first
    )
    assert re.search(r"draws +12 an epoch of fold 0, a species", second)
    assert text.count("    validation  ") == 1, "pretraining is not validated"


@pytest.mark.parametrize("window_s", [5.0, 2.5])
def test_the_cost_of_validation_is_counted(lab: Lab, window_s: float) -> None:
    plan = plan_of(lab, {"competition": {"name": "demo", "window_s": window_s}})
    cell = plan.cells[0]
    assert cell.validation is not None
    lengths = cell.rows.table["duration_s"].iloc[cell.validation]
    n = sum(max(1, math.ceil(s / window_s - 1e-9)) for s in lengths)
    line = line_of(describe_plan(plan, lab), "validation")
    ratio = n * window_s / (12 * 2)
    assert f"{n} windows in fold 0 against 12 crops an epoch ({ratio:.1f} times the audio)" in line
    assert line.endswith("once, after the last epoch")


def test_recordings_of_unknown_length_are_told_apart(lab: Lab) -> None:
    plan = plan_of(lab)
    cell = plan.cells[0]
    assert cell.validation is not None
    column = plan.rows.table.columns.get_loc("duration_s")
    plan.rows.table.iloc[cell.validation[:3], column] = np.nan
    assert "and 3 recordings of unknown length in fold 0" in describe_plan(plan, lab)
    plan.rows.table.iloc[cell.validation, column] = np.nan
    line = line_of(describe_plan(plan, lab), "validation")
    expected = f"{len(cell.validation)} recordings in fold 0, whose length the table does not say, "
    assert f"{expected}once, after the last epoch" in line


def test_how_often_and_what_it_chooses_is_told(lab: Lab) -> None:
    changes = {"train.length": {"epochs": 7}, "train.validate_every": 3}
    shown = line_of(describe_plan(plan_of(lab, changes), lab), "validation")
    assert shown.endswith("every 3 epochs of 7")
    best = {**changes, "train.validate_every": 1, "train.checkpoint": "best"}
    shown = line_of(describe_plan(plan_of(lab, best), lab), "validation")
    assert shown.endswith("every epoch of 7; score chosen by best epoch")
    wide = line_of(describe_plan(plan_of(lab, {"evaluate.context_s": 10.0}), lab), "validation")
    narrow = line_of(describe_plan(plan_of(lab), lab), "validation")
    factors = [float(re.findall(r"\(([\d.]+) times", line)[0]) for line in (wide, narrow)]
    assert factors[0] == pytest.approx(2 * factors[1], abs=0.11), "the context is heard too"


def test_what_chooses_in_words() -> None:
    every = {"validate_every": 1}
    assert how_chosen(TrainSpec()) == how_chosen(TrainSpec(**every)) == ""
    assert how_chosen(TrainSpec(**every, early_stop=2)) == "early stop"
    assert how_chosen(TrainSpec(**every, early_stop=2, checkpoint="best")) == "best epoch"
    average = {"of": "best", "k": 3}
    assert how_chosen(TrainSpec(**every, average=average)) == "the best 3 epochs"
    assert how_chosen(TrainSpec(average={"of": "last", "k": 3})) == ""


def test_the_summary_of_a_run_says_how_its_score_was_chosen(make_lab: MakeLab) -> None:
    lab = make_lab()
    short = {"train.length": {"epochs": 2}, "cells.folds": [0], "train.batch": 12}
    plain = run_experiment(plan_of(lab, short).spec, lab=lab)
    assert "chosen" not in summarise_run(plain) and "nan" not in summarise_run(plain)
    best = {**short, "train.validate_every": 1, "train.checkpoint": "best"}
    chosen = summarise_run(run_experiment(plan_of(lab, best).spec, lab=lab))
    assert re.search(r"\n  chosen       best epoch [12] of 2, by the rows it is scored on", chosen)
