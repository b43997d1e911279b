"""Identity from content: what moves the id of a cell or of a recipe, and what does not.

The tables here have no audio: a missing waveform has an identity too, so the golden ids hold
on every platform. `BIRDLAB_UPDATE_GOLDEN=1` writes them anew, after a change that was meant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_SPEC

from birdlab import cellplan
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.spec import kinds as kinds_module
from birdlab.spec.base import AddedLater, Spec, canonical
from birdlab.spec.experiment import build_spec
from birdlab.spec.kinds import load_extension
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.yamlfile import parse_yaml

GOLDEN = Path(__file__).parent / "golden" / "ids.json"
SPECIES = ("houspa", "comrav", "264")
TWO_STAGES = TINY_SPEC + (
    "stages:\n  - pretrain: {data: abroad, augment: [spec_mask]}\n"
    "  - tune: {start: pretrain, transfer: backbone}\n"
)
SHARED = TWO_STAGES.replace("data: abroad", "seeds: shared, data: abroad")

MakePlan = Callable[..., Plan]


def write_table(folder: Path, n_rows: int, species: tuple[str, ...] = SPECIES) -> None:
    """A competition folder with a table and backgrounds, and no audio."""
    (folder / "background").mkdir(parents=True)
    (folder / "background.csv").write_text("filename\nwind.ogg\n")
    lines = ["primary_label,secondary_labels,author,filename"]
    for i in range(n_rows):
        code = species[i % len(species)]
        also = f"['{species[(i + 1) % len(species)]}']" if i % 4 == 0 else "[]"
        lines.append(f'{code},"{also}",author{i % 5},{code}/{i}.ogg')
    (folder / "train_metadata.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    write_table(tmp_path / "data" / "tiny", 12)
    write_table(tmp_path / "data" / "abroad", 8, ("a", "b"))
    (tmp_path / "birdlab.toml").write_text(
        'jobs = 1\n[data]\ntiny = "data/tiny"\nother = "data/tiny"\nabroad = "data/abroad"\n'
        '[weights]\nmine = "mine.pth"\n'
    )
    (tmp_path / "mine.pth").write_bytes(b"one")
    return open_lab(tmp_path)


@pytest.fixture
def make_plan(lab: Lab) -> MakePlan:
    def make(changes: dict[str, Any] | None = None, text: str = TINY_SPEC) -> Plan:
        return plan_experiment(build_spec(parse_yaml(text, "x.yaml"), changes), lab)

    return make


def ids(plan: Plan) -> list[str]:
    return [cell.cell_id for cell in plan.cells]


def test_ids_are_those_of_the_golden_file(make_plan: MakePlan) -> None:
    specs = {
        "one stage": make_plan(),
        "two stages, two seeds": make_plan({"cells.seeds": [0, 1]}, TWO_STAGES),
        "shared pretraining": make_plan({"cells.seeds": [0, 1]}, SHARED),
        "grouped folds": make_plan({"data.folds.kind": "stratified_group"}),
        "all data": make_plan({"cells.folds": "none"}),
        "weights": make_plan({"model.weights": "mine"}),
    }
    found = {
        name: {"spec_id": plan.spec_id, "cells": {c.title: c.cell_id for c in plan.cells}}
        for name, plan in specs.items()
    }
    if os.environ.get("BIRDLAB_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(GOLDEN.read_text()), (
        "ids changed: every cell of every lab would be trained again. A new field needs "
        "AddedLater; where numbers changed on purpose, raise a semantics number and update "
        "the golden file."
    )


def test_all_cells_differ_and_shared_ones_are_planned_once(make_plan: MakePlan) -> None:
    plan = make_plan({"cells.seeds": [0, 1]}, TWO_STAGES)
    assert [c.title for c in plan.cells] == [
        "pretrain, all data, seed 0",
        "tune, fold 0, seed 0",
        "tune, fold 1, seed 0",
        "pretrain, all data, seed 1",
        "tune, fold 0, seed 1",
        "tune, fold 1, seed 1",
    ]
    assert len(set(ids(plan))) == 6
    shared = make_plan({"cells.seeds": [0, 1]}, SHARED)
    assert [c.stage.name for c in shared.cells].count("pretrain") == 1
    assert len(set(ids(shared))) == 5
    assert ids(shared)[:3] == ids(plan)[:3]


@pytest.mark.parametrize(
    ("changes", "recipe_too"),
    [
        ({"name": "x", "notes": "y", "tags": ["z"], "expect": "w", "project": "p"}, True),
        ({"evaluate.batch": 7}, True),
        ({"evaluate.estimators": ["pooled", {"padded_cmap": {"pad": 3}}]}, True),
        ({"cells.seeds": [0]}, True),
        ({"train.channels_last": False}, True),
        ({"output": {"clip": 1, "time_max": 0}}, False),
        ({"evaluate.secondary": "ignore"}, False),
        ({"competition": {"name": "mine", "window_s": 3}}, False),
        ({"data.base": "other"}, False),
        ({"augment.background.noise": ["other"]}, False),
        ({"data.on_bad_file": "skip"}, False),
    ],
)
def test_what_no_weight_depends_on_moves_no_cell(
    make_plan: MakePlan, changes: dict[str, Any], recipe_too: bool
) -> None:
    before, after = make_plan(), make_plan(changes)
    assert ids(after) == ids(before)
    assert (after.spec_id == before.spec_id) == recipe_too


def test_a_stage_may_be_renamed(make_plan: MakePlan) -> None:
    renamed = TWO_STAGES.replace("pretrain", "abroad_first").replace("tune", "finish")
    assert ids(make_plan(text=renamed)) == ids(make_plan(text=TWO_STAGES))


def test_more_evidence_keeps_the_cells_and_the_recipe(make_plan: MakePlan) -> None:
    some = make_plan({"cells": {"folds": [1], "seeds": [0]}})
    more = make_plan({"cells": {"folds": "all", "seeds": [0, 3]}})
    assert some.spec_id == more.spec_id
    assert set(ids(some)) < set(ids(more))
    assert len(ids(more)) == 4


def test_the_place_of_the_lab_does_not_matter(make_plan: MakePlan, tmp_path: Path) -> None:
    write_table(tmp_path / "elsewhere" / "d", 12)
    (tmp_path / "elsewhere" / "birdlab.toml").write_text('jobs = 7\n[data]\ntiny = "d"\n')
    lab = open_lab(tmp_path / "elsewhere")
    there = plan_experiment(build_spec(parse_yaml(TINY_SPEC, "y.yaml")), lab)
    assert (ids(there), there.spec_id) == (ids(make_plan()), make_plan().spec_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.optimizer.lr": 3.1e-3},
        {"train.optimizer.kind": "adamw"},
        {"train.batch": 5},
        {"train.length": {"epochs": 2}},
        {"train.window_s": 3},
        {"train.secondary": 0.3},
        {"train.precision": "bf16"},
        {"train.threads_per_cell": 2},
        {"train.channels_last": True},
        {"train.loss": {"kind": "bce"}},
        {"train.sampler": {"kind": "plain"}},
        {"train.schedule": {"kind": "constant"}},
        {"augment.or_mixup.p": 0.6},
        {"augment.spec_mask": "off"},
        {"augment": ["spec_mask", "or_mixup"]},
        {"augment": ["or_mixup", "spec_mask"]},
        {"model.backbone": "resnet18"},
        {"model.frontend.n_mels": 33},
        {"model.head.hidden": 17},
        {"model.drop_path": 0.1},
        {"model.pretrained": True},
        {"model.weights": "mine"},
        {"data.folds.seed": 43},
    ],
)
def test_what_a_weight_depends_on_moves_every_cell_and_the_recipe(
    make_plan: MakePlan, changes: dict[str, Any]
) -> None:
    before, after = make_plan(), make_plan(changes)
    assert not set(ids(before)) & set(ids(after))
    assert before.spec_id != after.spec_id


def test_seed_and_fold_move_the_cell(make_plan: MakePlan) -> None:
    assert len(set(ids(make_plan({"cells.seeds": [0, 1, 2]})))) == 6


def edit_table(lab: Lab, old: str, new: str) -> None:
    path = lab.root / "data" / "tiny" / "train_metadata.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_labels_of_a_training_row_move_the_cells_that_train_on_it(
    make_plan: MakePlan, lab: Lab
) -> None:
    before = make_plan()
    fold = before.rows.table.set_index("recording")["fold"]["264/2.ogg"]
    edit_table(lab, '264,"[]",author2,264/2.ogg', "264,\"['houspa']\",author2,264/2.ogg")
    after = make_plan()
    same = [a.cell_id == b.cell_id for a, b in zip(before.cells, after.cells, strict=True)]
    assert same == [cell.fold == fold for cell in before.cells]
    assert after.spec_id != before.spec_id
    moved = [a.eval_id == b.eval_id for a, b in zip(before.cells, after.cells, strict=True)]
    assert moved == [cell.fold != fold for cell in before.cells], "its outputs are stored anew"


def test_content_of_a_waveform_moves_the_cells_that_train_on_it(
    make_plan: MakePlan, lab: Lab
) -> None:
    before = make_plan()
    audio = lab.root / "data" / "tiny" / "train_audio" / "264" / "2.ogg"
    audio.parent.mkdir(parents=True)
    found = []
    for content in (b"one", b"two"):
        audio.write_bytes(content)
        plan = make_plan()
        fold = plan.rows.table.set_index("recording")["fold"]["264/2.ogg"]
        found.append(next(c.cell_id for c in plan.cells if c.fold != fold))
        kept = next(c for c in plan.cells if c.fold == fold)
        assert kept.cell_id == next(c.cell_id for c in before.cells if c.fold == fold)
    assert len(set(found)) == 2


def test_content_of_noise_and_of_weights_moves_cells(make_plan: MakePlan, lab: Lab) -> None:
    noise = lab.root / "data" / "tiny" / "background" / "wind.ogg"
    before = make_plan({"model.weights": "mine"})
    noise.write_bytes(b"wind")
    windy = make_plan({"model.weights": "mine"})
    (lab.root / "mine.pth").write_bytes(b"two")
    heavier = make_plan({"model.weights": "mine"})
    seen = [before, windy, heavier]
    assert len({i for plan in seen for i in ids(plan)}) == 6
    assert len({plan.spec_id for plan in seen}) == 3


def test_the_start_of_a_cell_is_part_of_it(make_plan: MakePlan, lab: Lab) -> None:
    before = make_plan(text=TWO_STAGES)
    after = make_plan({"stages.pretrain.train.optimizer.lr": 1}, TWO_STAGES)
    assert not set(ids(before)) & set(ids(after))
    head_only = make_plan({"stages.tune.train.optimizer.lr": 1}, TWO_STAGES)
    assert ids(head_only)[0] == ids(before)[0], "pretraining is shared by ablations of tuning"
    assert not set(ids(head_only)[1:]) & set(ids(before))
    table = lab.root / "data" / "abroad" / "train_metadata.csv"
    table.write_text(table.read_text() + "a,[],z,a/99.ogg\n")
    grown = make_plan(text=TWO_STAGES)
    assert not set(ids(before)) & set(ids(grown))
    assert grown.spec_id != before.spec_id


def test_a_semantics_number_moves_the_cells_that_use_it(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, plain = make_plan(), make_plan({"augment": []})
    key = ("augmentation", "or_mixup")
    kind = kinds_module._KINDS[key]
    monkeypatch.setitem(kinds_module._KINDS, key, replace(kind, semantics=kind.semantics + 1))
    after = make_plan()
    assert not set(ids(before)) & set(ids(after))
    assert before.spec_id != after.spec_id
    assert ids(make_plan({"augment": []})) == ids(plain)
    monkeypatch.setitem(cellplan.SEMANTICS, "crop", 99)
    assert not set(ids(plain)) & set(ids(make_plan({"augment": []})))


EXTENSION = """
from typing import Literal
from birdlab.spec.kinds import register, implements
from birdlab.spec.augmentations import AugmentationSpec

