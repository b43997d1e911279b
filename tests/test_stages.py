"""Stages: where each starts, what it takes over, how often it is trained, what steers it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeLab
from safetensors.torch import load_file, save_file

from birdlab.cellfiles import WEIGHTS, is_finished
from birdlab.celljob import CellJob
from birdlab.cellplan import CellPlan
from birdlab.errors import CellError, SpecError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab, open_lab
from birdlab.network import build_model, map_classes
from birdlab.plan import Plan, plan_experiment
from birdlab.run import run_experiment, run_experiments
from birdlab.runresult import RunNote
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.model import TransformerSpec
from birdlab.tasks import InProcess

MINE, THEIRS = "embwar1", "holwar1"
"""A species of the tiny competition, and the one of the other that is renamed to it."""


def spec_of(lab: Lab, changes: dict[str, Any] | None = None) -> ExperimentSpec:
    return load_spec(lab.root / "tiny.yaml", changes or {})


def plan_of(lab: Lab, changes: dict[str, Any] | None = None) -> Plan:
    return plan_experiment(spec_of(lab, changes), lab)


def stages(transfer: str = "backbone", data: str = "abroad", **more: Any) -> list[Any]:
    first = {"data": data, "augment": ["spec_mask"], "train": {"length": {"steps": 1}}}
    tune = {"start": "pretrain", "transfer": transfer, **more}
    return [{"pretrain": first}, {"tune": tune}]


def give_nearly_same_species(lab: Lab, abroad: Path) -> Lab:
    """The lab with a data set `nearly`: one of its three species is one of the base's."""
    nearly = lab.root / "nearly"
    shutil.copytree(abroad, nearly)
    for file in ("train_metadata", "taxonomy", "sample_submission", "soundscape_labels"):
        path = nearly / f"{file}.csv"
        header, _, rest = path.read_text().partition("\n")
        rest = rest.replace(f"\n{THEIRS},", f"\n{MINE},").removeprefix(THEIRS)
        begins = "" if rest.startswith("\n") or not header.startswith("primary_label") else MINE
        path.write_text(header.replace(THEIRS, MINE) + "\n" + begins + rest)
    (lab.root / "birdlab.local.toml").write_text('[data]\nnearly = "nearly"\n')
    return open_lab(lab.root)


def first_model(lab: Lab, changes: dict[str, Any]) -> tuple[dict[str, Any], CellJob, str]:
    """The weights of the last stage before its first step; its start is trained."""
    plan = plan_of(lab, changes)
    with job_folder(lab) as folder:
        job = save_job(plan, plan.final_cells[0], folder)
        told: list[str] = []
        return build_model(job, lab, told.append).state_dict(), job, told[0]


# ---------------------------------------------------------------- what is taken over


def test_each_transfer_takes_what_it_says(make_lab: MakeLab, abroad_demo: Path) -> None:
    lab = give_nearly_same_species(make_lab(), abroad_demo)
    fold = {"cells.folds": [0], "train.length.steps": 1}
    result = run_experiment(spec_of(lab, {**fold, "stages": stages("mapped", "nearly")}), lab=lab)
    assert result.trained == 2
    made = {
        transfer: first_model(lab, {**fold, "stages": stages(transfer, "nearly")})
        for transfer in ("backbone", "mapped")
    }
    mapped, job, words = made["mapped"]
    assert job.start is not None
    given = load_file(lab.cells / job.start / WEIGHTS)
    fresh, _, _ = first_model(lab, {**fold, "stages": ["train"]})
    before = json.loads((lab.cells / job.start / "cell.json").read_text())["classes"]
    assert [code for code in job.classes if code in before] == [MINE]
    here, there = job.classes.index[MINE], before.index(MINE)
    of_class = {f"head.{layer}.{what}" for layer in ("attention", "value") for what in
                ("weight", "bias")}  # fmt: skip
    assert of_class < set(given)
    for name, tensor in mapped.items():
        if name not in of_class:
            assert torch.equal(tensor, given[name]), name
            continue
        others = [i for i in range(len(job.classes)) if i != here]
        assert torch.equal(tensor[here], given[name][there])
        assert torch.equal(tensor[others], fresh[name][others]), "seeded as without a start"
    for name, tensor in made["backbone"][0].items():
        assert torch.equal(tensor, (fresh if name.startswith("head.") else given)[name]), name
    assert not torch.equal(mapped["head.project.1.weight"], fresh["head.project.1.weight"])
    assert words == f"cell {job.start} (mapped): 1 of 4 classes of the head"
    assert "0 of 4 classes" in made["backbone"][2]
    card = json.loads((lab.cells / job.cell_id / "cell.json").read_text())
    assert card["started_with"] == words


