"""JSON Schema of spec files: what loads is valid, what an editor marks does not load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commandline import print_of
from documents import DOCUMENTS, blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from birdlab.errors import BirdlabError
from birdlab.lab import Lab, open_lab
from birdlab.labfile import LabFile
from birdlab.schemafiles import (
    KINDS,
    SCHEMA_FOLDER,
    add_editor_line,
    add_editor_lines,
    schema_of,
    write_schemas,
)
from birdlab.spec.ensemble import EnsembleSpec
from birdlab.spec.experiment import ExperimentSpec, build_spec
from birdlab.spec.kinds import kinds
from birdlab.spec.postprocess import PostChain
from birdlab.spec.problems import validate
from birdlab.spec.schema_files import kind_of_file
from birdlab.spec.sweep import SweepSpec
from birdlab.spec.yamlfile import Document, load_yaml, parse_yaml

ROOT = Path(__file__).parents[1]
Validators = dict[str, Draft202012Validator]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
WHOLE = """\
competition: demo
data: {base: demo}
model: {backbone: mobilenetv3_small_050}
"""


@pytest.fixture(scope="module")
def validators() -> Validators:
    """A validator for each kind of file, with the kinds of the repository's extensions."""
    open_lab(ROOT)
    schemas = {kind: schema_of(kind) for kind in KINDS}
    for kind in ("experiment", "ensemble", "lab"):
        Draft202012Validator.check_schema(schemas[kind])
    return {kind: Draft202012Validator(schema) for kind, schema in schemas.items()}


def complaints(validators: Validators, data: dict[str, Any], kind: str = "") -> list[str]:
    """What the schema of a file's kind says of it; empty where it is valid."""
    found = validators[kind or kind_of_file(data)].iter_errors(data)
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message:.300}" for e in found]


def load(data: dict[str, Any]) -> None:
    """What the loader does with plain data; raises SpecError."""
    kind = kind_of_file(data)
    if kind == "experiment":
        build_spec(Document(data))
    else:
        cls = {"sweep": SweepSpec, "ensemble": EnsembleSpec, "steps": PostChain}[kind]
        named = {} if kind == "steps" else {"name": "x"}
        validate(cls, {**named, **data}, Document(data))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_experiments_are_valid(path: Path, validators: Validators) -> None:
    assert complaints(validators, load_yaml(path).data) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_yaml_of_the_documents_is_valid(name: str, validators: Validators) -> None:
    """A fragment is what a file says that stands on a base, or a part of a sweep."""
    for block in blocks(name):
        if block.language != "yaml" or "not birdlab's" in block.comment:
            continue
        data = parse_yaml(block.text, block.place).data
        if "cv/macro_auc" in data:  # the columns of another's table, for `birdlab lb import`
            continue
        sweep = {"base": "x.yaml", **data}
        if kind_of_file(data) == "experiment":
            sweep["grid"] = {"train.batch": [1, 2]}
        whole = {"base": "x.yaml", **data} if kind_of_file(data) == "experiment" else data
        said = complaints(validators, whole)
        assert said == [] or complaints(validators, sweep, "sweep") == [], (block.place, said)


@pytest.mark.parametrize(
    "text",
    [
        "augment: [or_mixup, {gain: {p: 0.3}}, {two: {kind: gain}}, {kind: mixup, p: 1}]",
        "augment: [{name: gain, gain_db: [-6, 0]}, {time_shift: }]",
        "data: {base: demo, clean: [{dedupe: xc_id}, {cap: 5}, {two: {kind: dedupe, by: author}}]}",
        "postprocess: [{file_scale: 0.5}, boost, {smooth: [1, 2, 1]}]",
        "train: {optimizer: sgd, schedule: {min_lr: 0}, loss: {gamma: 1}, length: {steps: 3}}",
        "stages: [first, {second: {start: first, train: {optimizer: {lr: 1e-4}}}}]",
        "stages: [{a: {augment: {gain: {p: 0.1}}}}]\naugment: [gain]",
        "competition: {name: mine, window_s: 3}",
        "model: {backbone: {kind: transformer, depth: 2}, feature_level: -1}",
        "evaluate: {estimators: [macro_auc, {padded_cmap: 3}, {one_fold: {fold: 1}}]}",
        "cells: {folds: all, seeds: [0, 1]}\nrounds: null\ntags: [a]",
    ],
)
def test_short_forms_are_valid(text: str, validators: Validators) -> None:
    data = {**parse_yaml(WHOLE, "x").data, **parse_yaml(text, "x").data}
    data["evaluate"] = data.get("evaluate", {})
    load(data)
    assert complaints(validators, data) == []


