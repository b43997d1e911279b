"""Searches by Optuna: what is asked, what a kill costs, conditions, importance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakeLab

from birdlab.errors import SpecError
from birdlab.lab import Lab
from birdlab.runresult import RunResult
from birdlab.spec.searches import OptunaSpec
from birdlab.spec.space import Range
from birdlab.spec.sweep import load_sweep
from birdlab.study.importance_words import importance_sentence, n_needed
from birdlab.sweep.driver import run_sweep
from birdlab.sweep.importance import importance
from birdlab.sweep.result import SweepResult
from birdlab.sweep.search import first_batch, search
from birdlab.tasks import InProcess
from birdlab.tracking.index import load_runs, load_sweeps

SPACE = {
    "train.optimizer.lr": Range(kind="log_uniform", low=1e-4, high=1e-1),
    "train.batch": Range(kind="int", low=2, high=16),
    "train.loss": Range(kind="choice", choices=("bce", "focal")),
    "train.secondary": Range(kind="uniform", low=0.0, high=1.0),
}

Point = dict[str, Any]


def quality(point: Point) -> float:
    """A cheap stand-in for training: best at lr 1e-2, batch 8, focal."""
    return -float(
        abs(math.log10(point["train.optimizer.lr"]) + 2)
        + abs(point["train.batch"] - 8) / 8
        + (point["train.loss"] == "bce")
        + point["train.secondary"]
    )


class Scorer:
    """Scores batches and remembers them; raises KeyboardInterrupt before batch `stop`."""

    def __init__(self, stop: int | None = None, failing: Callable[[int], bool] | None = None):
        self.batches: list[list[Point]] = []
        self.stop, self.failing = stop, failing or (lambda _: False)

    def __call__(self, points: Sequence[Point]) -> list[float | None]:
        if self.stop is not None and len(self.batches) == self.stop:
            raise KeyboardInterrupt
        n = sum(map(len, self.batches))
        self.batches.append(list(points))
        return [None if self.failing(n + i) else quality(p) for i, p in enumerate(points)]


def spec_of(**changes: Any) -> OptunaSpec:
    return OptunaSpec(space=SPACE, **{"trials": 12, "batch": 2, "sampler": "tpe", **changes})


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
@pytest.mark.parametrize("cut", [1, 4])
def test_a_resumed_search_asks_what_an_undisturbed_one_does(
    tmp_path: Path, sampler: str, cut: int
) -> None:
    spec = spec_of(sampler=sampler)
    undisturbed = search(spec, tmp_path / "a.jsonl", Scorer())
    with pytest.raises(KeyboardInterrupt):
        search(spec, tmp_path / "b.jsonl", Scorer(stop=cut))
    scorer = Scorer()
    assert search(spec, tmp_path / "b.jsonl", scorer) == undisturbed
    assert [p for batch in scorer.batches for p in batch] == undisturbed
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [line["changes"] for line in lines] == undisturbed
    assert [line["trial"] for line in lines] == list(range(12))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_torn_last_line_of_the_journal_costs_nothing(tmp_path: Path) -> None:
    spec = spec_of()
    undisturbed = search(spec, tmp_path / "a.jsonl", Scorer())
    whole = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(whole[: whole.index('{"trial": 5') + 30])
    assert search(spec, tmp_path / "a.jsonl", Scorer()) == undisturbed
    assert (tmp_path / "a.jsonl").read_text() == whole


def test_a_failed_trial_does_not_end_the_search(tmp_path: Path) -> None:
    scorer = Scorer(failing=lambda n: n in (0, 3, 4))
    points = search(spec_of(), tmp_path / "a.jsonl", scorer)
    assert len(points) == 12
    again = search(spec_of(), tmp_path / "a.jsonl", Scorer(failing=lambda n: n in (0, 3, 4)))
    assert again == points


def test_tpe_learns_from_what_it_is_told(tmp_path: Path) -> None:
    points = search(spec_of(trials=40, batch=1), tmp_path / "a.jsonl", Scorer())
    early = sum(map(quality, points[:13])) / 13
    late = sum(map(quality, points[-13:])) / 13
    assert late > early + 0.5
    for point in points:
        assert 1e-4 <= point["train.optimizer.lr"] <= 1e-1
        assert point["train.batch"] in range(2, 17)
        assert type(point["train.batch"]) is int
        assert point["train.loss"] in ("bce", "focal")


def test_another_seed_asks_other_points_and_more_trials_go_on(tmp_path: Path) -> None:
    one = search(spec_of(trials=4), tmp_path / "a.jsonl", Scorer())
    assert search(spec_of(trials=4, seed=1), tmp_path / "b.jsonl", Scorer()) != one
    more = search(spec_of(trials=6), tmp_path / "a.jsonl", Scorer())
    assert more[:4] == one
    assert len({json.dumps(p) for p in more}) == 6


@pytest.mark.parametrize(
    "space",
    [
        {k: v for k, v in SPACE.items() if k != "train.loss"},
        {**SPACE, "train.batch": Range(kind="int", low=200, high=300)},
        {**SPACE, "train.loss": Range(kind="choice", choices=("bce", "ce"))},
    ],
)
def test_a_space_that_changed_is_refused(tmp_path: Path, space: dict[str, Range]) -> None:
    search(spec_of(trials=6), tmp_path / "a.jsonl", Scorer())
    with pytest.raises(SpecError, match="search changed"):
        search(OptunaSpec(space=space, trials=8), tmp_path / "a.jsonl", Scorer())


# ---------------------------------------------------------------- kills and conditions

BRANCHES = {
    "train.optimizer.lr": Range(kind="log_uniform", low=1e-4, high=1e-1),
    "train.loss": Range(kind="choice", choices=("bce", "focal")),
    "train.loss.gamma": Range(kind="uniform", low=1.0, high=3.0, when={"train.loss": "focal"}),
    "train.batch": Range(kind="int", low=2, high=16, step=2),
}


def asks_gamma_of_focal(key: str, point: Mapping[str, Any]) -> bool:
    return key != "train.loss.gamma" or point["train.loss"] == "focal"


def branch_quality(points: Sequence[Point]) -> list[float | None]:
    """Scores of a batch; points with a batch of 6 fail."""

    def score(point: Point) -> float:
        lr, gamma = point["train.optimizer.lr"], point.get("train.loss.gamma", 2)
        return -abs(math.log10(lr) + 2) - float(abs(gamma - 2))

    return [None if point["train.batch"] == 6 else score(point) for point in points]


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "random"])
def test_a_kill_after_any_line_of_the_journal_changes_nothing(tmp_path: Path, sampler: str) -> None:
    """Also within a batch, where some points were asked and some not, none of them told."""
    spec = OptunaSpec(space=BRANCHES, trials=9, batch=3, sampler=sampler)  # type: ignore[arg-type]
    path = tmp_path / "a.jsonl"
    undisturbed = search(spec, path, branch_quality, asks_gamma_of_focal)
    whole = path.read_text().splitlines(keepends=True)
    assert len(whole) == 9
    assert {"train.loss.gamma" in point for point in undisturbed} == {True, False}
    for n in range(10):
        path.write_text("".join(whole[:n]))
        assert search(spec, path, branch_quality, asks_gamma_of_focal) == undisturbed, n
        assert path.read_text() == "".join(whole), n


def test_an_entry_is_only_asked_where_its_condition_holds(tmp_path: Path) -> None:
    spec = OptunaSpec(space=BRANCHES, trials=30, batch=5)
    points = search(spec, tmp_path / "a.jsonl", branch_quality, asks_gamma_of_focal)
    for point in points:
        assert ("train.loss.gamma" in point) == (point["train.loss"] == "focal")
        assert point["train.batch"] in range(2, 17, 2)


def test_a_journal_written_before_conditions_existed_is_still_that_search(tmp_path: Path) -> None:
    spec = spec_of(trials=2)
    search(spec, tmp_path / "a.jsonl", Scorer())
    assert (
        json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["search"] == "2f977938b20e"
    )


def test_each_trial_is_told_once_a_failed_one_too(tmp_path: Path) -> None:
    scorer = Scorer(failing=lambda n: n % 3 == 0)
    assert len(search(spec_of(trials=7, batch=3), tmp_path / "a.jsonl", scorer)) == 7
    assert [len(batch) for batch in scorer.batches] == [3, 3, 1]


def test_the_first_batch_is_what_a_search_asks_first(tmp_path: Path) -> None:
    spec = spec_of(batch=3)
    assert first_batch(spec) == search(spec, tmp_path / "a.jsonl", Scorer())[:3]


# ---------------------------------------------------------------- importance


def noisy(point: Point, n: int) -> float:
    wobble = (n * 37 % 11 - 5) / 5 * 0.005
    return -0.05 * abs(math.log10(point["train.optimizer.lr"]) + 2) + wobble


def test_importance_names_what_moved_the_score(tmp_path: Path) -> None:
    spec = OptunaSpec(space=BRANCHES, trials=30, sampler="random")
    points = first_batch(spec.model_copy(update={"batch": 30}), asks_gamma_of_focal)
    shares = importance(spec, [(p, noisy(p, n)) for n, p in enumerate(points)])
    assert next(iter(shares)) == "train.optimizer.lr"
    assert shares["train.optimizer.lr"] > 0.7
    assert sum(shares.values()) == pytest.approx(1)
    assert "train.loss.gamma" not in shares, "it was not asked everywhere"
    assert importance(spec, [(p, noisy(p, n)) for n, p in enumerate(points)]) == shares
    text = importance_sentence(spec, shares, 30)
    assert "train.optimizer.lr" in text and "never moved: train.loss.gamma" in text


def test_importance_is_unknown_with_few_trials_or_nothing_to_compare(tmp_path: Path) -> None:
    spec = OptunaSpec(space=BRANCHES, trials=30, sampler="random")
    points = first_batch(spec.model_copy(update={"batch": 30}), asks_gamma_of_focal)
    scored = [(p, noisy(p, n)) for n, p in enumerate(points)]
    assert n_needed(spec) == 18, "three entries have no condition"
    assert importance(spec, scored[:17]) == {}
    assert importance(spec, scored[:18]) != {}
    assert "17 of the 18" in importance_sentence(spec, {}, 17)
    assert importance(spec, [(p, 0.5) for p in points]) == {}
    one = OptunaSpec(space={"train.batch": BRANCHES["train.batch"]}, trials=30)
    assert importance(one, [({"train.batch": p["train.batch"]}, s) for p, s in scored]) == {}
    assert "nothing to compare" in importance_sentence(one, {}, 30)


@pytest.mark.slow
def test_the_entry_that_matters_is_mostly_named_first_from_enough_points(tmp_path: Path) -> None:
    """The figures of docs/sweeps.md: one entry matters, one a little, one not; 18 points by TPE."""
    space = {key: SPACE[key] for key in ("train.optimizer.lr", "train.batch", "train.secondary")}
    right = 0
    for seed in range(20):
        spec = OptunaSpec(space=space, trials=18, seed=seed)
        rng, scores = np.random.default_rng(seed), []

        def score(point: Point, rng: np.random.Generator = rng) -> float:
            effect = -0.05 * abs(math.log10(point["train.optimizer.lr"]) + 2)
            return effect - 0.01 * abs(point["train.batch"] - 8) / 8 + 0.005 * rng.normal()

        def run_batch(
            points: Sequence[Point], scores: list[float] = scores, score: Any = score
        ) -> list[float | None]:
            told = [score(point) for point in points]
            scores += told
            return list(told)

        points = search(spec, tmp_path / f"{seed}.jsonl", run_batch)
        shares = importance(spec, list(zip(points, scores, strict=True)))
        right += next(iter(shares)) == "train.optimizer.lr"
    print(f"named first: {right} of 20")
    assert right >= 16


# ---------------------------------------------------------------- real experiments

FOUND = """\
base: tiny.yaml
name: found
cells: {folds: [0]}
optuna:
  trials: 3
  batch: 2
  sampler: random
  space:
    output: {kind: choice, choices: [{clip: 1, time_max: 0}, {clip: 0, time_max: 1}]}
    evaluate.batch: {kind: int, low: 1, high: 64}
