"""Drivers: which arms a sweep runs, in what order, and what it says at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from birdlab.errors import BirdlabError, StoppedError
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan, Progress, silent
from birdlab.run import Sink, run_experiments
from birdlab.runresult import RunNote, RunResult
from birdlab.spec.arms import arms_left_out, sweep_arms
from birdlab.spec.points import SearchSpace
from birdlab.spec.sweep import Arm, Sweep
from birdlab.study.arms import rank_sweep
from birdlab.study.bet_file import place_bets
from birdlab.study.bets import EVERYTHING
from birdlab.study.noise_file import load_noise
from birdlab.study.racing import SeedRace, saved_cells
from birdlab.sweep.dryrun import SweepPlan, with_cached
from birdlab.sweep.result import SweepResult
from birdlab.tasks import Event, Executor, wanted
from birdlab.tracking.drivers import ALL
from birdlab.tracking.index import load_record, sweep_path


def run_sweep(
    sweep: Sweep,
    lab: Lab,
    executor: Executor,
    *,
    sinks: Sequence[Sink] = (),
    emit: Callable[[Event], None] = lambda _: None,
    progress: Progress = silent,
    wanted: Callable[[str], bool] = wanted,
    planned: Callable[[SweepPlan], None] = lambda _: None,
) -> SweepResult:
    """The sweep's result after every arm ran: a grid in one go, a search batch by batch.

    A failed arm is listed and costs the others nothing; one whose title is no longer `wanted` is
    stopped, and all that is left where ALL is not. `planned` is told once what the sweep would do
    (of a search, its first batch), before any of it starts. Writes the record of the sweep.
    """
    tell = [planned]

    def run(
        arms: Sequence[Arm], race: SeedRace | None = None
    ) -> list[tuple[Arm, RunResult | BirdlabError]]:
        name = sweep.spec.name
        specs = [(a.spec, RunNote(title=a.title, sweep=name, delta=a.delta)) for a in arms]

        def told(plans: Sequence[Plan]) -> None:
            if tell:
                _place(lab, sweep, arms, plans)
                tell.pop()(with_cached(sweep, list(zip(arms, plans, strict=True)), lab))

        results = run_experiments(
            specs,
            lab=lab,
            executor=executor,
            sinks=sinks,
            emit=emit,
            progress=progress,
            wanted=wanted,
            planned=told,
            race=race,
        )
        return list(zip(arms, results, strict=True))

    said: tuple[str, ...] = ()
    if sweep.spec.optuna is None:
        arms = sweep_arms(sweep)
        race = _race(sweep, arms)
        done = run(arms, race)
        said = () if race is None else (race.sentence, _saved(done))
    else:
        done = _search(sweep, lab, run, wanted)
    result = _ranked(sweep, done, lab)
    finalists = _finalists(sweep, result)
    if finalists and wanted(ALL):
        more = run(finalists)
        titles = {arm.title for arm, _ in more}
        result = _ranked(sweep, [pair for pair in done if pair[0].title not in titles] + more, lab)
    result = replace(result, race=said)
    save_sweep(lab, result)
    return result


def _finalists(sweep: Sweep, result: SweepResult) -> list[Arm]:
    """The best arms with the further cells that `then` gives them; none of a sweep without it."""
    then = sweep.spec.then
    if then is None:
        return []
    best = [arm for arm, _ in result.scored[: then.top]]
    return [sweep.build_arm(a.title, a.delta, then.cells, point=a.point) for a in best]


def _place(lab: Lab, sweep: Sweep, arms: Sequence[Arm], plans: Sequence[Plan]) -> None:
    """Note the bets of a sweep before anything of it starts, with the arms that have a score."""
    pairs = zip(arms, plans, strict=True)
    known = [arm.title for arm, p in pairs if (lab.runs / f"{p.spec_id}.json").is_file()]
    if sweep.spec.optuna is not None and sweep_path(lab, sweep.spec.name).is_file():
        known = [EVERYTHING]
    place_bets(lab, sweep.spec.name, sweep.spec.expect, known)


def _race(sweep: Sweep, arms: Sequence[Arm]) -> SeedRace | None:
    """The race of a sweep against its control; None where it has none."""
    spec = sweep.spec.race
    if spec is None:
        return None
    base = [arm.title for arm in arms].index(str(sweep.spec.compared_with))
    n_rounds = len(arms[base].spec.cells.seeds)
    return SeedRace(base, n_rounds, spec.level, first_look=spec.min_rounds)


def _saved(done: Sequence[tuple[Arm, RunResult | BirdlabError]]) -> str:
    """What the race saved, in words."""
    ran = [(arm, r) for arm, r in done if isinstance(r, RunResult)]
    planned = {arm.title: len(arm.spec.fold_numbers) * len(arm.spec.cells.seeds) for arm, _ in ran}
    cells = [r.cells[["seconds"]].assign(arm=arm.title) for arm, r in ran]
    if not cells:
        return "No arm of the race was finished."
    return saved_cells(pd.concat(cells, ignore_index=True), planned).sentence


def _search(
    sweep: Sweep,
    lab: Lab,
    run: Callable[[Sequence[Arm]], list[tuple[Arm, RunResult | BirdlabError]]],
    wanted: Callable[[str], bool],
) -> list[tuple[Arm, RunResult | BirdlabError]]:
    from birdlab.sweep.search import search

    assert sweep.spec.optuna is not None
    space = SearchSpace(sweep)
    done: dict[str, tuple[Arm, RunResult | BirdlabError]] = {}

    def run_batch(points: Sequence[dict[str, Any]]) -> list[float | None]:
        arms = [space.arm(point) for point in points]
        pairs = run(list({arm.title: arm for arm in arms}.values()))
        done.update({arm.title: (arm, result) for arm, result in pairs})
        if not wanted(ALL):
            raise StoppedError("the search was stopped")
        results = [done[arm.title][1] for arm in arms]
        return [r.cv if isinstance(r, RunResult) else None for r in results]

    journal = sweep_path(lab, sweep.spec.name).with_suffix(".asked.jsonl")
    with suppress(StoppedError):
        search(sweep.spec.optuna, journal, run_batch, space.applies)
    return list(done.values())


def _ranked(
    sweep: Sweep, pairs: Sequence[tuple[Arm, RunResult | BirdlabError]], lab: Lab
) -> SweepResult:
    from birdlab.study.other_effects import load_prior  # it brings plotly

    result = SweepResult(sweep, tuple(pairs), None)
    if len(result.scored) < 2:
        return result
    by_title = {arm.title: run for arm, run in result.scored}
    one = by_title.get(sweep.spec.compared_with or "", result.scored[0][1])
    data = load_record(lab, one.spec_id)["evaluation"]
    ranking = rank_sweep(
        sweep.spec,
        result.scores,
        noise=load_noise(lab, data["rows_hash"], data["classes_hash"]),
        split_folds=getattr(one.spec.data.folds, "n", None),
        prior=load_prior(lab, data["rows_hash"], besides=sweep.spec.name),
    )
    return replace(result, ranking=ranking)


def save_sweep(lab: Lab, result: SweepResult) -> None:
    """Write the record of a sweep: its spec, arms, ranking."""
    path = sweep_path(lab, result.sweep.spec.name)
    ranking = result.ranking
    record = {
        "name": result.sweep.spec.name,
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": result.sweep.spec.model_dump(mode="json"),
        "arms": [
            {"title": a.title, "delta": a.delta, "spec_id": r.spec_id, "point": dict(a.point)}
            for a, r in result.scored
        ],
        "stopped": [
            {"title": a.title, "delta": a.delta, "spec_id": r.spec_id, "at": r.stopped_at}
            for a, r in result.stopped
        ],
        "failed": [{"title": arm.title, "error": str(e)} for arm, e in result.failed],
        "left_out": arms_left_out(result.sweep),
        "ranking": None if ranking is None else json.loads(ranking.table.to_json(orient="records")),
        "sentences": [] if ranking is None else list(ranking.sentences),
        "interactions": [
            {
                "names": list(i.names),
                "table": json.loads(i.table.to_json(orient="records")),
                "sentences": list(i.sentences),
            }
            for i in result.interactions
        ],
        "importance": result.importance,
        "race": list(result.race),
    }
    write_whole(path, json.dumps(record, indent=1))