def test_a_mapped_head_needs_a_class_in_common_and_all_needs_all(
    make_lab: MakeLab, abroad_demo: Path
) -> None:
    lab = give_nearly_same_species(make_lab(), abroad_demo)
    with pytest.raises(SpecError, match="they share no class") as caught:
        plan_of(lab, {"stages": stages("mapped")})
    assert "transfer: backbone" in str(caught.value)
    with pytest.raises(SpecError, match="lacks 3 scored classes") as caught:
        plan_of(lab, {"stages": stages("all", "nearly")})
    assert "transfer: mapped" in str(caught.value) and "transfer: backbone" in str(caught.value)
    two = [{"one": {"data": "abroad"}}, {"two": {"data": "nearly", "start": "one"}}, "train"]
    with pytest.raises(SpecError, match="lacks 1 classes of nearly"):
        plan_of(lab, {"stages": two})
    again = [{"one": {"data": "abroad"}}, {"two": {"data": "abroad", "start": "one"}}]
    again.append({"tune": {"start": "two", "transfer": "backbone"}})
    one, second, *_ = plan_of(lab, {"stages": again}).cells
    assert second.start is one and second.classes == one.classes


def test_map_classes_copies_rows_by_code_and_refuses_none() -> None:
    given, own = {"w": torch.arange(6.0).reshape(3, 2)}, {"w": -torch.ones(4, 2)}
    mapped = map_classes(given, own, ["w"], np.array([2, -1, 0, -1]))
    assert mapped["w"].tolist() == [[4, 5], [-1, -1], [0, 1], [-1, -1]]
    assert own["w"].min() == own["w"].max() == -1, "the model's own is not written to"
    with pytest.raises(CellError, match="knows none"):
        map_classes(given, own, ["w"], np.array([-1, -1]))


