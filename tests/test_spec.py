"""Specs: what loads, what is refused and in which words."""

from __future__ import annotations

import copy
import json
import string
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_SPEC
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdlab.errors import BirdlabError, SpecError
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.augmentations import Background, OrMixup
from birdlab.spec.experiment import build_spec
from birdlab.spec.optimizers import Adam, AdamW, Cosine
from birdlab.spec.yamlfile import Document, parse_value, parse_yaml

SMALLEST = "competition: demo\ndata: {base: tiny}\nmodel: {backbone: resnet18}\n"


def build(text: str, changes: dict[str, Any] | None = None) -> ExperimentSpec:
    return build_spec(parse_yaml(text, "x.yaml"), changes)


def refusal(text: str, changes: dict[str, Any] | None = None) -> str:
    with pytest.raises(SpecError) as caught:
        build(text, changes)
    return str(caught.value)


def test_defaults_are_the_recipe_of_2023() -> None:
    spec = build(SMALLEST)
    (stage,) = spec.stages
    assert stage.name == "train"
    assert stage.train == spec.train
    assert (spec.train.length.epochs, spec.train.batch, spec.train.window_s) == (50, 64, 5.0)
    assert spec.train.optimizer == Adam(lr=1e-3, weight_decay=0.0)
    assert spec.train.schedule == Cosine(min_lr=1e-6, per="epoch")
    assert (spec.output.clip, spec.output.time_max) == (0.75, 0.25)
    assert spec.competition.metric == "padded_cmap"
    assert spec.fold_numbers == (0, 1, 2, 3, 4)


def test_an_error_names_file_line_field_value_and_nearest_name() -> None:
    text = "competition: demo\ndata: {base: tiny}\nmodel:\n  backbone: resnet18\n  in_chanels: 1\n"
    message = refusal(text)
    assert "x.yaml:5: model.in_chanels" in message
    assert "unknown field 'in_chanels'; did you mean 'in_channels'?" in message
    message = refusal(SMALLEST + "train:\n  batch: many\n")
    assert "x.yaml:5: train.batch" in message
    assert "'many'" in message


def test_errors_in_fields_that_may_be_left_out_name_what_is_known() -> None:
    message = refusal(
        SMALLEST
        + "rounds: {by: macro_auc, patiense: 2}\n"
        + "evaluate: {synthetic: {backgrounds: demo, snr: 5, snr_db: 5}}\n"
    )
    assert "rounds.patiense: unknown field 'patiense'; did you mean 'patience'?" in message
    assert "unknown field 'snr'; did you mean 'snr_db'?" in message
    assert "evaluate.synthetic.backgrounds: got 'demo'; should be a list: [demo]" in message
    assert "evaluate.synthetic.snr_db: got 5; should be a list" in message


def test_every_problem_is_told_at_once_and_once() -> None:
    message = refusal(
        SMALLEST
        + "train:\n  batch: 0\n  window_s: 900\n  optimizer: {kind: sdg}\nnames: 1\n"
        + "augment:\n  - or_mixup: {p: 2}\n  - or_mixpu: {}\n"
    )
    assert message.startswith("6 things do not hold"), message
    for part in (
        "x.yaml:5: train.batch: got 0",
        "x.yaml:6: train.window_s: got 900",
        "x.yaml:7: train.optimizer: unknown optimizer 'sdg'",
        "x.yaml:8: names: unknown field 'names'; did you mean 'name'?",
        "x.yaml:10: augment.or_mixup.p: got 2",
        "x.yaml:11: augment.or_mixpu: unknown augmentation 'or_mixpu'; did you mean 'or_mixup'?",
    ):
        assert part in message
    assert message.count("train.batch") == 1


def test_of_thousands_of_problems_the_first_are_told_and_the_rest_counted() -> None:
    message = refusal(SMALLEST + "".join(f"k{i}: 1\n" for i in range(3_000)))
    assert message.startswith("more than 20 things do not hold:\n  x.yaml:")
    assert "k19: unknown field" in message and "k20: unknown" not in message
    assert message.endswith("\n  and up to 2,980 more")
    assert "20 things" in refusal(SMALLEST + "".join(f"k{i}: 1\n" for i in range(20)))


