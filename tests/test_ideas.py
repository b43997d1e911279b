"""The idea ledger: what an idea is, what its verdicts say together, what is worth another look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import print_of
from hypothesis import given, settings
from hypothesis import strategies as st
from idea_simulations import cover, reopen

from birdlab.errors import DataError, ResolveError
from birdlab.lab import Lab, open_lab
from birdlab.spec.changes import list_changes
from birdlab.spec.experiment import build_spec, load_document
from birdlab.spec.field_changes import Change
from birdlab.study.effects import COLUMNS, load_effects
from birdlab.study.idea_figures import get_forest_info, plot_forest, plot_ideas
from birdlab.study.idea_identity import Idea, name_family, name_idea
from birdlab.study.ideas import By, IdeaLedger, build_ideas, find_idea, over_data
from birdlab.study.lab_bets import load_bets
from birdlab.study.lab_ideas import command_over, load_ideas
from birdlab.study.meta_analysis import between_variance, random_effects
from birdlab.study.prospects import Spread, foresee
from birdlab.study.reopen import rank_reopening
from birdlab.study.stale import find_stale, hold_against
from birdlab.study.sweep_records import load_sweep
from birdlab.tracking.index import sweep_path
from dashboards import ideas as page
from dashboards.source import LabSource

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
    assert (same.tau, same.i2, same.mean) == pytest.approx((0, 0, 0.01))
    assert same.se == pytest.approx(1 / np.sqrt(1e4 + 2500 + 1 / 0.0009))
    alone = random_effects([0.01], [0.02])
    assert (alone.mean, alone.se, alone.n) == pytest.approx((0.01, 0.02, 1))
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


def verdict(**given: Any) -> dict[str, Any]:
    """One row of `load_effects`, on a base of its own unless said."""
    n = given.pop("n", 0)
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"sweep": f"s{n}", "arm": "plus", "run": f"r{n}", "base_run": f"b{n}", "effect": 0.01}
    row |= {"se": 0.005, "df": 10, "n_folds": 3, "n_seeds": 1, "verdict": "undecided", "sign": 1}
    row |= {"metric": "padded_cmap", "competition": "demo", "data": "demo", "split_folds": 3}
    row |= {"idea": "one", "idea_title": "+one", "family": "one", "changed": ("one",), "hours": 0.5}
    row |= {"cells": (f"c{n}",), "base_cells": (f"d{n}",), "chosen": False, "floor": 0.5}
    row |= {"decided_at": f"2026-01-{n + 1:02d}", "smallest_effect": 0.005}
    return row | given


def ledger_of(*rows: dict[str, Any], by: By = "idea") -> IdeaLedger:
    return build_ideas(pd.DataFrame(rows, columns=list(COLUMNS)), by=by)


def test_one_base_is_not_enough_and_says_so() -> None:
    row = ledger_of(verdict()).ideas.iloc[0]
    assert row["says"] == "not enough evidence"
    assert np.isnan(row["low"])
    assert "takes a second one" in row["note"]


def test_verdicts_are_turned_into_the_direction_of_the_idea() -> None:
    rows = [verdict(n=0), verdict(n=1, sign=-1, effect=-0.012, verdict="worse"), verdict(n=2)]
    found = ledger_of(*rows)
    row = found.ideas.iloc[0]
    assert found.verdicts["gain"].tolist() == [0.01, 0.012, 0.01]
    assert (row["better"], row["worse"]) == (1, 0)
    expected = random_effects([0.01, 0.012, 0.01], [0.005] * 3)
    assert row["mean"] == pytest.approx(expected.mean)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert "All on one data set" in row["note"]


def test_the_same_cells_count_once_also_the_other_way_round() -> None:
    again = verdict(n=3, cells=("c0", "x"), base_cells=("d0", "y"), effect=0.02)
    found = ledger_of(verdict(n=0), again, verdict(n=1))
    assert found.verdicts["left_out"].tolist() == [
        "another verdict compares the same cells",
        "",
        "",
    ]
    turned = verdict(n=4, sign=-1, cells=("d0",), base_cells=("c0",), effect=-0.01)
    assert (ledger_of(verdict(n=0), turned).verdicts["left_out"] == "").sum() == 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"chosen": True}, "picked by its score"),
        ({"n_folds": 2}, "under 3 folds"),
        ({"se": float("nan")}, "under 3 folds"),
        ({"sign": 0}, "differs from its control in nothing"),
    ],
)
def test_what_cannot_be_weighed_is_shown_and_does_not_count(
    changed: dict[str, Any], why: str
) -> None:
    found = ledger_of(verdict(n=0, **changed), verdict(n=1))
    assert why in found.verdicts["left_out"].iloc[0]
    assert found.ideas.iloc[0]["n_counted"] == 1


def test_verdicts_that_share_a_base_count_once() -> None:
    one = verdict(n=0, idea="lr 1", family="lr")
    two = verdict(n=1, idea="lr 2", family="lr", base_run="b0", base_cells=("d0",), effect=0.03)
    found = ledger_of(one, two, by="family")
    bases = found.bases("lr")
    assert len(bases) == 1
    assert bases["gain"].iloc[0] == pytest.approx(0.02)
    assert bases["se"].iloc[0] == pytest.approx(0.005 * np.sqrt(0.75))  # two errors at rho .5
    assert len(ledger_of(one, two).ideas) == 2


def test_other_metrics_are_apart_and_other_scales_are_named() -> None:
    apart = ledger_of(verdict(n=0), verdict(n=1), verdict(n=2, metric="macro_auc"))
    assert apart.verdicts["left_out"].tolist() == ["", "", "it is in another metric"]
    mixed = ledger_of(verdict(n=0), verdict(n=1, split_folds=5, floor=0.2, data="realbirds"))
    row = mixed.ideas.iloc[0]
    assert "splits of 3 and 5 folds, floors 0.20 to 0.50" in row["note"]
    precise = np.array([1 / 0.01**2, 1 / 0.00625**2])  # each error as a share of its own range
    assert row["mean_share"] == pytest.approx(precise @ [0.02, 0.0125] / precise.sum())
    both = over_data(mixed.bases("one"))
    assert both is not None
    assert both.n == 2
    assert over_data(ledger_of(verdict()).bases("one")) is None


def test_an_idea_is_found_by_id_and_title() -> None:
    found = ledger_of(verdict(n=0), verdict(n=1, idea="other", idea_title="+another one"))
    assert find_idea(found, "oth")["idea"] == "other"
    assert find_idea(found, "+one")["idea"] == "one"
    with pytest.raises(ResolveError, match="names 2 ideas"):
        find_idea(found, "+")
    with pytest.raises(ResolveError, match="names no idea"):
        find_idea(found, "zzz")


def test_a_verdict_is_stale_when_anything_but_its_idea_changed() -> None:
    without = spec(augment__or_mixup="off")
    specs = {"r0": spec(), "b0": without}
    given = {"idea": "mix", "changed": ("augment.or_mixup",)}
    verdicts = ledger_of(verdict(**given)).verdicts
    for today, side, n in (
        (spec(), "with", 0),
        (without, "without", 0),
        (spec(augment__or_mixup__p=0.2), "another value", 0),
        (spec(train__window_s=3), "with", 1),
        (spec(data__base="realbirds", augment__background__noise=["realbirds"]), "with", 0),
    ):
        row = hold_against(verdicts, specs, today).iloc[0]
        assert (row["today"], row["n_changed"]) == (side, n), row
        assert len(find_stale(verdicts, specs, today)) == (n > 0)
    moved = find_stale(verdicts, specs, spec(train__window_s=3))
    assert moved["changed_since"].tolist() == ["train.window_s 5 -> 3"]
    assert hold_against(verdicts, {"r0": spec()}, spec()).empty


def compared_with(ledger: IdeaLedger, **given: Any) -> pd.DataFrame:
    """Every verdict beside a base that is without its idea and has changed in two fields."""
    table = ledger.verdicts[["idea", "sweep", "arm", "decided_at", "verdict"]].copy()
    said = {"today": "without", "n_changed": 2, "changed_since": "x, y", "same_data": True} | given
    return table.assign(**said)


def six_ideas() -> IdeaLedger:
    """Six ideas, the first two on two bases each."""
    gains = [
        (0, 0.02),
        (0, 0.03),
        (1, -0.01),
        (1, -0.03),
        (2, 0.01),
        (3, -0.02),
        (4, 0),
        (5, 0.005),
    ]
    return ledger_of(
        *(
            verdict(n=n, idea=f"i{i}", idea_title=f"+i{i}", effect=gain, verdict="worse")
            for n, (i, gain) in enumerate(gains)
        )
    )


def test_rejected_ideas_are_ranked_by_what_a_new_try_is_worth() -> None:
    ledger = six_ideas()
    found = rank_reopening(ledger, compared_with(ledger), commands={"s1": "birdlab sweep s1"})
    table = found.table
    assert table["idea"].iloc[0] == "i0"
    assert table["command"].iloc[0] == "birdlab sweep s1"
    assert table["worth"].is_monotonic_decreasing
    assert (table["worth"] > 0).all()
    assert (table["worth"] >= table["expected"]).all()
    assert set(table["tau_of"]) == {"lab"}
    back = rank_reopening(ledger, compared_with(ledger, today="with")).table
    assert set(back["try"]) == {"take back"}
    assert back["idea"].iloc[0] == "i1"
    assert back.set_index("idea").loc["i0", "expected"] == pytest.approx(-table["expected"].iloc[0])
    assert set(back["last_verdict"]) == {"better"}
    elsewhere = rank_reopening(ledger, compared_with(ledger, today="another value"))
    assert elsewhere.table.empty
    assert "6 ideas left out" in elsewhere.sentences[-1]


def test_an_unchanged_base_leaves_only_the_noise_of_its_verdict() -> None:
    ledger = six_ideas()
    on_others = rank_reopening(ledger, compared_with(ledger))
    moved = on_others.table.set_index("idea")
    here = rank_reopening(ledger, compared_with(ledger, n_changed=0))
    assert "6 ideas tried on today's base itself" in here.sentences[-1]
    assert not any("today's base itself" in s for s in on_others.sentences)
    same = here.table.set_index("idea")
    assert same.loc["i3", "sd"] < moved.loc["i3", "sd"]
    assert same.loc["i3", "expected"] < moved.loc["i3", "expected"] < 0
    assert same.loc["i3", "worth"] < moved.loc["i3", "worth"]


def test_another_data_set_is_another_base_and_an_older_try_on_this_one_counts() -> None:
    ledger = six_ideas()
    moved = rank_reopening(ledger, compared_with(ledger)).table.set_index("idea")
    away = compared_with(ledger, n_changed=0, same_data=False)
    away = rank_reopening(ledger, away).table.set_index("idea")
    assert away.loc["i3", "sd"] == moved.loc["i3", "sd"]
    older = compared_with(ledger)
    older.loc[0, "n_changed"] = 0  # the first of two verdicts on i0 was on today's base
    found = rank_reopening(ledger, older).table.set_index("idea").loc["i0"]
    assert (found["n_changed"], found["tau_of"], found["observed"]) == (0, "", 0.02)


def test_ideas_of_one_stage_are_told_from_those_of_all() -> None:
    one = name_idea([Change("stages.2.train.optimizer.lr", 0.001, 0.002)])
    all_of_them = name_idea([Change("train.optimizer.lr", 0.001, 0.002)])
    assert one.title == "stage 2 optimizer.lr 0.001 -> 0.002" != all_of_them.title
    ideas = ledger_of(verdict(n=0), verdict(n=1, idea="two", idea_title="+one")).ideas
    assert set(page._titles(ideas)) == {"+one (one)", "+one (two)"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("birdlab sweep lr.yaml --jobs 2", "birdlab sweep lr.yaml --jobs 2 --base 'my base.yaml'"),
        (
            "birdlab sweep lr.yaml --base old.yaml --name=x",
            "birdlab sweep lr.yaml --base 'my base.yaml'",
        ),
        ("birdlab sweep --grid x=1,2 old.yaml", "birdlab sweep --grid x=1,2 'my base.yaml'"),
    ],
)
def test_a_sweep_is_laid_over_another_base_however_it_was_typed(typed: str, meant: str) -> None:
    assert command_over(typed, "my base.yaml") == meant


def test_too_few_ideas_are_not_ranked() -> None:
    ledger = ledger_of(verdict(n=0), verdict(n=1))
    found = rank_reopening(ledger, compared_with(ledger))
    assert found.spread is None
    assert "Not enough evidence to rank" in found.sentences[0]
    assert found.table["worth"].isna().all()


def test_a_prospect_agrees_with_brute_force() -> None:
    """One value of both spreads: the posterior of one effect, by integration over a grid."""
    spread = Spread(np.array([0.02]), np.array([0.01]), np.array([1.0]), 9, 9)
    y, se = np.array([0.03, -0.01]), np.array([0.01, 0.02])
    found = foresee(y, se, spread)
    mean = np.linspace(-0.2, 0.2, 4001)
    density = np.exp(-0.5 * (mean / 0.02) ** 2)
    for value, error in zip(y, se, strict=True):
        density *= np.exp(-0.5 * (value - mean) ** 2 / (error**2 + 0.01**2))
    density /= density.sum()
    expected = float(density @ mean)
    variance = float(density @ (mean - expected) ** 2) + 0.01**2
    assert (found.expected, found.sd) == pytest.approx((expected, np.sqrt(variance)), rel=1e-4)
    draws = np.random.default_rng(1).normal(expected, np.sqrt(variance), 400_000)
    assert found.worth == pytest.approx(np.maximum(draws, 0).mean(), rel=0.01)
    assert found.chance == pytest.approx((draws > 0).mean(), abs=0.005)


def test_intervals_hold_the_truth_and_reopening_beats_chance() -> None:
    found = cover(5, 0.01, 300)
    assert found["mean"] > 0.92
    assert found["equal effects"] < 0.8
    assert 0.02 < found["width"] < 0.04
    labs = reopen(20, 0.01, 0.01, 40)
    assert labs["random"] * 1.3 < labs["worth"] < labs["all"]
    assert labs["worth promised"] == pytest.approx(labs["worth"], rel=0.25)
    assert labs["seen promised"] > 1.25 * labs["seen"]


def test_a_forest_has_a_line_per_verdict_and_one_for_a_new_base() -> None:
    ledger = ledger_of(verdict(n=0), verdict(n=1, arm="<b>x</b>"), verdict(n=2, chosen=True))
    info = get_forest_info(ledger, "one")
    assert info.kinds == ["verdict", "verdict", "left out", "mean", "new base"]
    assert info.high[0] == pytest.approx(0.01 + 2.228139 * 0.005)
    assert "<b>" not in plot_forest(info).to_json()
    assert len(plot_ideas(ledger.ideas).data) == 2


BASES = {"first": {}, "second": {"train__loss": {"kind": "bce"}}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with the records of two sweeps, over two bases: with, without and thrice the rate."""
    root = tmp_path_factory.mktemp("ideas")
    (root / "birdlab.toml").write_text("")
    lab = open_lab(root)
    rng = np.random.default_rng(3)
    arms: dict[str, tuple[dict[str, Any], float]] = {
        "base": ({}, 0.0),
        "no or_mixup": ({"augment__or_mixup": "off"}, -0.03),
    }
    arms["faster"] = ({"train__optimizer__lr": 0.027}, 0.01)
    for at, (sweep, base) in enumerate(BASES.items()):
        listed = []
        for place, (title, (changes, gain)) in enumerate(arms.items()):
            run = f"{at}{place}" * 6
            dump = spec(**base, **changes)
            cells = [
                {"fold": fold, "seed": 0, "cell_id": f"{run}-{fold}", "seconds": 60.0}
                | {"padded_cmap": 0.7 + 0.05 * fold + gain + float(rng.normal(0, 0.004))}
                for fold in range(3)
            ]
            evaluation: dict[str, Any] = {"rows_hash": "r", "classes_hash": "c", "folds": [0, 1, 2]}
            evaluation |= {"metric": "padded_cmap", "seeds": [0], "n_rows": 252, "n_classes": 12}
            record: dict[str, Any] = {
                "spec_id": run,
                "name": title,
                "project": "demo",
                "spec": dump,
            }
            record |= {"delta": changes, "cells": cells, "scores": {"cv/floor": 0.5}}
            day = f"2026-01-0{at + 1}"
            record |= {"evaluation": evaluation, "created_at": day, "updated_at": day, "sweeps": {}}
            lab.runs.mkdir(parents=True, exist_ok=True)
            (lab.runs / f"{run}.json").write_text(json.dumps(record))
            listed.append({"title": title, "delta": changes, "spec_id": run, "point": {}})
        asked: dict[str, Any] = {"name": sweep, "base": "baseline.yaml", "control": "base"}
        asked["grid"] = {"arm": {"bundles": {title: {} for title in arms}}}
        kept: dict[str, Any] = {
            "name": sweep,
            "updated_at": f"2026-01-0{at + 1}T00:00:00+00:00",
            "spec": asked,
        }
        kept |= {"arms": listed, "stopped": [], "failed": []}
        sweep_path(lab, sweep).parent.mkdir(parents=True, exist_ok=True)
        sweep_path(lab, sweep).write_text(json.dumps(kept))
    return lab


