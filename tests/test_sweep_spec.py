"""Sweep files: the arms of a grid, bundles, twins, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_SPEC
from hypothesis import given
from hypothesis import strategies as st

from birdlab.errors import SpecError
from birdlab.spec.arms import sweep_arms
from birdlab.spec.space import Range
from birdlab.spec.sweep import Sweep, load_sweep


@pytest.fixture
def load(tmp_path: Path) -> Any:
    (tmp_path / "tiny.yaml").write_text(TINY_SPEC)

    def load(text: str, grid: dict[str, list[Any]] | None = None) -> Sweep:
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return load_sweep(path, grid)

    return load


def titles(sweep: Sweep) -> list[str]:
    return [arm.title for arm in sweep_arms(sweep)]


def test_arms_come_with_the_last_entry_changing_fastest(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\ngrid:\n  train.batch: [2, 3]\n  train.optimizer.lr: [1e-3, 1e-2]\n"
    )
    assert titles(sweep) == [
        "batch=2, lr=0.001",
        "batch=2, lr=0.01",
        "batch=3, lr=0.001",
        "batch=3, lr=0.01",
    ]
    arm = sweep_arms(sweep)[1]
    assert arm.delta == {"train.batch": 2, "train.optimizer.lr": 0.01}
    assert (arm.spec.train.batch, arm.spec.train.optimizer.lr) == (2, 0.01)  # type: ignore[attr-defined]
    assert arm.spec.name == arm.title
    assert sweep.spec.name == "s"


def test_bundles_are_named_and_set_applies_to_all_arms(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\nset: {train.window_s: 3}\nproject: p\ncells: {folds: [0], seeds: [4]}\n"
        "grid:\n  mixing: {with: {}, without: {augment.or_mixup: off, train.batch: 2}}\n"
        "  train.secondary: [0, 1]\n"
    )
    arms = sweep_arms(sweep)
    assert [a.title for a in arms] == [
        "with, secondary=0",
        "with, secondary=1",
        "without, secondary=0",
        "without, secondary=1",
    ]
    assert all(a.spec.train.window_s == 3 for a in arms)
    assert all((a.spec.project, a.spec.cells.seeds) == ("p", (4,)) for a in arms)
    assert [len(a.spec.augment) for a in arms] == [4, 4, 3, 3]
    assert arms[2].delta == {"augment.or_mixup": "off", "train.batch": 2, "train.secondary": 0}


FACTORS = """\
base: tiny.yaml
one_factor:
  train.batch: [2, 8]
  no mixing: {augment.or_mixup: off}
  bce at a high rate: {train.loss: bce, train.optimizer.lr: 1e-2}
"""
BUNDLES = """\
  loss: {train.loss: bce}
  gain: {augment.gain: {p: 0.5}}
  louder: {augment.gain.p: 1}