def test_weights_that_do_not_fit_are_refused_in_words(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {"cells.folds": [0], "train.length.steps": 1, "stages": stages()}
    run_experiment(spec_of(lab, changes), lab=lab)
    pretrained = lab.cells / plan_of(lab, changes).cells[0].cell_id / WEIGHTS
    held = load_file(pretrained)
    name = next(key for key in held if key.startswith("backbone.") and "weight" in key)
    save_file({k: v for k, v in held.items() if k != name}, pretrained)
    with pytest.raises(CellError, match="do not fit this one"):
        first_model(lab, changes)


# ---------------------------------------------------------------- fresh starts


def test_a_stage_says_itself_what_fresh_weights_it_has(make_lab: MakeLab) -> None:
    lab = make_lab()
    fold = {"cells.folds": [0]}
    random, _, words = first_model(lab, fold)
    assert words == "random weights"
    ours = {k.removeprefix("backbone."): v for k, v in random.items() if k.startswith("backbone.")}
    changed = {k: v + 1 if v.is_floating_point() else v for k, v in ours.items()}
    save_file(changed, lab.root / "mine.safetensors")
    (lab.root / "birdlab.local.toml").write_text('[weights]\nmine = "mine.safetensors"\n')
    lab = open_lab(lab.root)
    with_mine = {**fold, "model.weights": "mine"}
    by_start = {
        start: first_model(lab, {**with_mine, "stages": [{"train": {"start": start}}]})
        for start in ("none", "imagenet")
    }
    by_start["model"] = first_model(lab, with_mine)
    name = next(k for k in random if k.startswith("backbone.") and k.endswith("weight"))
    assert torch.equal(by_start["none"][0][name], random[name])
    for start in ("imagenet", "model"):
        assert torch.equal(by_start[start][0][name], random[name] + 1)
        assert "weights mine" in by_start[start][2]
    ids = {start: job.cell_id for start, (_, job, _) in by_start.items()}
    assert ids["imagenet"] == ids["model"] != ids["none"]
    assert ids["none"] == plan_of(lab, fold).cells[0].cell_id, "the same weights, the same cell"


def test_imagenet_asks_the_hub_unless_the_model_names_weights(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    start = {"stages": [{"train": {"start": "imagenet"}}], "cells.folds": [0]}
    ids = [
        plan_of(lab, changes).cells[0].cell_id
        for changes in (start, {"model.pretrained": True, "cells.folds": [0]})
    ]
    assert ids[0] == ids[1]
    assert plan_of(lab, start).cells[0].document["fresh_weights"] == {"hub": True, "file": None}
    transformer = TransformerSpec(width=16, depth=1).model_dump()
    with pytest.raises(SpecError, match="asks for pretrained weights") as caught:
        plan_of(lab, {**start, "model.backbone": transformer})
    assert "start: none" in str(caught.value)


# ---------------------------------------------------------------- how often


def test_a_pretraining_stage_is_trained_once_for_folds_arms_and_specs(make_lab: MakeLab) -> None:
    lab = make_lab()
    arms = [
        {"stages": stages(train={"length": {"steps": 1}}), "model.head.hidden": 16},
        {"stages": stages(train={"length": {"steps": 2}})},
        {"stages": stages(augment=[], train={"length": {"steps": 1}})},
    ]
    specs = [(spec_of(lab, arm), RunNote(title=str(i))) for i, arm in enumerate(arms)]
    first = run_experiments(specs[:2], lab=lab, executor=InProcess())
    later = run_experiments(specs[2:], lab=lab, executor=InProcess())
    assert not [r for r in (*first, *later) if isinstance(r, Exception)]
    cards = [json.loads(path.read_text()) for path in lab.cells.glob("*/cell.json")]
    assert Counter(card["stage"] for card in cards) == {"pretrain": 1, "tune": 6}
    assert len({card["start"] for card in cards if card["stage"] == "tune"}) == 1


def test_what_goes_back_to_a_fold_is_trained_for_each_fold(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    line = [
        "first",
        {"elsewhere": {"data": "abroad", "start": "first", "transfer": "backbone"}},
        {"last": {"start": "elsewhere", "transfer": "backbone"}},
    ]
    plan = plan_of(lab, {"stages": line})
    assert [cell.title for cell in plan.cells] == [
        f"{stage}, fold {fold}, seed 0"
        for fold in (0, 1)
        for stage in ("first", "elsewhere", "last")
    ]
    for cell in plan.cells:
        assert cell.start is None or cell.start.fold == cell.fold
    elsewhere = [cell for cell in plan.cells if cell.stage.name == "elsewhere"]
    assert all(len(cell.chosen) == 9 and cell.validation is None for cell in elsewhere)


def test_a_shared_stage_has_a_start_whatever_seeds_are_asked_for(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    short = {"data": "abroad"}
    line = [
        {"one": short},
        {"two": {**short, "start": "one", "seeds": "shared"}},
        {"tune": {"start": "two", "transfer": "backbone"}},
    ]
    plan = plan_of(lab, {"stages": line, "cells": {"folds": [0], "seeds": [1, 2]}})
    made = [(cell.stage.name, cell.seed) for cell in plan.cells]
    assert made == [("one", 1), ("one", 0), ("two", 0), ("tune", 1), ("one", 2), ("tune", 2)]
    (two,) = (cell for cell in plan.cells if cell.stage.name == "two")
    assert two.start is not None and two.start.seed == 0


# ---------------------------------------------------------------- steering

STEERED = {"train.validate_every": 1, "train.checkpoint": "best"}


def test_validation_rows_and_how_they_are_scored_move_steered_cells_only(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(decoded=False)

    def ids(changes: dict[str, Any]) -> list[str]:
        return [cell.cell_id for cell in plan_of(lab, changes).cells]

    scoring: list[dict[str, Any]] = [
        {"evaluate.secondary": "ignore"},
        {"evaluate.context_s": 8},
        {"output": {"clip": 1, "time_max": 0}},
        {"competition": {"name": "demo", "window_s": 2.5}},
    ]
    for change in scoring:
        assert ids(change) == ids({})
        assert not set(ids({**STEERED, **change})) & set(ids(STEERED)), change
    unmoved: list[dict[str, Any]] = [{"evaluate.batch": 3}, {"cells.seeds": [0]}]
    assert all(ids({**STEERED, **change}) == ids(STEERED) for change in unmoved)
    last = "last"
    assert ids({"train.validate_every": last}) == ids({})
    document = plan_of(lab, STEERED).cells[0].document
    assert "steered_by" not in plan_of(lab, {"train.validate_every": 1}).cells[0].document
    table = lab.root / "birds"
    shutil.copytree(lab.dataset_root("tiny"), table)
    (lab.root / "birdlab.local.toml").write_text('[data]\ntiny = "birds"\n')
    lab = open_lab(lab.root)
    assert plan_of(lab, STEERED).cells[0].document == document
    moved = label_of_a_held_out_row_changes(lab, 0)
    assert moved(STEERED) == [True, True], "fold 0 is steered by it, fold 1 trains on it"
    assert moved({}) == [False, True]


def label_of_a_held_out_row_changes(lab: Lab, fold: int) -> Callable[[dict[str, Any]], list[bool]]:
    """A function that says which cells of an experiment moved when a label of a fold did."""
    path = lab.dataset_root("tiny") / "train_metadata.csv"
    rows = plan_of(lab).rows.table
    held = rows[(rows["fold"] == fold) & (rows["secondary_labels"].map(len) == 0)].iloc[0]
    before = path.read_text()
    lines = before.splitlines(keepends=True)
    (place,) = (i for i, line in enumerate(lines) if held["recording"] in line)
    other = next(c for c in rows["primary_label"] if c != held["primary_label"])
    assert ",[]," in lines[place]
    lines[place] = lines[place].replace(",[],", f",\"['{other}']\",", 1)

    def moved(changes: dict[str, Any]) -> list[bool]:
        path.write_text(before)
        old = plan_of(lab, changes).cells
        path.write_text("".join(lines))
        return [
            a.cell_id != b.cell_id for a, b in zip(old, plan_of(lab, changes).cells, strict=True)
        ]

    return moved


def test_a_stage_that_looks_at_its_fold_has_its_rows_wherever_it_stands(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    line = [{"first": {"train": {"validate_every": 1}}}, {"last": {"start": "first"}}]
    plan = plan_of(lab, {"stages": line})

    def held(cell: CellPlan) -> list[int]:
        assert cell.validation is not None
        return list(cell.rows.table["fold"].iloc[cell.validation].unique())

    assert [held(cell) for cell in plan.cells] == [[0], [0], [1], [1]]
    assert [cell.eval_id is None for cell in plan.cells] == [True, False, True, False]
    blind = plan_of(lab, {"stages": ["first", {"last": {"start": "first"}}]})
    assert [cell.validation is None for cell in blind.cells] == [True, False, True, False]
    with job_folder(lab) as folder:
        job = save_job(plan, plan.cells[0], folder)
        assert len(job.validation()) == 12
    without = plan_of(lab, {"stages": line, "cells.folds": "none"})
    assert all(cell.validation is None and cell.eval_id is None for cell in without.cells)


def test_a_stage_that_is_not_the_last_is_steered_by_its_fold(make_lab: MakeLab) -> None:
    lab = make_lab()
    short = {"length": {"epochs": 2}, "batch": 12}
    line = [
        {"first": {"train": {**short, "validate_every": 1, "checkpoint": "best"}}},
        {"last": {"start": "first", "train": short}},
    ]
    result = run_experiment(spec_of(lab, {"stages": line, "cells.folds": [0]}), lab=lab)
    assert result.trained == 2
    first, last = plan_of(lab, {"stages": line, "cells.folds": [0]}).cells
    cards = [json.loads((lab.cells / c.cell_id / "cell.json").read_text()) for c in (first, last)]
    assert cards[0]["chosen"].startswith("best epoch") and cards[1]["chosen"] == "last"
    assert result.chosen.startswith("first: best epoch")
    assert not list((lab.cells / first.cell_id).glob("outputs-*")), "it is not what is scored"


def test_a_context_gives_outputs_another_name_and_the_cell_none(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    plain, wide = plan_of(lab).cells, plan_of(lab, {"evaluate.context_s": 8}).cells
    assert [c.cell_id for c in plain] == [c.cell_id for c in wide]
    assert not {c.eval_id for c in plain} & {c.eval_id for c in wide}
    assert [c.rows_id for c in plain] == [c.eval_id for c in plain] == [c.rows_id for c in wide]
    assert not any(is_finished(lab, cell) for cell in wide)
