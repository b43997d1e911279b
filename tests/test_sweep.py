"""Sweeps: a ranking from trained cells, failures beside it, searches that resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeLab

from birdlab.errors import CellError, SpecError
from birdlab.lab import Lab
from birdlab.record import RunResult
from birdlab.spec.sweep import OptunaSpec, Range, load_sweep
from birdlab.sweep.driver import SweepResult, plan_sweep, run_sweep
from birdlab.sweep.executors import ProcessExecutor, build_executor
from birdlab.sweep.search import search
from birdlab.tasks import Event
from birdlab.tracking.index import load_runs, load_sweeps
from birdlab.tracking.resolve import resolve_run

BLEND = """\
base: tiny.yaml
name: blend
grid:
  output: [{clip: 1, time_max: 0}, {clip: 0.5, time_max: 0.5}]
"""


def sweep(lab: Lab, text: str, **given: Any) -> SweepResult:
    path = lab.root / "sweep.yaml"
    path.write_text(text)
    return run_sweep(load_sweep(path), lab, given.pop("executor", build_executor(1)), **given)


# ---------------------------------------------------------------- grids


def test_arms_share_cells_and_are_ranked(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab,
        "base: tiny.yaml\nname: s\nexpect: batch 4\ngrid:\n"
        "  what: {base: {}, blended: {output: {clip: 0.5, time_max: 0.5}}, "
        "other: {train.optimizer.lr: 1e-2}}\n",
    )
    assert result.failed == []
    assert {a.title: r.trained for a, r in result.scored} == {"base": 0, "blended": 0, "other": 2}
    scores = [r.cv for _, r in result.scored]
    assert scores == sorted(scores, reverse=True)
    assert result.scores.groupby("arm").size().to_dict() == {"base": 2, "blended": 2, "other": 2}
    assert result.ranking is not None
    assert set(result.ranking.table["arm"]) == {"base", "blended", "other"}
    record = load_sweeps(lab)["s"]
    assert [a["title"] for a in record["arms"]] == [a.title for a, _ in result.scored]
    assert record["sentences"] == list(result.ranking.sentences)
    best = result.scored[0]
    assert resolve_run(lab, "s:best")["spec_id"] == best[1].spec_id
    assert resolve_run(lab, "s:other")["scores"]["cv/padded_cmap"] == next(
        r.cv for a, r in result.scored if a.title == "other"
    )
    again = sweep(lab, (lab.root / "sweep.yaml").read_text())
    assert [r.trained for _, r in again.scored] == [0, 0, 0]


def test_the_plan_of_a_sweep_counts_each_cell_once(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    (lab.root / "s.yaml").write_text(
        "base: tiny.yaml\ngrid: {output.clip: [0.75], evaluate.secondary: [count, ignore], "
        "train.batch: [4, 5]}\n"
    )
    plan = plan_sweep(load_sweep(lab.root / "s.yaml"), lab)
    assert len(plan.arms) == 4
    assert len(plan.cells) == 4
    assert len(plan.cached) == 2


def test_a_failing_arm_is_listed_and_stops_nobody(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    events: list[Event] = []
    result = sweep(
        lab,
        "base: tiny.yaml\nname: s\ngrid:\n  model.backbone: "
        "[no_such_network, mobilenetv3_small_050]\n  output: "
        "[{clip: 1, time_max: 0}, {clip: 0, time_max: 1}]\n",
        emit=events.append,
    )
    assert len(result.scored) == 2
    assert len(result.failed) == 2
    assert all(isinstance(error, CellError) for _, error in result.failed)
    assert result.ranking is not None
    assert len(result.ranking.table) == 2
    assert [e.kind for e in events].count("failed") == 2, "a cell of two arms fails once"
    record = load_sweeps(lab)["s"]
    assert len(record["failed"]) == 2
    assert "no_such_network" in record["failed"][0]["error"]
    assert len(record["arms"]) == 2


def test_a_failed_start_skips_what_stands_on_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    text = (
        "base: tiny.yaml\nset:\n  cells.folds: [0]\n  stages:\n"
        "    - pretrain: {data: abroad, train: {optimizer: {lr: 1e30}, loss: bce, "
        "length: {steps: 4}}}\n"
        "    - tune: {start: pretrain, transfer: backbone, augment: []}\n"
        "grid: {train.batch: [3, 4]}\n"
    )
    for executor in (build_executor(1), ProcessExecutor(1)):
        result = sweep(lab, text, executor=executor)
        assert len(result.failed) == 2
        assert all("2 of 2 cells failed" in str(error) for _, error in result.failed)


def test_finalists_earn_more_evidence(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(
        lab, BLEND + "cells: {folds: [0]}\nthen: {top: 1, cells: {folds: all, seeds: [0]}}\n"
    )
    by_arm = result.scores.groupby("arm").size()
    assert sorted(by_arm.tolist()) == [1, 2]
    (finalist,) = (arm for arm, n in by_arm.items() if n == 2)
    first_fold = result.scores[result.scores["fold"] == 0].set_index("arm")["score"]
    assert first_fold.idxmax() == finalist


def test_one_arm_has_a_score_and_no_ranking(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    result = sweep(lab, "base: tiny.yaml\nname: s\ngrid: {train.batch: [4]}\n")
    assert result.ranking is None
    assert len(result.scored) == 1
    assert load_sweeps(lab)["s"]["ranking"] is None


def test_a_control_is_what_the_others_are_compared_with(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    text = (
        "base: tiny.yaml\nname: s\ncontrol: b\n"
        "grid: {g: {a: {output: {clip: 1, time_max: 0}}, b: {output: {clip: 0, time_max: 1}}}}\n"
    )
    for control in ("a", "b"):
        result = sweep(lab, text.replace("control: b", f"control: {control}"))
        assert result.ranking is not None
        assert result.ranking.base == control


# ---------------------------------------------------------------- searches

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


@pytest.mark.parametrize("sampler", ["tpe", "random"])
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


def test_a_search_runs_real_experiments(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    text = (
        "base: tiny.yaml\nname: found\ncells: {folds: [0]}\noptuna:\n  trials: 3\n  batch: 2\n"
        "  sampler: random\n  space:\n"
        "    output: {kind: choice, choices: [{clip: 1, time_max: 0}, {clip: 0, time_max: 1}]}\n"
        "    evaluate.batch: {kind: int, low: 1, high: 64}\n"
    )
    result = sweep(lab, text)
    assert all(isinstance(r, RunResult) and r.trained == 0 for _, r in result.arms)
    assert 1 <= len(result.arms) <= 3
    journal = (lab.stores / "sweeps" / "found.asked.jsonl").read_text().splitlines()
    assert len(journal) == 3
    assert [a.title for a, _ in sweep(lab, text).arms] == [a.title for a, _ in result.arms]
    assert set(load_sweeps(lab)) == {"found"}
    assert len(load_runs(lab)) <= 3