@pytest.mark.parametrize(
    "text",
    [
        "base: x.yaml",
        "base: x.yaml\naugment: {or_mixup: off, gain: {p: 0.1}, new: {kind: mixup}}",
        "base: x.yaml\ntrain: {optimizer: {lr: 1e-4}, length: {steps: 5}}",
        "base: x.yaml\nstages: {pretrain: off, tune: {start: none, augment: {gain: off}}}",
        "base: x.yaml\nmodel: {head: {hidden: 3}}\ndata: {clean: {dedupe: {by: [author]}}}",
    ],
)
def test_what_stands_on_a_base_says_only_what_differs(text: str, validators: Validators) -> None:
    assert complaints(validators, parse_yaml(text, "x").data) == []


@pytest.mark.parametrize(
    "text",
    [
        "grid: {train.optimizer.lr: [1e-3, 1e-4]}",
        "grid: {pretraining: {with: {}, without: {stages.pretrain: off}}}",
        "grid: {x: {a: {when: {train.loss: focal}, augment.gain.p: 0}, b: {augment: []}}}",
        "grid: {train.loss: [bce, {kind: focal, gamma: 1}]}\nrace: true\ncontrol: loss=bce",
        "grid: {train.loss.gamma: {values: [1, 2], when: {train.loss: focal}}}",
        "one_factor: {train.batch: [8, 16], short: {train.length.epochs: 2}}\nexpect: it helps",
        "add_one: {a: {train.batch: 8}, b: {stages.train.train.batch: 4}}",
        "leave_one_out: {a: {train.batch: 8}, b: {postprocess.smooth: {}}}",
        "random: {space: {train.optimizer.lr: {kind: log_uniform, low: 1e-4, high: 1e-2}}}",
        "optuna: {space: {train.batch: [8, 16], x: {a: {train.batch: 2}, b: {}}}, trials: 4}",
        "grid: {train.batch: [1, 2]}\nexpect: [words, {arm: [1, 2], better_by: 0.01, against: 2}]",
        "grid: {train.batch: [1, 2]}\nexpect: [{best: 1, sure: 0.6}, {worst: [1, 2]}]",
    ],
)
def test_forms_of_sweeps_are_valid(text: str, validators: Validators) -> None:
    data = {"base": "x.yaml", **parse_yaml(text, "x").data}
    load(data)
    assert complaints(validators, data) == []


@pytest.mark.parametrize(
    "text",
    [
        "trian: {}",
        "train: {bacth: 3}",
        "train: {batch: many}",
        "train: {batch: 0}",
        "train: {batch: true}",
        "train: {length: {epochs: 3, steps: 4}}",
        "train: {length: {}}",
        "train: {loss: {kind: fokal}}",
        "train: {loss: fokal}",
        "train: {optimizer: {momentum: 0.9}}",
        "train: {precision: fp64}",
        "augment: [or_mixupp]",
        "augment: [{or_mixup: {q: 1}}]",
        "augment: [{mine: {p: 1}}]",
        "augment: {or_mixup: {p: 1}}",
        "augment: [{or_mixup: {p: 2}}]",
        "data: {base: demo, folds: {kind: stratified, n: 1}}",
        "data: {extra: [demo]}",
        "competition: birdclef-1999",
        "model: {}",
        "cells: {folds: some}",
        "stages: [{tune: {begin: none}}]",
        "stages: [{tune: {pseudo: {teacher: x}}}]",
        "output: {clip: 1.5}",
        "grid: {train.batch: []}\nbase: x.yaml",
        "grid: {train.batch: [1]}\nadd_one: {a: {train.batch: 2}}\nbase: x.yaml",
        "optuna: {space: {}}\nbase: x.yaml",
        "add_one: {a: {}}\nbase: x.yaml",
        "grid: {train.batch: [1, 2]}\nrace: {levle: 0.1}\nbase: x.yaml",
        "members: []",
        "members: [a]\nweights: best",
        "steps: [{smooth: {wieghts: [1, 2, 1]}}]",
    ],
)
def test_mistakes_are_refused_by_schema_and_loader(text: str, validators: Validators) -> None:
    data = parse_yaml(text, "x").data
    if kind_of_file(data) == "experiment":
        data = {**parse_yaml(WHOLE, "x").data, **data}
    assert complaints(validators, data) != []
    with pytest.raises(BirdlabError):
        load(data)


