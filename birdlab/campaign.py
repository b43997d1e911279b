"""A campaign: the cells of several runs on their way; a run is scored when its last one is done."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from birdlab.cell import find_lacking, is_finished, is_trained
from birdlab.celljob import CellJob, job_folder, save_job
from birdlab.cellplan import CellPlan
from birdlab.errors import BirdlabError, CellError, CellIOError, LostWorkerError, StoppedError
from birdlab.keeping import drop_weights
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.record import RunNote, RunResult, collect, score_cells
from birdlab.tasks import CellTask, Event, Executor

RETRIED = (LostWorkerError, CellIOError)
"""Errors that may not come again; numbers, memory and specs do not change by trying."""
TRIES = 3


class Sink(Protocol):
    """Where results go besides the record: a tracker."""

    def started(self, plan: Plan, note: RunNote) -> None:
        """A run is about to train or to be answered from the cache."""
        ...

    def finished(self, result: RunResult) -> None:
        """A run is scored, or stopped by a race, and its record is written."""
        ...

    def failed(self, plan: Plan, error: BirdlabError, *, stopped: bool = False) -> None:
        """A run has no score, since a cell of it failed or someone stopped it."""
        ...


class Race(Protocol):
    """What decides after each round of folds which runs are not worth another one."""

    def losers(self, scores: pd.DataFrame, rounds: int) -> Mapping[int, str]:
        """The runs to stop, by their place in the campaign, each with the reason in words.

        scores: run, fold, seed, score of the cells of every run that neither failed nor was stopped
        before; rounds: how many seeds are complete. Not asked after the last round.
        """
        ...


class Campaign:
    """Runs whose plans are made; `run` finishes their cells and scores them."""

    def __init__(
        self,
        plans: Sequence[Plan],
        notes: Sequence[RunNote],
        lab: Lab,
        executor: Executor,
        sinks: Sequence[Sink],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool],
    ) -> None:
        self.plans, self.notes, self.lab, self.executor = plans, notes, lab, executor
        self.sinks, self.emit, self.wanted = sinks, emit, wanted
        lacking = [cell for plan in plans for cell in find_lacking(lab, plan.cells)]
        self.untrained = {cell.cell_id for cell in lacking if not is_trained(lab, cell)}
        self.failed: dict[str, BirdlabError] = {}
        self.results: dict[int, RunResult | BirdlabError] = {}

    def run(self, race: Race | None) -> list[RunResult | BirdlabError]:
        """The result of every run in order; see `run_experiments`.

        On Ctrl-C what is unfinished is told to the sinks as stopped, and KeyboardInterrupt goes on.
        """
        for plan, note in zip(self.plans, self.notes, strict=True):
            for sink in self.sinks:
                sink.started(plan, note)
        try:
            for done, seeds in enumerate(self._rounds(race)):
                if done and race is not None:
                    self._stop(race, self._seeds[:done])
                self._finish(seeds)
        except KeyboardInterrupt:
            for place in self._open():
                self._tell_failed(place, CellError("stopped by Ctrl-C"), stopped=True)
            raise
        whole = [p for place, p in enumerate(self.plans) if self._is_scored(place)]
        drop_weights(self.lab, whole, [plan for plan in self.plans if plan not in whole])
        return [self.results[place] for place in range(len(self.plans))]

    def _is_scored(self, place: int) -> bool:
        return isinstance(self.results[place], RunResult)

    @property
    def _seeds(self) -> list[int]:
        return list(dict.fromkeys(s for p in self.plans for s in p.spec.cells.seeds))

    def _rounds(self, race: Race | None) -> list[list[int]]:
        """The seeds of each round: one after the other in a race, else all at once."""
        return [self._seeds] if race is None else [[seed] for seed in self._seeds]

    def _open(self) -> list[int]:
        return [place for place in range(len(self.plans)) if place not in self.results]

    def _stop(self, race: Race, seeds: Sequence[int]) -> None:
        """Settle the runs that the race stops after `seeds`, on the evidence they have.

        Complete runs are shown to it as well, and keep their scores: what it says of the others
        does not depend on which cells were there before.
        """
        tables = [
            score_cells(self.plans[place], self.lab, seeds).assign(run=place)
            for place in range(len(self.plans))
            if self._in_race(place)
        ]
        if not tables:
            return
        losers = race.losers(pd.concat(tables, ignore_index=True), len(seeds))
        for place, reason in losers.items():
            if place not in self.results:
                plan, note = self.plans[place], self.notes[place]
                stopped = collect(
                    plan, self.lab, note, self.untrained, seeds=seeds, stopped_at=reason
                )
                self._settle(place, stopped)

    def _in_race(self, place: int) -> bool:
        result = self.results.get(place)
        return result is None or (isinstance(result, RunResult) and not result.stopped_at)

    def _finish(self, seeds: Sequence[int]) -> None:
        """Finish the cells of `seeds` of every open run, and score the runs that are complete.

        Plans may share a cell and ask for different outputs of it (another context, soundscapes):
        its weights are trained for the first, and a further pass makes what the others lack.
        """
        self._settle_complete(self._open())
        for _ in self.plans:
            missing = {
                c.cell_id: (self.plans[place], c)
                for place in self._open()
                for c in find_lacking(self.lab, _needed(self.plans[place], seeds))
                if c.cell_id not in self.failed
            }
            if not missing:
                break
            self._execute(missing)
        for place in self._open():
            wrong = [c for c in self.plans[place].cells if c.cell_id in self.failed]
            if wrong:
                error = self._failure(self.plans[place], wrong)
                self._tell_failed(place, error, stopped=isinstance(error, StoppedError))
                self.results[place] = error
        self._settle_complete(self._open())

    def _execute(self, missing: Mapping[str, tuple[Plan, CellPlan]]) -> None:
        """Finish cells; those whose error may pass are tried again, from where they were."""
        users: dict[str, list[int]] = {}
        for place in self._open():
            for cell in self.plans[place].cells:
                users.setdefault(cell.cell_id, []).append(place)

        def told(event: Event) -> None:
            self.emit(event)
            if event.kind == "done":
                self._settle_complete(users.get(event.cell_id, ()))

        def wanted(cell_id: str) -> bool:
            return any(self.wanted(self.notes[place].title) for place in users[cell_id])

        with job_folder(self.lab) as jobs:
            tasks = [
                build_task(p, c, self.lab, save_job(p, c, jobs), missing)
                for p, c in _seed_major(missing)
            ]
            for task in tasks:
                self.emit(Event("queued", task.cell_id, {"title": task.title}))
            for attempt in range(1, TRIES + 1):
                failed = self.executor.execute(tasks, told, wanted)
                tasks = _to_retry(tasks, failed)
                if not tasks or attempt == TRIES:
                    break
                for task in tasks:
                    values = {"error": str(failed[task.cell_id]), "attempt": attempt + 1}
                    self.emit(Event("retry", task.cell_id, values))
        self.failed |= failed

    def _settle_complete(self, places: Iterable[int]) -> None:
        """Score the runs among `places` whose cells are all finished."""
        for place in places:
            plan = self.plans[place]
            if place not in self.results and all(is_finished(self.lab, c) for c in plan.cells):
                self._settle(place, collect(plan, self.lab, self.notes[place], self.untrained))

    def _settle(self, place: int, result: RunResult) -> None:
        self.results[place] = result
        for sink in self.sinks:
            sink.finished(result)

    def _tell_failed(self, place: int, error: BirdlabError, *, stopped: bool) -> None:
        for sink in self.sinks:
            sink.failed(self.plans[place], error, stopped=stopped)

    def _failure(self, plan: Plan, wrong: Sequence[CellPlan]) -> CellError:
        """Why a run has no score; a StoppedError where nothing worse happened to its cells."""
        worse = [c for c in wrong if not isinstance(self.failed[c.cell_id], StoppedError)]
        cell = (worse or wrong)[0]
        first = self.failed[cell.cell_id]
        kind, what = (CellError, "failed") if worse else (StoppedError, "were stopped")
        return kind(
            f"{len(worse or wrong)} of {len(plan.cells)} cells {what}, so the run has no score: "
            f"{first.what}",
            where=f"{plan.spec.name or plan.spec_id}: {cell.title}"
            + (f", {first.where}" if first.where else ""),
            got=first.got,
            expected=first.expected,
            fix=first.fix or "run the same command again: finished cells are kept",
        )


def _needed(plan: Plan, seeds: Sequence[int]) -> list[CellPlan]:
    """The scored cells of some seeds with all they start from, starts first."""
    needed: set[str] = set()
    for cell in plan.final_cells:
        node: CellPlan | None = cell if cell.seed in seeds else None
        while node is not None:
            needed.add(node.cell_id)
            node = node.start
    return [cell for cell in plan.cells if cell.cell_id in needed]


def _seed_major(missing: Mapping[str, tuple[Plan, CellPlan]]) -> list[tuple[Plan, CellPlan]]:
    """Starts before what starts from them, then by seed; otherwise the order of the arms."""
    depth = {}
    for _, cell in missing.values():
        steps, node = 0, cell.start
        while node is not None:
            steps, node = steps + 1, node.start
        depth[cell.cell_id] = steps
    return sorted(missing.values(), key=lambda pair: (pair[1].seed, depth[pair[1].cell_id]))


def build_task(
    plan: Plan, cell: CellPlan, lab: Lab, job: CellJob, missing: Container[str]
) -> CellTask:
    """The task of a planned cell; it waits for the cell it starts from where that is `missing`."""
    name = plan.spec.name
    return CellTask(
        cell_id=cell.cell_id,
        title=f"{name}: {cell.title}" if name else cell.title,
        after=job.start if job.start in missing else None,
        job=str(job.folder),
        lab_root=str(lab.root),
        threads=cell.stage.train.threads_per_cell,
    )


def _to_retry(tasks: Sequence[CellTask], failed: Mapping[str, BirdlabError]) -> list[CellTask]:
    """The tasks whose error may pass, and those that were skipped because of one."""
    again: list[CellTask] = []
    names: set[str] = set()
    for task in tasks:
        if isinstance(failed.get(task.cell_id), RETRIED) or task.after in names:
            again.append(task)
            names.add(task.cell_id)
    return again