def test_a_long_value_is_cut_where_a_problem_shows_it() -> None:
    message = refusal(SMALLEST + f"train: {{batch: {'x' * 9_000}}}\n{'y' * 900}: 1\n")
    assert "train.batch: got 'xxx" in message and "...; should be" in message
    assert "x" * 201 not in message and "unknown field 'yyy" in message


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("data: {base: 2023}\n", 'write "2023"'),
        ("data: {base: tiny, extra: [2022]}\n", 'write "2022"'),
        ("data: {base: tiny}\nproject: 5\n", 'write "5"'),
        ("data: {base: tiny}\ntags: [7]\n", 'write "7"'),
        ("data: {base: tiny, 264: x}\n", 'put it in quotes: "264"'),
    ],
)
def test_a_number_where_a_name_belongs_comes_with_the_fix(text: str, fix: str) -> None:
    message = refusal("competition: demo\nmodel: {backbone: resnet18}\n" + text)
    assert fix in message


def test_a_number_with_exponent_is_a_number_and_no_is_text() -> None:
    spec = build(SMALLEST + "train: {optimizer: {lr: 1e-3}}\nname: no\nnotes: off\n")
    assert spec.train.optimizer == Adam(lr=0.001)
    assert (spec.name, spec.notes) == ("no", "off")
    assert parse_value("1e-3") == 0.001
    assert parse_value("no") == "no"
    assert parse_value("[1e-4, yes]") == [1e-4, "yes"]
    assert parse_value("true") is True


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\na: 2\n", "duplicate key"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        ("a: !!python/name:os.system {x: 1}\n", "tags are not allowed"),
        ("a: !thing {x: 1}\n", "tags are not allowed"),
        ("a: !thing [1]\n", "tags are not allowed"),
        ("a: !!set {x, y}\n", "not allowed"),
        ("!thing {a: 1}\n", "tags are not allowed"),
        ("a: 2023-01-01\n", "put it in quotes"),
        ("a: {1: 2}\n", 'put it in quotes: "1"'),
        ("- a\n", "holds no mapping"),
        ("a: [1\n", "not valid YAML"),
        ("a: 'x\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("? {a: 1}\n: 2\n", ""),
        ("a:\n  ? {a: {b: 1}}\n", "not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
        ("a: " + "[" * 50 + "]" * 50 + "\n", "nested too deeply"),
        ("a: " + "[" * 20_000, "nested too deeply"),  # a tree of it would take half a minute
        ("a: " + "[" * 600 + "]" * 600 + "\n", ""),
        ("base: &b {x: 1}\na:\n  <<: *b\n", "merge keys"),
        ('a: {b: "x\\uD808"}\n', "half of a character"),
        ('"\\uDC35": 1\n', "half of a character"),
    ],
)
def test_yaml_that_is_no_plain_data_is_refused(text: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_yaml(text, "x.yaml")
    assert part in str(caught.value)
    assert "x.yaml" in str(caught.value)


def test_aliases_cannot_blow_up_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(SpecError, match="holds too much"):
        parse_yaml("\n".join(lines), "x.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            load_spec(path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(SpecError, match="not UTF-8"):
        load_spec(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_text("#" * 1_000_001)
    with pytest.raises(SpecError, match="larger than 1 MB"):
        load_spec(tmp_path / "large.yaml")
    (tmp_path / "nul.yaml").write_text('base: "a\\0b"\n')
    with pytest.raises(SpecError):
        load_spec(tmp_path / "nul.yaml")


def test_a_base_is_laid_below_and_keeps_its_lines(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(TINY_SPEC)
    child = tmp_path / "child.yaml"
    child.write_text(
        "base: base.yaml\ntrain: {optimizer: {lr: 1e-2}}\naugment: {or_mixup: {p: 0.9}, "
        "spec_mask: off}\n"
    )
    spec = load_spec(child)
    assert spec.train.optimizer == Adam(lr=0.01)
    assert spec.train.batch == 4
    assert [a.name for a in spec.augment] == ["or_mixup", "background", "random_filtering"]
    assert spec.augment[0] == OrMixup(name="or_mixup", p=0.9)
    (tmp_path / "base.yaml").write_text(TINY_SPEC.replace("batch: 4", "batch: x"))
    with pytest.raises(SpecError, match=r"base\.yaml:13: train\.batch"):
        load_spec(child)


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(SpecError, match="circle"):
        load_spec(tmp_path / "a.yaml")


def test_overrides_as_typed_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPEC)
    spec = load_spec(
        path,
        [
            "train.optimizer.kind=adamw",
            "train.optimizer.lr=1e-4",
            "train.length.epochs=3",
            "augment.background.level=[0.1, 0.2]",
            "augment.or_mixup=off",
            "cells.folds=[0]",
        ],
    )
    assert spec.train.optimizer == AdamW(lr=1e-4)
    assert (spec.train.length.epochs, spec.train.length.steps) == (3, None)
    assert [a.name for a in spec.augment] == ["background", "random_filtering", "spec_mask"]
    assert spec.augment[0] == Background(name="background", noise=("tiny",), level=(0.1, 0.2))
    assert spec.fold_numbers == (0,)
    with pytest.raises(SpecError, match="has no `=`"):
        load_spec(path, ["train.batch"])
    with pytest.raises(SpecError, match=r"train\.bach: unknown field 'bach'; did you mean 'batch'"):
        load_spec(path, ["train.bach=3"])
    with pytest.raises(SpecError, match="not in the list"):
        load_spec(path, ["augment.or_mixpu.p=0.1"])


def test_length_is_exactly_one_of_three() -> None:
    for length in ("{}", "{epochs: 1, steps: 2}", "{epochs: 0}", "{steps: 1.5}"):
        assert "train.length" in refusal(SMALLEST + f"train: {{length: {length}}}\n")
    spec = build(SMALLEST + "train: {length: {clips: 100}}\n", {"train.length": {"steps": 7}})
    assert (spec.train.length.clips, spec.train.length.steps) == (None, 7)


def test_a_stage_inherits_what_it_does_not_spell_out() -> None:
    text = TINY_SPEC + (
        "stages:\n"
        "  - pretrain: {data: abroad, augment: [spec_mask], train: {length: {steps: 2}}}\n"
        "  - tune: {start: pretrain, transfer: backbone, augment: {or_mixup: off}, "
        "train: {optimizer: {kind: adamw, lr: 1e-4}}}\n"
    )
    spec = build(text)
    pretrain, tune = spec.stages
    assert (pretrain.train.length.steps, tune.train.length.steps) == (2, 4)
    assert pretrain.train.optimizer == Adam(lr=3e-3)
    assert tune.train.optimizer == AdamW(lr=1e-4)
    assert (pretrain.train.batch, tune.train.batch) == (4, 4)
    assert [a.name for a in pretrain.augment] == ["spec_mask"]
    assert [a.name for a in tune.augment] == ["background", "random_filtering", "spec_mask"]
    changed = build(text, {"train.batch": 8, "stages.tune.train.batch": 2})
    assert [s.train.batch for s in changed.stages] == [8, 2]


def test_a_stage_that_is_off_is_spliced_out() -> None:
    text = TINY_SPEC + (
        "stages:\n  - first: {data: abroad}\n  - second: {data: abroad, start: first}\n"
        "  - tune: {start: second, transfer: backbone}\n"
    )
    spec = build(text, {"stages.second": "off"})
    assert [(s.name, s.start) for s in spec.stages] == [("first", None), ("tune", "first")]
    spec = build(text, {"stages.first": "off"})
    assert [(s.name, s.start) for s in spec.stages] == [("second", None), ("tune", "second")]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("stages: [{tune: {start: pretrain}}]\n", "not an earlier stage"),
        ("stages: [{pretrain: {data: abroad}}]\n", "the last stage"),
        ("stages: [a, a]\n", "more than once"),
        ("stages: 5\n", "should be a list"),
        ("cells: {folds: [7]}\n", "data.folds makes 0..4"),
        ("cells: {folds: []}\n", "at least one number"),
        ("cells: {seeds: [1, 1]}\n", "each once"),
        ("output: {clip: 0.9, time_max: 0.2}\n", "clip + time_max should be 1"),
        ("train: {batch: .inf}\n", "train.batch"),
        ("train: {optimizer: {lr: .nan}}\n", "train.optimizer.lr"),
        ("train: {optimizer: {lr: true}}\n", "train.optimizer.lr"),
        ("augment: [{background: {noise: []}}]\n", "augment.background.noise"),
        ("augment: [{background: {noise: [a], level: [0.9, 0.1]}}]\n", "level: should rise"),
        ("augment: {or_mixup: {p: 1}}\n", "should be a list of `- name: {fields}`"),
        ("augment: [or_mixup, or_mixup]\n", "write `- another_name: {kind: ...}`"),
        ("augment: [3]\n", "augment"),
        ("augment:\n", "augment"),
    ],
)
def test_fields_that_do_not_fit_each_other(text: str, part: str) -> None:
    assert part in refusal(SMALLEST + text)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("{dedupe: []}", "should name a column"),
        ("{duration: {min_s: 5, max_s: 2}}", "max_s 2 is below min_s 5"),
    ],
)
def test_rules_that_can_only_be_a_slip_are_refused(rule: str, part: str) -> None:
    text = SMALLEST.replace("data: {base: tiny}", f"data: {{base: tiny, clean: [{rule}]}}")
    assert part in refusal(text)