def test_effects_of_a_lab_are_those_of_its_rankings(lab: Lab) -> None:
    old = '{"spec": {}, "arms": [], "stopped": [], "failed": [], "updated_at": ""}'
    odd = {"broken": "{", "lacking": "{}", "list": "[]", "old": old}
    for name, text in odd.items():
        sweep_path(lab, name).write_text(text)
    found = load_effects(lab)
    bets = load_bets(lab).sentences
    for name in odd:
        sweep_path(lab, name).unlink()
    assert [said for said in bets if said.startswith("Left out: old")]
    assert found["arm"].tolist() == ["no or_mixup", "faster"] * 2
    assert found["idea"].nunique() == 2
    assert found.attrs["left_out"].keys() == set(odd)
    ranking = load_sweep(lab, "first").ranking
    assert ranking is not None
    table = ranking.table.set_index("arm")
    one = found.iloc[0]
    assert one["effect"] == pytest.approx(table.loc["no or_mixup", "delta"])
    assert one["effect"] / one["se"] == pytest.approx(
        (table.loc["no or_mixup", "delta"]) / (ranking.residual_sd * np.sqrt(2 / 3))
    )
    assert (one["sign"], one["base_run"], one["hours"]) == (-1, "00" * 6, pytest.approx(0.05))
    assert json.loads(one["delta"])["augment.or_mixup"][1] == "off"


