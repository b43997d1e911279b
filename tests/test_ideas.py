"""The idea ledger: what an idea is, what its verdicts say together, what is worth another look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.errors import DataError
from birdlab.spec.changes import Change, list_changes
from birdlab.spec.experiment import build_spec, load_document
from birdlab.study.idea_identity import Idea, name_family, name_idea
from birdlab.study.meta_analysis import between_variance, random_effects

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
BASE = load_document(EXPERIMENTS / "baseline.yaml")


def spec(**changes: Any) -> dict[str, Any]:
    """The baseline with changes by dotted name (`__` for a dot), as a record stores it."""
    given = {key.replace("__", "."): value for key, value in changes.items()}
    return build_spec(BASE, given).model_dump(mode="json")


def idea(before: dict[str, Any], after: dict[str, Any]) -> Idea:
    return name_idea(list_changes(before, after))


def pretraining(*, pretrain: str = "pretrain", tune: str = "tune") -> list[dict[str, Any]]:
    stages = {pretrain: {"data": "demo-abroad"}, tune: {"start": pretrain, "transfer": "backbone"}}
    return [{name: stage} for name, stage in stages.items()]


def test_taking_out_and_adding_is_one_idea_with_opposite_signs() -> None:
    without = spec(augment__or_mixup="off")
    added, taken = idea(without, spec()), idea(spec(), without)
    assert (added.name, added.sign, taken.sign) == (taken.name, 1, -1)
    assert added.title == taken.title == "+or_mixup {p: 0.5}"
    assert name_family(list_changes(spec(), without)) == "augment.or_mixup"


def test_an_idea_does_not_depend_on_the_base() -> None:
    other = {"train__loss": {"kind": "bce"}, "train__length__epochs": 5}
    here = idea(spec(augment__or_mixup="off"), spec())
    assert here == idea(spec(augment__or_mixup="off", **other), spec(**other))


def test_an_idea_does_not_depend_on_how_it_is_written() -> None:
    whole = [
        {"or_mixup": {"p": 0.5}},
        {"background": {"p": 0.5, "noise": ["demo"], "level": [0.05, 0.5]}},
        {"masks": {"kind": "spec_mask", "p": 0.3, "max_masks": 3, "max_bins": 6, "max_frames": 10}},
    ]
    assert list_changes(spec(), spec(augment=whole, notes="the same")) == ()
    assert list_changes(spec(), spec(stages=[{"other": {}}])) == ()
    stage = spec(stages__train__train__optimizer__lr=1e-3)
    assert idea(spec(), stage) == idea(spec(), spec(train__optimizer__lr=1e-3))
    renamed = pretraining(pretrain="warm", tune="then")
    assert idea(spec(), spec(stages=pretraining())) == idea(spec(), spec(stages=renamed))


def test_values_are_part_of_an_idea_and_not_of_its_family() -> None:
    up, further = (list_changes(spec(), spec(train__optimizer__lr=lr)) for lr in (0.01, 0.02))
    assert name_idea(up).name != name_idea(further).name
    assert name_family(up) == name_family(further) == "train.optimizer.lr"
    assert name_idea(up).title == "optimizer.lr 0.009 -> 0.01"
    assert name_idea(list_changes(spec(), spec(train__optimizer__lr=0.001))).sign == -1


def test_another_kind_is_one_change() -> None:
    (change,) = list_changes(spec(), spec(train__loss={"kind": "bce"}))
    assert change.field == "train.loss"
    assert (change.before["kind"], change.after["kind"]) == ("focal", "bce")
    mixup = list_changes(spec(), spec(augment__or_mixup={"kind": "mixup", "alpha": 0.4}))
    assert [c.field for c in mixup] == ["augment.mixup", "augment.or_mixup"]


def test_stages_are_told_apart_by_what_they_do() -> None:
    (added,) = list_changes(spec(), spec(stages=pretraining()))
    assert added == Change(
        "stages.pretrain", "off", {"data": "<base>-abroad", "passes on": "backbone"}
    )
    with_both, slower = spec(stages=pretraining()), pretraining()
    slower[1]["tune"]["train"] = {"optimizer": {"lr": 0.003}}
    (tuned,) = list_changes(with_both, spec(stages=slower))
    assert (tuned.field, tuned.before, tuned.after) == ("stages.2.train.optimizer.lr", 0.009, 0.003)
    both = list_changes(with_both, spec(stages=pretraining(), train__optimizer__lr=0.003))
    assert [c.field for c in both] == ["train.optimizer.lr"]
    more = [{"train": {}}, {"more": {"start": "train", "train": {"length": {"epochs": 9}}}}]
    (longer,) = list_changes(spec(), spec(stages=more))
    assert longer.field == "stages.more"
    assert longer.after["train.length.epochs"] == 9


def test_an_idea_crosses_data_sets() -> None:
    elsewhere = {
        "data__base": "realbirds",
        "augment__background__noise": ["realbirds"],
    }
    here = idea(spec(augment__background="off"), spec())
    there = idea(spec(**{**elsewhere, "augment__background": "off"}), spec(**elsewhere))
    assert here == there
    assert "<base>" in here.title
    moved = list_changes(spec(), spec(data__base="realbirds"))
    assert Change("data.base", "demo", "realbirds") in moved
    assert idea(spec(), spec(augment__background__noise=["realbirds"])).sign != 0


FIELDS = {
    "train.optimizer.lr": (0.001, 0.003, 0.009),
    "augment.or_mixup": ("off", {"p": 0.2}, {"p": 0.5}),
    "train.loss": ({"kind": "bce"}, {"kind": "focal", "gamma": 2, "alpha": 0.25}),
    "stages": ([{"train": {}}], pretraining(), [{"train": {}}, {"more": {"start": "train"}}]),
}
SPECS = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in FIELDS.items()})


@settings(max_examples=12)
@given(SPECS, SPECS)
def test_turned_round_every_change_is_turned_round(one: Any, two: Any) -> None:
    a, b = (build_spec(BASE, changes).model_dump(mode="json") for changes in (one, two))
    there, back = list_changes(a, b), list_changes(b, a)
    assert [Change(c.field, c.after, c.before) for c in there] == list(back)
    assert name_idea(there).name == name_idea(back).name
    assert name_idea(there).sign == -name_idea(back).sign


def test_random_effects_agree_with_a_worked_example() -> None:
    """Two effects have a closed form: Q is one squared difference over the sum of variances."""
    y, se = np.array([0.02, 0.08]), np.array([0.01, 0.02])
    found = random_effects(y, se)
    q = 0.06**2 / (0.01**2 + 0.02**2)
    assert found.q == pytest.approx(q)
    # Paule-Mandel: (y1 - y2)^2 / (v1 + v2 + 2 tau2) = 1
    tau2 = (0.06**2 - 0.0005) / 2
    assert found.tau == pytest.approx(np.sqrt(tau2))
    w = 1 / (se**2 + tau2)
    assert found.mean == pytest.approx(w @ y / w.sum())
    assert found.se == pytest.approx(1 / np.sqrt(w.sum()))
    assert found.high - found.mean == pytest.approx(12.7062047 * found.se)
    assert found.predict_high - found.mean == pytest.approx(
        12.7062047 * np.hypot(found.tau, found.se)
    )
    assert 0 <= found.tau_low <= found.tau <= found.tau_high


def test_equal_effects_have_no_spread_and_one_effect_says_nothing_of_it() -> None:
    same = random_effects([0.01, 0.01, 0.01], [0.01, 0.02, 0.03])
    assert (same.tau, same.i2, same.mean) == (0, 0, pytest.approx(0.01))
    assert same.se == pytest.approx(1 / np.sqrt(1e4 + 2500 + 1 / 0.0009))
    alone = random_effects([0.01], [0.02])
    assert (alone.mean, alone.se, alone.n) == (0.01, pytest.approx(0.02), 1)
    assert np.isnan([alone.tau, alone.low, alone.predict_high]).all()


def test_groups_share_one_spread() -> None:
    a, b = np.array([0.0, 0.1]), np.array([1.0, 1.1])
    se = np.full(2, 0.01)
    alone = between_variance([a], [se])
    assert between_variance([a, b, np.array([5.0])], [se, se, np.array([0.01])]) == pytest.approx(
        alone
    )
    with pytest.raises(DataError, match="two of one kind"):
        between_variance([np.array([1.0])], [np.array([0.1])])


@pytest.mark.parametrize(("y", "se"), [([], []), ([1.0], [np.nan]), ([1.0], [-1.0]), ([1.0], [])])
def test_no_effect_or_no_error_is_refused(y: list[float], se: list[float]) -> None:
    with pytest.raises(DataError):
        random_effects(y, se)
