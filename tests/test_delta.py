"""Changes to raw specs: merging, dotted names, named lists; nothing given is ever changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from conftest import TINY_SPEC
from hypothesis import given
from hypothesis import strategies as st

from birdlab.errors import SpecError
from birdlab.spec.delta import merge, set_fields
from birdlab.spec.diff import diff_specs, flatten, title_of
from birdlab.spec.experiment import build_spec
from birdlab.spec.identity import canonical_json, digest
from birdlab.spec.yamlfile import Document, parse_yaml

LIST: list[Any] = ["a", {"b": {"p": 1}}, {"c": 3}, {"name": "d", "kind": "b", "p": 2}]


def test_mappings_merge_and_lists_replace() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": [1, 2]}
    assert merge(below, {"a": {"y": 3}, "b": [9]}) == {"a": {"x": 1, "y": 3}, "b": [9]}


def test_another_kind_replaces_and_the_same_kind_merges() -> None:
    below = {"optimizer": {"kind": "adam", "lr": 1}}
    assert merge(below, {"optimizer": {"kind": "adamw"}}) == {"optimizer": {"kind": "adamw"}}
    assert merge(below, {"optimizer": {"kind": "adam", "x": 2}}) == {
        "optimizer": {"kind": "adam", "lr": 1, "x": 2}
    }


def test_length_is_replaced_whole() -> None:
    assert merge({"length": {"epochs": 5}}, {"length": {"steps": 2}}) == {"length": {"steps": 2}}
    assert set_fields({"length": {"epochs": 5}}, {"length.steps": 2}) == {"length": {"steps": 2}}


def test_a_mapping_over_a_list_changes_items_by_name() -> None:
    out = merge({"l": LIST}, {"l": {"a": {"p": 5}, "b": "off", "c": 4, "d": {"p": 7}, "e": {}}})
    assert out["l"] == [
        {"a": {"p": 5}},
        {"c": 4},
        {"d": {"kind": "b", "p": 7}},
        {"e": {}},
    ]


def test_dotted_names_reach_into_named_items() -> None:
    out = set_fields({"l": LIST}, {"l.b.p": 9, "l.a.q": 1, "l.d": "off", "l.new": {"p": 1}})
    assert out["l"] == [{"a": {"q": 1}}, {"b": {"p": 9}}, {"c": 3}, {"new": {"p": 1}}]
    assert set_fields({}, {"a.b.c": 1}) == {"a": {"b": {"c": 1}}}
    assert set_fields({"head": "sed"}, {"head.hidden": 1}) == {"head": {"kind": "sed", "hidden": 1}}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"l.z.p": 1}, "not in the list"),
        ({"l.z": "off"}, "off already"),
        ({"n.x": 1}, "no fields"),
        ({"l.c.x": 1}, "no fields"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(SpecError, match=part):
        set_fields({"l": LIST, "n": 4}, changes)


def test_an_item_without_a_name_stands_in_nobodys_way() -> None:
    raw: dict[str, Any] = {"l": [None, [], {}, {"x": 1, "y": 2}, {"b": {}}]}
    assert set_fields(raw, {"l.b": "off"}) == {"l": [None, [], {}, {"x": 1, "y": 2}]}


KEYS = st.sampled_from(["a", "b", "kind", "length", "l", "start", "name"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["a", "b", "off"]))
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(".".join)


@given(TREES, st.dictionaries(DOTTED, LEAVES, max_size=3))
def test_set_fields_changes_neither_input(raw: dict[str, Any], changes: dict[str, Any]) -> None:
    before = copy.deepcopy((raw, changes))
    try:
        out = set_fields(raw, changes)
    except SpecError:
        out = None
    assert (raw, changes) == before
    for dotted, value in changes.items():
        if out is not None and "." not in dotted and len(changes) == 1:
            assert out[dotted] == value


@given(TREES, TREES)
def test_merge_changes_neither_input_and_shares_nothing(
    raw: dict[str, Any], delta: dict[str, Any]
) -> None:
    before = copy.deepcopy((raw, delta))
    try:
        out = merge(raw, delta)
    except SpecError:
        assert (raw, delta) == before
        return
    assert (raw, delta) == before
    for value in out.values():
        if isinstance(value, list):
            value.append("mine")
        elif isinstance(value, dict):
            value["mine"] = 1
    assert (raw, delta) == before


PLAIN = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 3),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(PLAIN, PLAIN)
def test_merging_twice_is_merging_once(raw: dict[str, Any], delta: dict[str, Any]) -> None:
    once = merge(raw, delta)
    assert merge(once, delta) == once
    assert merge(raw, {}) == raw


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    return float(value) if type(value) is int else value


JSON = st.recursive(
    st.one_of(st.none(), st.text(max_size=3), st.integers(-(2**52), 2**52), st.floats(-1e9, 1e9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON)
def test_canonical_json_has_one_spelling(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(shuffled(value)) == text
    assert canonical_json(json.loads(text)) == text


def test_canonical_json_tells_apart_what_differs() -> None:
    spellings = [1, 1.5, "1", True, None, [1], [1, 2], [2, 1], {"a": 1}, {"a": None}, {}]
    assert len({canonical_json(s) for s in spellings}) == len(spellings)
    assert canonical_json({"b": 1.0, "a": -0.0}) == '{"a":0,"b":1}'
    assert len(digest([1], 12)) == 12


def test_diff_names_what_differs_and_titles_are_short() -> None:
    base = build_spec(parse_yaml(TINY_SPEC, "x"))
    changes = {"train.optimizer.lr": 1e-2, "augment.or_mixup.p": 1, "augment.spec_mask": "off"}
    other = build_spec(parse_yaml(TINY_SPEC, "x"), changes)
    differ = {key: (a, b) for key, a, b in diff_specs(base, other)}
    assert differ["train.optimizer.lr"] == (3e-3, 1e-2)
    assert differ["augment.or_mixup.p"] == (0.5, 1.0)
    assert differ["augment.spec_mask.p"] == (0.3, None)
    assert not any(key.startswith("stages") for key in differ), "a stage inherits: told once"
    assert not diff_specs(base, base)
    assert (
        title_of({"train.optimizer.lr": 1e-2, "augment.or_mixup.p": 1}) == "lr=0.01, or_mixup.p=1"
    )
    assert title_of({}) == "base"
    assert flatten(base)["model.frontend.n_mels"] == 32


def test_two_changes_are_two_changes_in_any_document() -> None:
    document = Document(parse_yaml(TINY_SPEC, "x").data)
    one = build_spec(document, {"train.batch": 8})
    two = build_spec(document, {"train.window_s": 3})
    assert (one.train.batch, one.train.window_s) == (8, 2.0)
    assert (two.train.batch, two.train.window_s) == (4, 3.0)