@register("augmentation")
class TestFlip(AugmentationSpec):
    kind: Literal["test_flip"] = "test_flip"

@implements(TestFlip)
def flip(spec, batch, draws):
    return batch
"""


def test_the_source_of_an_extension_moves_the_cells_that_use_it(
    make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds_module, "_KINDS", dict(kinds_module._KINDS))
    monkeypatch.setattr(kinds_module, "_loaded", {})
    path = tmp_path / "flip.py"
    path.write_text(EXTENSION)
    before = make_plan()
    source = load_extension(path)
    assert ids(make_plan()) == ids(before), "an extension that is not used moves nothing"
    flipped = make_plan({"augment.test_flip": {}})
    versions = flipped.cells[0].document["kinds"]
    assert versions["augmentation/test_flip"] == {"semantics": 1, "source": source}
    path.write_text(EXTENSION + "# changed\n")
    load_extension(path)
    assert not set(ids(flipped)) & set(ids(make_plan({"augment.test_flip": {}})))


def test_a_field_added_later_is_left_out_while_it_says_what_was() -> None:
    assert "channels_last" not in canonical(TrainSpec())
    assert canonical(TrainSpec(channels_last=True))["channels_last"] is True
    classes: list[type[Spec]] = [TrainSpec, *(k.cls for k in kinds_module._KINDS.values())]
    for cls in classes:
        for name, field in cls.model_fields.items():
            later = [m for m in field.metadata if isinstance(m, AddedLater)]
            assert all(field.default == m.as_before for m in later), f"{cls.__name__}.{name}"
