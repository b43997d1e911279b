"""Optuna through ask and tell, in the driver's memory only.

Each ask is journalled before it runs, the sampler of trial n is seeded by (sweep seed, n),
and results are told in trial order, batch by batch: a resumed search asks for what an
undisturbed one would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from birdlab.errors import SpecError
from birdlab.lab import write_whole
from birdlab.sed.draws import key_of
from birdlab.spec.identity import digest
from birdlab.spec.sweep import OptunaSpec, Range

Score = float | None
RunBatch = Callable[[Sequence[dict[str, Any]]], Sequence[Score]]


def search(spec: OptunaSpec, journal: Path, run_batch: RunBatch) -> list[dict[str, Any]]:
    """The changes of every trial in order, after `run_batch` scored them.

    `run_batch` gets the changes of one batch and gives back their scores (higher is better;
    None for a run that failed, which is told as failed). Raises SpecError when the journal
    is that of another search; only `trials` may grow.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=_sampler(spec, 0))
    asked = _load_journal(journal, spec)
    changes: list[dict[str, Any]] = []
    while len(changes) < spec.trials:
        trials = []
        for number in range(len(changes), min(len(changes) + spec.batch, spec.trials)):
            study.sampler = _sampler(spec, number)
            if number < len(asked):
                known = asked[number]
                study.enqueue_trial({k: _told(r, known[k]) for k, r in spec.space.items()})
            trial = study.ask()
            trials.append((trial, {k: _suggest(trial, k, r) for k, r in spec.space.items()}))
            if number >= len(asked):
                _append_journal(journal, number, trials[-1][1], spec)
        scores = run_batch([point for _, point in trials])
        for (trial, _), score in zip(trials, scores, strict=True):
            if score is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, score)
        changes += [point for _, point in trials]
    return changes


def _sampler(spec: OptunaSpec, number: int) -> optuna.samplers.BaseSampler:
    seed = key_of("optuna", spec.seed, number) % 2**32
    if spec.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if spec.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, spec.trials // 3 + 1))


def _suggest(trial: optuna.Trial, name: str, field: Range) -> Any:
    if field.kind == "choice":  # by place, since a choice may be a mapping or a list
        return field.choices[trial.suggest_categorical(name, range(len(field.choices)))]
    assert field.low is not None and field.high is not None
    if field.kind == "int":
        return trial.suggest_int(name, int(field.low), int(field.high))
    return trial.suggest_float(name, field.low, field.high, log=field.kind == "log_uniform")


def _told(field: Range, value: Any) -> Any:
    """A value of the journal as Optuna knows it."""
    return field.choices.index(value) if field.kind == "choice" else value


def _load_journal(path: Path, spec: OptunaSpec) -> list[dict[str, Any]]:
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
    return digest(spec.model_dump(mode="json", exclude={"trials"}), 12)


def _append_journal(path: Path, number: int, changes: dict[str, Any], spec: OptunaSpec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"trial": number, "changes": changes, "search": _search_id(spec)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
