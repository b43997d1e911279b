"""A campaign: the cells of several runs on their way; a run is scored when its last one is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from birdlab.cellfiles import is_finished, is_trained
from birdlab.cellorder import find_lacking, pick_cells, sort_seed_major
from birdlab.cellplan import CellPlan
from birdlab.errors import BirdlabError, CellError, StoppedError
from birdlab.jobwriter import job_folder, save_job
from birdlab.keeping import drop_weights
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.record import collect
from birdlab.runresult import RunNote, RunResult
from birdlab.scoring import score_cells
from birdlab.tasks import RETRIED, Event, Executor, build_task, failure
from birdlab.timing import LOGGER, timed

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
    """Runs whose plans are made; `run` finishes their cells and scores them.

    The weights of `waiting` plans stay: they go on from these later.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        notes: Sequence[RunNote],
        lab: Lab,
        executor: Executor,
        sinks: Sequence[Sink],
        emit: Callable[[Event], None],
        wanted: Callable[[str], bool],
        waiting: Sequence[Plan] = (),
    ) -> None:
        self.plans, self.notes, self.lab, self.executor = plans, notes, lab, executor
        self.sinks, self.emit, self.wanted = sinks, emit, wanted
        self.waiting = waiting
        lacking = [cell for plan in plans for cell in find_lacking(lab, plan.cells)]
        self.untrained = {cell.cell_id for cell in lacking if not is_trained(lab, cell)}
        self.failed: dict[str, BirdlabError] = {}
        self.results: dict[int, RunResult | BirdlabError] = {}
        self.beaten: set[int] = set()

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
                error = StoppedError("the command was stopped", fix="run it again: it goes on")
                self._tell_failed(place, error)
            raise
        whole = [p for place, p in enumerate(self.plans) if self._is_scored(place)]
        unscored = [p for place, p in enumerate(self.plans) if not self._is_scored(place)]
        drop_weights(self.lab, whole, [*unscored, *self.waiting])
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

        Complete runs are shown to it as well, until they lose, and keep their scores: what it says
        of the others does not depend on which cells were there before.
        """
        tables = [self._scores(p, seeds) for p in range(len(self.plans)) if p not in self.beaten]
        tables = [table for table in tables if len(table)]
        if not tables:
            return
        losers = race.losers(pd.concat(tables, ignore_index=True), len(seeds))
        self.beaten.update(losers)
        for place, reason in losers.items():
            if place not in self.results:
                self._settle(place, seeds=seeds, stopped_at=reason)

    def _scores(self, place: int, seeds: Sequence[int]) -> pd.DataFrame:
        """The scores of some seeds of a run for the race; empty where it has failed."""
        if not isinstance(self.results.get(place), BirdlabError):
            try:
                return score_cells(self.plans[place], self.lab, seeds).assign(run=place)
            except BirdlabError as error:  # outputs that cannot be read
                self._fail(place, error)
        return pd.DataFrame()

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
                for c in find_lacking(self.lab, pick_cells(self.plans[place], seeds))
                if c.cell_id not in self.failed
            }
            if not missing:
                break
            with timed(f"train, validate and score (cells: {len(missing)})"):
                self._execute(missing)
        for place in self._open():
            wrong = [c for c in self.plans[place].cells if c.cell_id in self.failed]
            if wrong:
                self._fail(place, self._failure(self.plans[place], wrong))
        self._settle_complete(self._open())

    def _execute(self, missing: Mapping[str, tuple[Plan, CellPlan]]) -> None:
        """Finish cells; those whose error may pass are tried again, from where they were."""
        users: dict[str, list[int]] = {}
        for place in self._open():
            for cell in self.plans[place].cells:
                users.setdefault(cell.cell_id, []).append(place)

        begun: dict[str, float] = {}

        def told(event: Event) -> None:
            self.emit(event)
            begun.setdefault(event.cell_id, time.perf_counter())
            if event.kind == "done":
                took_s = time.perf_counter() - begun[event.cell_id]
                LOGGER.info("cell %s, from its first event on: %.2f s", event.cell_id, took_s)
                self._settle_complete(users.get(event.cell_id, ()))

        def wanted(cell_id: str) -> bool:
            return any(self.wanted(self.notes[place].title) for place in users[cell_id])

        with job_folder(self.lab) as jobs:
            tasks = [
                build_task(p, c, self.lab, save_job(p, c, jobs), missing)
                for p, c in sort_seed_major(missing)
            ]
            for task in tasks:
                self.emit(Event("queued", task.cell_id, {"title": task.title}))
            for attempt in range(1, TRIES + 1):
                failed = self.executor.execute(tasks, told, wanted)
                again: dict[str, BirdlabError] = {
                    c: e for c, e in failed.items() if isinstance(e, RETRIED)
                }
                if attempt == TRIES or not again:
                    break
                self.failed |= {c: e for c, e in failed.items() if c not in again}
                tasks = [task for task in tasks if task.cell_id in again]
                for cell_id, error in again.items():
                    values = {"error": str(error), "attempt": attempt + 1}
                    self.emit(Event("retry", cell_id, values))
        self.failed |= failed
        for cell_id, error in failed.items():
            if isinstance(error, RETRIED):
                self.emit(failure(cell_id, error))

    def _settle_complete(self, places: Iterable[int]) -> None:
        """Score the runs among `places` whose cells are all finished."""
        for place in places:
            plan = self.plans[place]
            if place not in self.results and all(is_finished(self.lab, c) for c in plan.cells):
                self._settle(place)

    def _settle(
        self, place: int, *, seeds: Sequence[int] | None = None, stopped_at: str = ""
    ) -> None:
        """Score a run and tell the sinks; outputs that cannot be read cost it alone."""
        plan, note = self.plans[place], self.notes[place]
        try:
            with timed(f"score {note.title or plan.spec_id}"):
                result = collect(
                    plan, self.lab, note, self.untrained, seeds=seeds, stopped_at=stopped_at
                )
        except BirdlabError as error:
            self._fail(place, error)
            return
        self.results[place] = result
        for sink in self.sinks:
            sink.finished(result)

    def _fail(self, place: int, error: BirdlabError) -> None:
        self.results[place] = error
        self._tell_failed(place, error)

    def _tell_failed(self, place: int, error: BirdlabError) -> None:
        for sink in self.sinks:
            sink.failed(self.plans[place], error, stopped=isinstance(error, StoppedError))

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