def test_a_lab_in_words_and_as_data(lab: Lab, tmp_path: Path) -> None:
    text = print_of(lab, "ideas")
    assert "+or_mixup {p: 0.5}" in text
    assert "4 verdicts of 2 sweeps on 2 ideas" in text
    assert "Not enough evidence to rank" in text
    detail = print_of(lab, "ideas", "or_mixup")
    assert "taken back" in detail
    assert "over 2 bases of 1 data set" in detail
    (tmp_path / "base.yaml").write_text((EXPERIMENTS / "baseline.yaml").read_text())
    stale = print_of(lab, "ideas", "--stale", "--base", str(tmp_path / "base.yaml"))
    assert "train.loss bce -> focal" in stale
    data = json.loads(print_of(lab, "ideas", "--json"))
    assert [row["n_bases"] for row in data["ideas"]] == [2, 2]
    assert len(print_of(lab, "ideas", "--csv", "--family").splitlines()) == 3


def test_a_lab_beside_is_read_too_and_counts_once(lab: Lab) -> None:
    both = load_ideas(lab, also=[lab])
    assert len(both.ledger.verdicts) == 8
    assert (both.ledger.verdicts["left_out"] == "").sum() == 4
    assert f"{lab.root.name}/first" in set(both.ledger.verdicts["sweep"])


def test_the_page_has_ideas_bets_and_stale_verdicts(lab: Lab) -> None:
    text = page.build_static(LabSource(lab))
    assert "Stale verdicts" in text
    assert "train.loss" in text
    assert "Bets" in text
    assert "over 2 bases of 1 data set" in text