def test_two_augmentations_of_one_kind_have_names_of_their_own() -> None:
    spec = build(SMALLEST + "augment: [spec_mask, {wide: {kind: spec_mask, max_bins: 40}}]\n")
    assert [(a.name, a.kind) for a in spec.augment] == [
        ("spec_mask", "spec_mask"),
        ("wide", "spec_mask"),
    ]


def test_unknown_competitions_name_the_nearest() -> None:
    message = refusal(SMALLEST.replace("demo", "birdclef-2032"))
    assert "did you mean 'birdclef-202" in message
    assert "x.yaml:1" in message
    custom = build(SMALLEST.replace("demo", "{name: mine, metric: macro_auc, window_s: 3}"))
    assert (custom.competition.metric, custom.competition.window_s) == ("macro_auc", 3.0)


def test_a_spec_survives_its_own_dump() -> None:
    spec = build(TINY_SPEC + "stages: [{a: {data: abroad}}, {b: {start: a, transfer: backbone}}]\n")
    assert ExperimentSpec.model_validate(spec.model_dump()) == spec
    assert ExperimentSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ExperimentSpec.model_validate(json.loads(spec.model_dump_json())) == spec


def test_a_spec_is_frozen() -> None:
    spec = build(SMALLEST)
    with pytest.raises(Exception, match="frozen"):
        spec.train.batch = 3