"""


def sweep(lab: Lab, text: str) -> SweepResult:
    path = lab.root / "sweep.yaml"
    path.write_text(text)
    return run_sweep(load_sweep(path), lab, InProcess())


def test_a_search_runs_real_experiments(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(lab, FOUND)
    assert all(isinstance(r, RunResult) and r.trained == 0 for _, r in result.arms)
    assert 1 <= len(result.arms) <= 3
    journal = (lab.stores / "sweeps" / "found.asked.jsonl").read_text().splitlines()
    assert len(journal) == 3
    assert [a.title for a, _ in sweep(lab, FOUND).arms] == [a.title for a, _ in result.arms]
    assert set(load_sweeps(lab)) == {"found"}
    assert len(load_runs(lab)) <= 3


def test_conditions_and_bundles_reach_the_experiments(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab,
        "base: tiny.yaml\nname: found\ncells: {folds: [0]}\noptuna:\n  trials: 8\n  batch: 8\n"
        "  sampler: random\n  space:\n"
        "    blend: {clip: {output: {clip: 1, time_max: 0}}, base: {}}\n"
        "    evaluate.batch: {kind: int, low: 1, high: 64, when: {blend: base}}\n",
    )
    asked = {arm.title: arm for arm, _ in result.arms}
    assert set(asked) > {"clip"}
    assert asked["clip"].delta == {"output": {"clip": 1, "time_max": 0}}
    for title, arm in asked.items():
        assert title == "clip" or title.startswith("base, batch=")
        assert ("evaluate.batch" in arm.delta) == (arm.point["blend"] == "base")
    assert load_sweeps(lab)["found"]["importance"] == {}


def test_a_point_that_is_asked_twice_is_trained_once(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab,
        "base: tiny.yaml\nname: found\ncells: {folds: [0]}\noptuna: {trials: 6, batch: 2, "
        "sampler: random, space: {train.batch: [3, 4], train.optimizer.lr: [3e-3]}}\n",
    )
    journal = (lab.stores / "sweeps" / "found.asked.jsonl").read_text().splitlines()
    assert len(journal) == 6
    trained = [r.trained for _, r in result.arms if isinstance(r, RunResult)]
    assert len(trained) == len(result.arms) == 2
    assert sum(trained) <= 1, "batch=4 is the trained base"