"""


def test_one_factor_is_the_base_and_each_change_alone(load: Any) -> None:
    sweep = load(FACTORS)
    arms = sweep_arms(sweep)
    assert [a.title for a in arms] == [
        *("base", "batch=2", "batch=8", "no mixing", "bce at a high rate")
    ]
    assert [len(a.delta) for a in arms] == [0, 1, 1, 1, 2]
    assert sweep.spec.compared_with == "base"
    assert load(FACTORS + "control: no mixing\n").spec.compared_with == "no mixing"


def test_add_one_stacks_bundles_in_their_order(load: Any) -> None:
    sweep = load("base: tiny.yaml\nadd_one:\n" + BUNDLES)
    arms = sweep_arms(sweep)
    assert [a.title for a in arms] == ["base", "+loss", "+loss +gain", "+loss +gain +louder"]
    assert [len(a.delta) for a in arms] == [0, 1, 2, 3]
    assert [a.spec.augment[-1].name for a in arms] == ["spec_mask", "spec_mask", "gain", "gain"]
    assert [a.spec.augment[-1].p for a in arms[2:]] == [0.5, 1]
    assert sweep.spec.compared_with == "base"


def test_leave_one_out_is_everything_and_all_but_each(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\nleave_one_out:\n  loss: {train.loss: bce}\n"
        "  batch: {train.batch: 8}\n  window: {train.window_s: 1}\n"
    )
    arms = sweep_arms(sweep)
    assert [a.title for a in arms] == ["all", "without loss", "without batch", "without window"]
    full = {"train.loss": "bce", "train.batch": 8, "train.window_s": 1}
    assert arms[0].delta == full
    for arm, key in zip(arms[1:], full, strict=True):
        assert arm.delta == {k: v for k, v in full.items() if k != key}
    assert sweep.spec.compared_with == "all"


def test_a_later_change_of_a_field_comes_after_an_earlier_one(load: Any) -> None:
    arms = sweep_arms(
        load(
            "base: tiny.yaml\nset: {train.loss: bce}\nadd_one:\n  focal: {train.loss: focal}\n"
            "  sharp: {train.loss.gamma: 4}\n  again: {train.loss: {kind: focal, gamma: 3}}\n"
        )
    )
    assert [getattr(a.spec.train.loss, "gamma", None) for a in arms] == [None, 2, 4, 3]


@pytest.mark.parametrize("race", ["true", "{}", "{level: 0.05, min_rounds: 1}"])
def test_a_race_has_a_level_and_rounds_that_all_get(load: Any, race: str) -> None:
    text = FACTORS + "set: {data.folds.n: 3}\ncells: {seeds: [0, 1]}\n"
    sweep = load(f"{text}race: {race}\n")
    assert len(sweep_arms(sweep)) == 5
    assert sweep.spec.race is not None
    assert (sweep.spec.race.level, sweep.spec.race.min_rounds) == (0.05, 1)
    assert load(text).spec.race is None


def test_an_arm_that_does_not_hold_is_named_with_its_line(load: Any) -> None:
    with pytest.raises(SpecError) as caught:
        sweep_arms(load("base: tiny.yaml\none_factor:\n  small: {train.bach: 2}\n"))
    assert "arm 'small'" in str(caught.value)
    assert "s.yaml:3" in str(caught.value)
    assert "did you mean 'batch'" in str(caught.value)


# ---------------------------------------------------------------- conditions

CONDITIONAL = """\
base: tiny.yaml
grid:
  train.loss: [focal, bce]
  train.loss.gamma: {values: [1, 3], when: {train.loss: focal}}
  train.batch: [2, 8]
"""


def test_a_conditional_entry_is_there_where_its_condition_holds(load: Any) -> None:
    assert titles(load(CONDITIONAL)) == [
        "loss=focal, gamma=1, batch=2",
        "loss=focal, gamma=1, batch=8",
        "loss=focal, gamma=3, batch=2",
        "loss=focal, gamma=3, batch=8",
        "loss=bce, batch=2",
        "loss=bce, batch=8",
    ]
    points = [arm.point for arm in sweep_arms(load(CONDITIONAL))]
    assert points[2] == {"train.loss": "focal", "train.loss.gamma": 3, "train.batch": 2}
    assert points[4] == {"train.loss": "bce", "train.batch": 2}


@pytest.mark.parametrize(
    ("when", "n"),
    [
        ("{mixing: with}", 3),
        ("{mixing: [with, without]}", 4),
        ("{augment.or_mixup: off}", 3),
        ("{train.batch: 4}", 4),  # a field of the base that no entry changes
        ("{train.optimizer: adam}", 4),
        ("{train.optimizer.lr: 0.003, mixing: without}", 3),
        ("{output.clip: 0.75}", 4),  # a default that no file states
    ],
)
def test_what_a_condition_may_look_at(load: Any, when: str, n: int) -> None:
    sweep = load(
        "base: tiny.yaml\ngrid:\n  mixing: {with: {}, without: {augment.or_mixup: off}}\n"
        f"  train.secondary: {{values: [0, 0.5], when: {when}}}\n"
    )
    assert len(sweep_arms(sweep)) == n


def test_a_bundle_may_have_a_condition_of_its_own(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\ngrid:\n  train.loss: [focal, bce]\n"
        "  more: {plain: {}, sharp: {train.loss.gamma: 4, when: {train.loss: focal}}}\n"
    )
    assert titles(sweep) == ["loss=focal, plain", "loss=focal, sharp", "loss=bce, plain"]
    assert all("when" not in arm.delta for arm in sweep_arms(sweep))


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ("train.batch: {values: [2], when: {train.los: bce}}", "did you mean 'train.loss"),
        ("train.batch: {values: [2], when: {train.loss: bce}}", "holds at no point"),
        (
            "train.batch: {values: [2], when: {train.loss.kind: bce}}, train.loss: [bce, focal]",
            "move 'train.loss' above it",
        ),
        ("train.batch: {values: [2, 8], when: {train.batch: 2}}", "name another field"),
        ("train.batch: {values: [2, 8], when: bce}", "grid.train.batch"),
        ("arm: {a: {}, b: {train.batch: 2, when: bce}}", "{field: value} pairs"),
        ("train.batch: {values: [2, 8], where: {train.loss: bce}}", "list of values, or name"),
    ],
)
def test_conditions_that_cannot_be_judged(load: Any, entries: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        sweep_arms(load(f"base: tiny.yaml\ngrid: {{{entries}}}\n"))
    assert part in str(caught.value), str(caught.value)
    assert "s.yaml" in str(caught.value)


AXES = (
    ("train.batch", [1, 2, 3, 4]),  # the base has 4
    ("train.secondary", [0, 0.25, 0.5, 1]),  # the base has 1
    ("train.threads_per_cell", [1, 2, 3, 4]),  # the base has 1
    ("evaluate.context_s", [6, 7, 8, 9]),
)
IN_BASE = {"train.batch": 4, "train.secondary": 1, "train.threads_per_cell": 1}


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    wanted=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_a_grid_is_the_product_of_its_entries_less_what_conditions_take(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], wanted: list[int]
) -> None:
    """Against brute force: an entry is asked where the one above took one of its first values."""
    lines, expected, above = [], [dict[str, Any]()], ("", list[Any]())
    for (name, known), size, n in zip(AXES, sizes, wanted, strict=False):
        values, first = known[:size], above[1][:n]
        when = f", when: {{{above[0]}: {first}}}" if first else ""
        lines.append(f"  {name}: {{values: {values}{when}}}" if when else f"  {name}: {values}")
        asked = [{name: v} for v in values]
        expected = [
            {**point, **taken}
            for point in expected
            for taken in (asked if not first or {**IN_BASE, **point}[above[0]] in first else [{}])
        ]
        above = (name, values)
    folder = tmp_path_factory.mktemp("grid")
    (folder / "tiny.yaml").write_text(TINY_SPEC)
    (folder / "s.yaml").write_text("base: tiny.yaml\ngrid:\n" + "\n".join(lines) + "\n")
    assert [arm.point for arm in sweep_arms(load_sweep(folder / "s.yaml"))] == expected


# ---------------------------------------------------------------- random points

RANDOM = """\
base: tiny.yaml
random:
  trials: 12
  space:
    train.optimizer.lr: {kind: log_uniform, low: 1e-4, high: 1e-1}
    train.batch: {kind: int, low: 2, high: 16, step: 2}
    train.loss: [focal, bce]
    train.loss.gamma: {kind: uniform, low: 1, high: 3, when: {train.loss: focal}}
    mixing: {with: {}, without: {augment.or_mixup: off}}
