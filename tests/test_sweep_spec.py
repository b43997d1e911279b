"""Sweep files: the arms of a grid, bundles, twins, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_SPEC

from birdlab.errors import SpecError
from birdlab.spec.sweep import Sweep, grid_arms, load_sweep


@pytest.fixture
def load(tmp_path: Path) -> Any:
    (tmp_path / "tiny.yaml").write_text(TINY_SPEC)

    def load(text: str, grid: dict[str, list[Any]] | None = None) -> Sweep:
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return load_sweep(path, grid)

    return load


def titles(sweep: Sweep) -> list[str]:
    return [arm.title for arm in grid_arms(sweep)]


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
    arm = grid_arms(sweep)[1]
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
    arms = grid_arms(sweep)
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


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("grid: {train.batch: [4, 4]}\n", "lists a value twice"),
        ("grid: {train.optimizer.lr: [1, 1.0]}\n", "the same experiment"),
        ("grid: {g: {a: {}, b: {train.batch: 4}}}\n", "the same experiment"),
        ("grid: {cells.seeds: [[0], [1]]}\n", "the same experiment"),
        ("grid: {notes: [a, b]}\n", "the same experiment"),
        ("grid: {train.batch: 4}\n", "should be a list of values"),
        ("grid: {train.batch: []}\n", "should be a list of values"),
        ("grid: {g: {a: 1}}\n", "should be a list of values"),
        ("grid: {train.bach: [1, 2]}\n", "did you mean 'batch'"),
        ("grid: {train.batch: [1, none]}\n", "train.batch"),
        ("grid: {augment.or_mixpu.p: [0, 1]}\n", "did you mean 'or_mixup'"),
        ("grid: {}\n", "either `grid` or `optuna`"),
        ("grid: {a: [1]}\noptuna: {space: {}}\n", "either `grid` or `optuna`"),
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
    ],
)
def test_what_a_sweep_file_may_not_say(load: Any, text: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        grid_arms(load("base: tiny.yaml\n" + text))
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
    found = {arm.title: {a.name: a for a in arm.spec.augment} for arm in grid_arms(sweep)}
    assert "gain" not in found["without"]
    assert found["with"]["gain"].gain_db == (-12, 0)  # type: ignore[attr-defined]
    assert found["louder"]["gain"].gain_db == (0, 6)  # type: ignore[attr-defined]
    assert found["louder"]["gain"].p == 0.5
    assert {arm.spec.train.batch for arm in grid_arms(sweep)} == {2}