@pytest.mark.parametrize("text", ["grid: {x: {a: {train.optimiser.lr: 1}}}", "set: {trian: 1}"])
def test_dotted_names_are_checked(text: str, validators: Validators) -> None:
    data = {"base": "x.yaml", "grid": {"train.batch": [1, 2]}, **parse_yaml(text, "x").data}
    assert complaints(validators, data) != []


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_loads_is_valid_when_written_out(validators: Validators, data: st.DataObject) -> None:
    def one_of(family: str) -> dict[str, Any]:
        return {"kind": data.draw(st.sampled_from(whole_kinds(family)))}

    raw = {
        **parse_yaml(WHOLE, "x").data,
        "train": {
            "optimizer": {**one_of("optimizer"), "lr": data.draw(st.floats(1e-6, 1))},
            "schedule": one_of("schedule"),
            "loss": {**one_of("loss"), "clip": data.draw(st.floats(0.1, 2))},
            "sampler": one_of("sampler"),
            "length": {data.draw(st.sampled_from(["epochs", "steps", "clips"])): 3},
            "secondary": data.draw(st.sampled_from([1.0, 0.5, "mask"])),
        },
        "augment": data.draw(st.lists(st.sampled_from(whole_kinds("augmentation")), unique=True)),
        "postprocess": data.draw(st.lists(st.sampled_from(["smooth", "boost"]), unique=True)),
        "cells": {"seeds": data.draw(st.lists(st.integers(0, 9), min_size=1, unique=True))},
        "keep": data.draw(st.sampled_from(["all", "final", "outputs"])),
    }
    spec = ExperimentSpec.model_validate(raw)
    assert complaints(validators, raw) == []
    assert complaints(validators, spec.model_dump(mode="json")) == []


def whole_kinds(family: str) -> list[str]:
    """The kinds of a family that need nothing said."""
    return [
        name
        for name, kind in kinds(family).items()
        if not any(f.is_required() for n, f in kind.cls.model_fields.items() if n != "name")
    ]


def test_a_lab_file_is_valid_and_a_typo_in_it_is_not(validators: Validators) -> None:
    raw = {
        "data": {"a": "folder", "b": {"path": "x", "kind": "table", "file": "t.csv"}},
        "gpus": ["0", 1],
        "slurm": {"mem_gb": 4, "options": {"nice": 3}},
    }
    validate(LabFile, raw, Document(raw))
    assert complaints(validators, raw, "lab") == []
    assert complaints(validators, {"jbos": 2}, "lab") != []


def test_fields_are_described_for_hovering(validators: Validators) -> None:
    schema: Any = validators["experiment"].schema
    hop = schema["$defs"]["model.LogMelSpec"]["properties"]["f_min_hz"]
    assert hop["description"].startswith("Where the lowest band begins. Unit: Hz.")
    assert hop["default"] == 20.0
    assert "polarity_flip" in json.dumps(schema["$defs"]["augmentation.bodies"])


def test_schema_files_of_a_lab(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "more").mkdir(parents=True)
    old = tmp_path / "experiments" / "more" / "old.yaml"
    old.write_text("# A question\nbase: ../x.yaml\n")
    (tmp_path / "experiments" / "binary.yaml").write_bytes(b"\xff\xfe")
    lab = Lab(tmp_path)
    said = print_of(lab, "schema", "--write", "--lines")
    assert "wrote experiments/.schema/sweep.json" in said
    assert "added the editor line to experiments/more/old.yaml" in said
    line = "# yaml-language-server: $schema=../.schema/experiment.json\n"
    assert old.read_text() == f"# A question\n{line}base: ../x.yaml\n"
    assert (old.parent / "../.schema/experiment.json").is_file()
    assert add_editor_lines(lab) == []
    assert write_schemas(lab) == []
    assert (tmp_path / SCHEMA_FOLDER / "lab.json").is_file()
    assert json.loads(print_of(lab, "schema", "ensemble"))["title"] == "A birdlab ensemble"


def test_the_editor_line_names_the_kind_of_the_file() -> None:
    for text, kind in (
        ("grid: {}\n", "sweep"),
        ("members: []\n", "ensemble"),
        ("steps: []\n", "steps"),
    ):
        assert add_editor_line(text, "s").startswith(
            f"# yaml-language-server: $schema=s/{kind}.json"
        )
    own = "# $schema: mine.json\nbase: x.yaml\n"
    assert add_editor_line(own, "s") == own
