"""Campaigns: which errors are tried again, when runs are scored, arms that come and go."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeLab

from birdlab.campaign import TRIES
from birdlab.errors import BirdlabError, CellError, CellIOError, LostWorkerError
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.run import run_experiments
from birdlab.runresult import RunNote, RunResult
from birdlab.spec import load_spec
from birdlab.spec.sweep import load_sweep
from birdlab.sweep.driver import run_sweep
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.result import SweepResult
from birdlab.sweep.slots import Inventory
from birdlab.tasks import RETRIED, CellTask, Event, InProcess, failure, wanted
from birdlab.tracking.index import load_runs, load_sweeps


class Unlucky(InProcess):
    """Trains as InProcess does, after each cell failed with an error so many times."""

    def __init__(self, error: type[CellError], times: int) -> None:
        self.error, self.times = error, times
        self.tried: list[str] = []

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        failed: dict[str, BirdlabError] = {}
        for task in tasks:
            self.tried.append(task.cell_id)
            if self.tried.count(task.cell_id) <= self.times:
                failed[task.cell_id] = self.error("no luck")
                if not isinstance(failed[task.cell_id], RETRIED):
                    emit(failure(task.cell_id, failed[task.cell_id]))
            else:
                failed |= super().execute([task], emit, wanted)
        return failed


class Told:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def started(self, plan: Plan, note: RunNote) -> None:
        self.said.append(("started", note.title))

    def finished(self, result: RunResult) -> None:
        self.said.append(("finished", result.note.title))

    def failed(self, plan: Plan, error: BirdlabError, *, stopped: bool = False) -> None:
        self.said.append(("stopped" if stopped else "failed", plan.spec.name))


@pytest.mark.parametrize(
    ("error", "times", "tries", "works"),
    [
        (LostWorkerError, 1, 2, True),
        (CellIOError, TRIES - 1, TRIES, True),
        (CellIOError, TRIES, TRIES, False),
        (CellError, 1, 1, False),
    ],
)
def test_errors_that_may_pass_are_tried_again_and_others_are_not(
    make_lab: MakeLab, error: type[CellError], times: int, tries: int, works: bool
) -> None:
    lab, events, sink = make_lab(), list[Event](), Told()
    executor = Unlucky(error, times)
    spec = load_spec(lab.root / "tiny.yaml", {"name": "tiny", "cells.folds": [0]})
    (result,) = run_experiments(
        [(spec, RunNote("tiny"))], lab=lab, executor=executor, sinks=[sink], emit=events.append
    )
    assert isinstance(result, RunResult) is works
    assert len(executor.tried) == tries
    retried = [e.values["attempt"] for e in events if e.kind == "retry"]
    assert retried == list(range(2, tries + 1))
    assert [e.kind for e in events].count("failed") == (not works)
    assert sink.said == [("started", "tiny"), ("finished" if works else "failed", "tiny")]


class HalfBroken(Unlucky):
    """The first cell fails for good; the process of every other one is lost once."""

    def execute(
        self,
        tasks: Sequence[CellTask],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool] = wanted,
    ) -> dict[str, BirdlabError]:
        broken = (self.tried or [tasks[0].cell_id])[0]
        failed: dict[str, BirdlabError] = {}
        for task in tasks:
            if task.cell_id == broken:
                self.tried.append(broken)
                failed[broken] = CellError("broken for good")
            else:
                failed |= super().execute([task], emit, wanted)
        return failed


@pytest.mark.parametrize("arms", [1, 3])
def test_a_cell_that_failed_for_good_is_known_after_others_are_tried_again(
    make_lab: MakeLab, arms: int
) -> None:
    lab, sink = make_lab(), Told()
    executor = HalfBroken(LostWorkerError, 1)
    folds = "all" if arms == 1 else [0]
    specs = [
        (
            load_spec(
                lab.root / "tiny.yaml", {"name": str(n), "train.batch": n, "cells.folds": folds}
            ),
            RunNote(str(n)),
        )
        for n in range(4, 4 + arms)
    ]
    first, *others = run_experiments(specs, lab=lab, executor=executor, sinks=[sink])
    assert isinstance(first, CellError) and "broken for good" in first.what
    assert executor.tried.count(executor.tried[0]) == 1, "numbers do not change by trying"
    assert all(isinstance(result, RunResult) for result in others)
    assert sink.said.count(("failed", "4")) == 1


def test_a_stage_that_no_scored_cell_goes_back_to_is_trained_too(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {"cells.folds": [0], "stages": [{"aside": {"data": "abroad"}}, {"tune": {}}]}
    spec = load_spec(lab.root / "tiny.yaml", changes)
    (result,) = run_experiments([(spec, RunNote())], lab=lab, executor=InProcess())
    assert isinstance(result, RunResult)
    assert (result.trained, len(result.cells)) == (2, 1)


def test_what_stands_on_a_start_that_is_tried_again_is_tried_with_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    changes = {
        "cells.folds": [0],
        "stages": [
            {"pretrain": {"data": "abroad"}},
            {"tune": {"start": "pretrain", "transfer": "backbone"}},
        ],
    }
    executor = Unlucky(LostWorkerError, 1)
    spec = load_spec(lab.root / "tiny.yaml", changes)
    (result,) = run_experiments([(spec, RunNote())], lab=lab, executor=executor)
    assert isinstance(result, RunResult)
    assert [executor.tried.count(cell) for cell in dict.fromkeys(executor.tried)] == [2, 2]


@pytest.mark.slow
def test_what_was_skipped_for_a_lost_start_is_no_failure(make_lab: MakeLab) -> None:
    """The child at the start is killed once; the cell that waits for it is tried with it.

    Slow: processes that import torch, one after the other; the test before this one takes the same
    road in one process, and test_local kills a child.
    """
    lab, events = make_lab(), list[Event]()
    stages = [
        {"pretrain": {"data": "abroad"}},
        {"tune": {"start": "pretrain", "transfer": "backbone"}},
    ]
    spec = load_spec(lab.root / "tiny.yaml", {"cells.folds": [0], "stages": stages})

    def emit(event: Event) -> None:
        events.append(event)
        if [e.kind for e in events] == ["queued", "queued", "placed"]:
            os.kill(event.values["pid"], signal.SIGKILL)

    with LocalExecutor(Inventory(1)) as executor:
        (result,) = run_experiments([(spec, RunNote())], lab=lab, executor=executor, emit=emit)
    assert isinstance(result, RunResult)
    kinds = [e.kind for e in events]
    assert (kinds.count("retry"), kinds.count("failed"), kinds.count("done")) == (2, 0, 2)


def test_a_run_is_told_when_its_last_cell_is_done_and_not_at_the_end(make_lab: MakeLab) -> None:
    lab, sink = make_lab(), Told()
    specs = [
        (load_spec(lab.root / "tiny.yaml", {"train.batch": n, "cells.folds": [0]}), RunNote(str(n)))
        for n in (3, 5)
    ]
    seen: list[list[tuple[str, str]]] = []

    def emit(event: Event) -> None:
        if event.kind == "start":
            seen.append(list(sink.said))

    run_experiments(specs, lab=lab, executor=InProcess(), sinks=[sink], emit=emit)
    assert ("finished", "3") not in seen[0]
    assert ("finished", "3") in seen[1]
    assert sink.said[-2:] == [("finished", "3"), ("finished", "5")]


class BaseWins:
    """A race that everyone but the first run loses at once; writes down who was shown to it."""

    def __init__(self) -> None:
        self.shown: list[set[int]] = []

    def losers(self, scores: pd.DataFrame, rounds: int) -> dict[int, str]:
        self.shown.append(set(scores["run"]))
        return dict.fromkeys(self.shown[-1] - {0}, f"after {rounds}")


@pytest.mark.parametrize("cached", [False, True])
def test_who_lost_is_shown_to_no_later_round_also_where_it_was_complete(
    make_lab: MakeLab, cached: bool
) -> None:
    lab, race = make_lab(trained=True), BaseWins()
    specs = [
        (
            load_spec(
                lab.root / "tiny.yaml",
                {"output": {"clip": n, "time_max": 1 - n}, "cells.seeds": seeds},
            ),
            RunNote(),
        )
        for n, seeds in ((0.25, [0, 1, 2]), (0.5, [0] if cached else [0, 1, 2]))
    ]
    results = run_experiments(specs, lab=lab, executor=InProcess(), race=race)
    assert race.shown == [{0, 1}, {0}]
    other = results[1]
    assert isinstance(other, RunResult) and bool(other.scores) is cached


# ---------------------------------------------------------------- arms that come and go


def sweep(lab: Lab, arms: str, events: list[Event]) -> SweepResult:
    path: Path = lab.root / "s.yaml"
    path.write_text(f"base: tiny.yaml\ncells: {{folds: [0]}}\ngrid: {{train.batch: {arms}}}\n")
    events.clear()
    return run_sweep(load_sweep(path), lab, InProcess(), emit=events.append)


def test_an_added_arm_joins_a_removed_one_leaves_and_nothing_is_deleted(make_lab: MakeLab) -> None:
    lab, events = make_lab(), list[Event]()
    first = sweep(lab, "[3, 4]", events)
    cells = {p.name for p in lab.cells.glob("[!.]*")}
    second = sweep(lab, "[4, 5]", events)
    assert [e.kind for e in events].count("done") == 1
    assert {a.title for a, _ in second.scored} == {"batch=4", "batch=5"}
    assert {a["title"] for a in load_sweeps(lab)["s"]["arms"]} == {"batch=4", "batch=5"}
    assert cells < {p.name for p in lab.cells.glob("[!.]*")}
    gone = next(r for a, r in first.scored if a.title == "batch=3")
    assert gone.spec_id in set(load_runs(lab)["run"])
    third = sweep(lab, "[3, 4, 5]", events)
    assert (events, len(third.scored)) == ([], 3)