# ---------------------------------------------------------------- anything a person may type

PIECES = st.one_of(
    st.text(string.printable, max_size=12),
    st.sampled_from(
        ["{", "}", "[", "]", ": ", "- ", "\n", "\n  ", "&a ", "*a", "!!x ", "<<: ", "|\n", "? "]
    ),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(TINY_SPEC)), st.integers(0, 6), PIECES), max_size=4))
def test_mutated_text_loads_or_is_refused_in_words(edits: list[tuple[int, int, str]]) -> None:
    text = TINY_SPEC
    for place, cut, piece in edits:
        text = text[:place] + piece + text[place + cut :]
    try:
        spec = build(text)
    except BirdlabError as error:
        assert str(error)
    else:
        assert spec.stages


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**20),
    st.floats(),
    st.sampled_from(["", "off", "all", "or_mixup", "train", "kind", "a.b"]),
    st.lists(st.one_of(st.integers(0, 3), st.just("or_mixup"), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["kind", "name", "p", "or_mixup"]), st.integers(), max_size=2),
)


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys: Any = (
        node if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    )
    return [at, *(p for key in keys for p in places(node[key], (*at, key)))]


RAW = parse_yaml(TINY_SPEC + "stages: [{a: {data: abroad}}, {b: {start: a}}]\n", "x.yaml").data


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(places(RAW)[1:]), VALUES), min_size=1, max_size=3))
def test_mutated_data_builds_or_is_refused_in_words(
    edits: list[tuple[tuple[Any, ...], Any]],
) -> None:
    raw = copy.deepcopy(RAW)
    for place, value in edits:
        node: Any = raw
        for key in place[:-1]:
            present = isinstance(node, dict | list) and (
                key in node if isinstance(node, dict) else isinstance(key, int) and key < len(node)
            )
            node = node[key] if present else None
        if isinstance(node, dict) or (isinstance(node, list) and place[-1] in range(len(node))):
            node[place[-1]] = value
    changes = {"augment.spec_mask": "off", "stages.b.train.batch": 2}
    try:
        spec = build_spec(Document(raw), changes)
    except BirdlabError as error:
        assert str(error)
    else:
        assert spec.stages
