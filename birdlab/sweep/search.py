"""Optuna through ask and tell, in the driver's memory only.

Each ask is journalled before it runs, the sampler of trial n is seeded by (sweep seed, n),
and results are told in trial order, batch by batch: a resumed search asks for what an
undisturbed one would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from birdlab.errors import SpecError
from birdlab.lab import write_whole
from birdlab.sed.draws import key_of
from birdlab.spec.base import canonical
from birdlab.spec.identity import digest
from birdlab.spec.searches import OptunaSpec
from birdlab.spec.space import Range

Score = float | None
Point = dict[str, Any]
"""What a trial takes of each entry of the space that it asks: a value, or a bundle's name."""
RunBatch = Callable[[Sequence[Point]], Sequence[Score]]
Applies = Callable[[str, Mapping[str, Any]], bool]


def always(_key: str, _point: Mapping[str, Any]) -> bool:
    """Whether an entry is asked, where the space has no conditions: always."""
    return True


def search(
    spec: OptunaSpec, journal: Path, run_batch: RunBatch, applies: Applies = always
) -> list[Point]:
    """The points of every trial in order, after `run_batch` scored them.

    `run_batch` gets the points of one batch and gives back their scores (higher is better; None
    for a run that failed, which is told as failed and counts as one trial). `applies` says
    whether an entry is asked at the point so far. Raises SpecError when the journal is that of
    another search; only `trials` may grow.
    """
    study = _start_study(spec)
    asked = _load_journal(journal, spec)
    points: list[Point] = []
    while len(points) < spec.trials:
        numbers = range(len(points), min(len(points) + spec.batch, spec.trials))
        if numbers[-1] < len(asked):
            batch = asked[numbers[0] : numbers[-1] + 1]
            for point in batch:
                _add_trial(study, spec, point)
        else:
            batch = []
            for number in numbers:
                known = asked[number] if number < len(asked) else None
                batch.append(_ask(study, spec, number, applies, known))
                if known is None:
                    _append_journal(journal, number, batch[-1], spec)
        scores = run_batch(batch)
        for number, score in zip(numbers, scores, strict=True):
            if score is None:
                study.tell(number, state=TrialState.FAIL)
            else:
                study.tell(number, score)
        points += batch
    return points


def first_batch(spec: OptunaSpec, applies: Applies = always) -> list[Point]:
    """The points that a search begins with, without a journal: nothing is asked."""
    study = _start_study(spec)
    return [
        _ask(study, spec, number, applies, None) for number in range(min(spec.batch, spec.trials))
    ]


def fill_study(spec: OptunaSpec, trials: Sequence[tuple[Point, float]]) -> optuna.Study:
    """A study that holds finished trials."""
    study = _start_study(spec)
    for number, (point, score) in enumerate(trials):
        _add_trial(study, spec, point)
        study.tell(number, score)
    return study


def _start_study(spec: OptunaSpec) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=_sampler(spec, 0))


def _sampler(spec: OptunaSpec, number: int) -> optuna.samplers.BaseSampler:
    seed = key_of("optuna", spec.seed, number) % 2**32
    n_first = min(10, spec.trials // 3 + 1)
    if spec.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if spec.sampler == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=n_first, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_first)


def _ask(
    study: optuna.Study, spec: OptunaSpec, number: int, applies: Applies, known: Point | None
) -> Point:
    """The point of trial `number`: the sampler's, or the `known` one of the journal.

    The sampler is asked for a known point too, since it notes what it would have taken, which
    the next trials of the same batch see.
    """
    study.sampler = _sampler(spec, number)
    if known is not None:
        study.enqueue_trial({k: _told(spec.space[k], v) for k, v in known.items()})
    trial = study.ask()
    point: Point = {}
    for key, field in spec.space.items():
        is_asked = applies(key, point) if known is None else key in known
        if is_asked:
            point[key] = _suggest(trial, key, field)
    return point


def _suggest(trial: optuna.Trial, name: str, field: Range) -> Any:
    if field.kind == "choice":  # by place, since a choice may be a mapping or a list
        return field.options[trial.suggest_categorical(name, range(len(field.options)))]
    scale = _distribution(field)
    assert isinstance(scale, IntDistribution | FloatDistribution)
    if isinstance(scale, IntDistribution):
        return trial.suggest_int(name, scale.low, scale.high, step=scale.step, log=scale.log)
    return trial.suggest_float(name, scale.low, scale.high, step=scale.step, log=scale.log)


def _distribution(field: Range) -> BaseDistribution:
    if field.kind == "choice":
        return CategoricalDistribution(tuple(range(len(field.options))))
    assert field.low is not None and field.high is not None
    if field.kind == "int":
        step = int(field.step or 1)
        return IntDistribution(int(field.low), int(field.high), log=field.log, step=step)
    log = field.kind == "log_uniform"
    return FloatDistribution(field.low, field.high, log=log, step=field.step)


def _told(field: Range, value: Any) -> Any:
    """A value of the journal as Optuna knows it."""
    return field.place_of(value) if field.kind == "choice" else value


def _add_trial(study: optuna.Study, spec: OptunaSpec, point: Point) -> None:
    """Let the study hold a trial that was asked before and is to be told."""
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={k: _told(spec.space[k], v) for k, v in point.items()},
            distributions={k: _distribution(spec.space[k]) for k in point},
        )
    )


def _load_journal(path: Path, spec: OptunaSpec) -> list[Point]:
    """The points asked before, in order; a torn last line, whose trial never ran, is cut off."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    points, whole = [], ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            points.append(row["changes"])
        except (ValueError, KeyError, TypeError):
            break
        if row.get("search") != _search_id(spec):
            raise SpecError(
                "the search changed since this sweep began",
                where=str(path),
                expected="the space, sampler, batch and seed it began with",
                fix="give the sweep another `name`, or delete its journal to begin anew",
            )
        whole += line
    if whole != text:
        write_whole(path, whole)
    return points


def _search_id(spec: OptunaSpec) -> str:
    """A name for what decides which points are asked."""
    document = canonical(spec)
    del document["trials"]
    return digest(document, 12)


def _append_journal(path: Path, number: int, point: Point, spec: OptunaSpec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"trial": number, "changes": point, "search": _search_id(spec)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