"""


def test_random_points_are_drawn_once_and_go_on(load: Any) -> None:
    arms = sweep_arms(load(RANDOM))
    assert len(arms) == 12
    more = sweep_arms(load(RANDOM.replace("trials: 12", "trials: 20")))
    assert [a.title for a in more[:12]] == [a.title for a in arms]
    assert titles(load(RANDOM + "  seed: 1\n")) != titles(load(RANDOM))
    for arm in more:
        assert 1e-4 <= arm.delta["train.optimizer.lr"] <= 1e-1
        assert arm.delta["train.batch"] in range(2, 17, 2)
        assert ("train.loss.gamma" in arm.delta) == (arm.point["train.loss"] == "focal")
        assert ("augment.or_mixup" in arm.delta) == (arm.point["mixing"] == "without")
        assert f"{arm.delta['train.optimizer.lr']:g}" in arm.title
        assert arm.spec.train.optimizer.lr == float(f"{arm.point['train.optimizer.lr']:.6g}")  # type: ignore[attr-defined]
    assert {a.point["mixing"] for a in more} == {"with", "without"}


def test_a_small_space_gives_each_point_once(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\nrandom: {space: {train.batch: [2, 8], train.secondary: [0, 1]}}\n"
    )
    assert sorted(titles(sweep)) == [
        *("batch=2, secondary=0", "batch=2, secondary=1"),
        *("batch=8, secondary=0", "batch=8, secondary=1"),
    ]


@given(
    low=st.integers(1, 50),
    n=st.integers(1, 30),
    step=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_draws_lie_on_their_scale(low: int, n: int, step: int, seed: int) -> None:
    rng, high = random.Random(seed), low + n * step
    whole = Range(kind="int", low=low, high=high, step=step).draw(rng)
    assert type(whole) is int and whole in range(low, high + 1, step)
    logged = Range(kind="int", low=low, high=high, log=True).draw(rng)
    assert type(logged) is int and low <= logged <= high
    assert low <= Range(kind="log_uniform", low=low, high=high).draw(rng) <= high
    stepped = Range(kind="uniform", low=low, high=high, step=step).draw(rng)
    assert low <= stepped <= high and (stepped - low) % step == 0


def test_log_draws_fill_decades_evenly() -> None:
    rng = random.Random(0)
    field = Range(kind="log_uniform", low=1e-4, high=1e-1)
    draws = [field.draw(rng) for _ in range(3000)]
    per_decade = [sum(10.0**d <= v < 10.0 ** (d + 1) for v in draws) for d in (-4, -3, -2)]
    assert all(900 < n < 1100 for n in per_decade)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("grid: {train.batch: [4, 4]}\n", "lists a value twice"),
        ("grid: {train.optimizer.lr: [1, 1.0]}\n", "no title tells apart"),
        ("grid: {g: {a: {}, b: {train.batch: 4}}}\n", "the same experiment"),
        ("grid: {cells.seeds: [[0], [1]]}\n", "the same experiment"),
        ("grid: {notes: [a, b]}\n", "the same experiment"),
        ("grid: {train.batch: 4}\n", "should be a list of values"),
        ("grid: {train.batch: []}\n", "should be a list of values"),
        ("grid: {g: {a: 1}}\n", "should be a list of values"),
        ("grid: {train.bach: [1, 2]}\n", "did you mean 'batch'"),
        ("grid: {train.batch: [1, none]}\n", "train.batch"),
        ("grid: {augment.or_mixpu.p: [0, 1]}\n", "did you mean 'or_mixup'"),
        ("grid: {}\n", "give one of grid, one_factor"),
        ("grid: {a: [1]}\noptuna: {space: {a: [1]}}\n", "got grid and optuna"),
        ("gird: {a: [1]}\n", "describes no sweep"),
        ("grid: {train.batch: [1, 2]}\nthenn: 1\n", "did you mean 'then'"),
        ("grid: {train.batch: [1, 2]}\ncontrol: batch=3\n", "control"),
        (
            "grid: {train.batch: [1, 2]}\nthen: {top: 1, cells: {folds: [9]}}\n",
            "data.folds makes 0..1",
        ),
        (
            "optuna: {space: {train.batch: {kind: int, low: 4, high: 2}}}\n",
            "should have `low` < `high`",
        ),
        ("optuna: {space: {x: {kind: log_uniform, low: 0, high: 2}}}\n", "`low` > 0"),
        ("optuna: {space: {x: {kind: choice, low: 0}}}\n", "choices"),
        ("optuna: {space: {x: {kind: choices}}}\n", "optuna.space.x"),
        ("optuna: {trials: 3}\n", "optuna.space"),
        ("optuna: {space: {}}\n", "at least 1 item"),
        ("optuna: {space: {x: {kind: int, low: 1.5, high: 4}}}\n", "whole numbers"),
        ("optuna: {space: {x: {kind: int, low: 1, high: 4, step: 2}}}\n", "number of steps"),
        ("optuna: {space: {x: {kind: int, low: 0, high: 4, log: true}}}\n", "log should have"),
        ("optuna: {space: {x: {kind: uniform, low: 1, high: 4, log: true}}}\n", "log_uniform"),
        (
            "optuna: {space: {x: {kind: log_uniform, low: 1, high: 4, step: 1}}}\n",
            "plain scale",
        ),
        ("optuna: {space: {x: {a: {train.batch: 1, when: {b: 1}}}}}\n", "asked whole"),
        ("random: {space: {train.batch: [1, 1]}}\n", "lists a value twice"),
        ("random: {space: {train.bach: [1, 2]}}\n", "did you mean 'batch'"),
        ("one_factor: {train.batch: 4}\n", "field: [values] or name: {changes}"),
        ("one_factor: {train.batch: []}\n", "at least one value"),
        ("one_factor: {train.batch: [2, 2]}\n", "lists a value twice"),
        ("one_factor: {train.batch: [4, 2]}\n", "'batch=4' is the base"),
        ("one_factor: {small: {train.batch: 2}, two: {train.batch: 2}}\n", "same experiment"),
        ("one_factor: {base: {train.batch: 2}}\n", "the same title"),
        ("one_factor: {a: {train.batch: 2, when: {train.loss: bce}}}\n", "`when` goes with"),
        ("one_factor: {loss: {bce: {train.loss: bce}}}\n", "arm 'loss'"),
        ("add_one: {train.batch: [2]}\n", "should be name: {changes}"),
        ("add_one: {a: {}}\n", "should be name: {changes}"),
        ("add_one: {a: {train.batch: 4}}\n", "'+a' is the base"),
        ("leave_one_out: {a: {train.batch: 4}, b: {train.batch: 2}}\n", "same experiment"),
        ("grid: {train.batch: [1, 2]}\nrace: {}\n", "name one as `control`"),
        ("optuna: {space: {train.batch: [1, 2]}}\nrace: {}\n", "a search has none"),
        ("optuna: {space: {train.batch: [1, 2]}}\ncontrol: batch=1\n", "has no `control`"),
        ("one_factor: {train.batch: [2]}\nrace: {level: .5}\n", "race.level"),
        ("one_factor: {train.batch: [2]}\nrace: {rounds: 2}\n", "unknown field 'rounds'"),
        ("one_factor: {train.batch: [2]}\nrace: {}\n", "2 folds and 1 seeds"),
        (
            "one_factor: {train.batch: [2]}\nset: {data.folds.n: 3}\nrace: {min_rounds: 2}\n"
            "cells: {seeds: [0, 1]}\n",
            "more seeds than the 2",
        ),
    ],
)
def test_what_a_sweep_file_may_not_say(load: Any, text: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        sweep_arms(load("base: tiny.yaml\n" + text))
    assert part in str(caught.value), str(caught.value)


def test_bases_that_are_missing(load: Any) -> None:
    with pytest.raises(SpecError, match="names no base"):
        load("grid: {train.batch: [1, 2]}\n")
    with pytest.raises(SpecError, match="cannot be read"):
        load("base: other.yaml\ngrid: {train.batch: [1, 2]}\n")


def test_a_grid_from_the_command_line_goes_over_an_experiment_file(
    load: Any, tmp_path: Path
) -> None:
    sweep = load_sweep(tmp_path / "tiny.yaml", {"train.optimizer.lr": [1e-4, 1e-3]})
    assert sweep.spec.name == "tiny-lr"
    assert titles(sweep) == ["lr=0.0001", "lr=0.001"]
    with pytest.raises(SpecError, match="a sweep file"):
        load("base: tiny.yaml\ngrid: {train.batch: [1, 2]}\n", {"train.batch": [1, 2]})
    with pytest.raises(SpecError, match="describes no sweep"):
        load_sweep(tmp_path / "tiny.yaml")


def test_an_arm_changes_what_set_made(load: Any) -> None:
    sweep = load(
        "base: tiny.yaml\nset: {augment.gain: {p: 0.5}, train.batch: 2}\n"
        "grid:\n  arm:\n    with: {}\n    louder: {augment.gain.gain_db: [0, 6]}\n"
        "    without: {augment.gain: off}\n"
    )
    found = {arm.title: {a.name: a for a in arm.spec.augment} for arm in sweep_arms(sweep)}
    assert "gain" not in found["without"]
    assert found["with"]["gain"].gain_db == (-12, 0)  # type: ignore[attr-defined]
    assert found["louder"]["gain"].gain_db == (0, 6)  # type: ignore[attr-defined]
    assert found["louder"]["gain"].p == 0.5
    assert {arm.spec.train.batch for arm in sweep_arms(sweep)} == {2}


def test_a_recorded_sweep_reads_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "baseline.yaml").write_text(
        (Path(__file__).parents[1] / "experiments" / "baseline.yaml").read_text()
    )
    for form in (
        "grid: {train.optimizer.lr: [1, 2], mix: {on: {}, off: {augment.or_mixup: off}}}",
        "grid: {train.optimizer.lr: {values: [1, 2], when: {train.loss: focal}}}",
        "one_factor: {train.optimizer.lr: [1, 2], mix: {augment.or_mixup: off}}",
        "optuna: {space: {train.optimizer.lr: {kind: log_uniform, low: 1e-3, high: 1}}}",
    ):
        (tmp_path / "s.yaml").write_text(f"base: baseline.yaml\n{form}\n")
        spec = load_sweep(tmp_path / "s.yaml").spec
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_a_grid_of_a_billion_points_is_refused_before_it_is_laid_out(load: Any) -> None:
    fields = ("train.batch", "train.window_s", "train.secondary", "train.length.steps")
    many = "".join(f"  {name}: {list(range(1, 180))}\n" for name in fields)
    with pytest.raises(SpecError, match="more than 10,000 arms"):
        sweep_arms(load(f"base: tiny.yaml\ngrid:\n{many}"))
    values = ", ".join(str(n) for n in range(1, 10_002))
    with pytest.raises(SpecError, match="more than 10,000 arms"):
        sweep_arms(load(f"base: tiny.yaml\none_factor:\n  train.batch: [{values}]\n"))
