"""A run trained once more on all its data: how long, by which recipe, and the models it gives."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from birdlab.campaign import Sink
from birdlab.cellfiles import CURVES
from birdlab.cellplan import CellPlan
from birdlab.errors import PromotionError
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, plan_experiment, silent
from birdlab.run import run_experiment
from birdlab.runresult import RunNote
from birdlab.sed.choice import best_epochs
from birdlab.sed.fit import DECIDES
from birdlab.spec.experiment import ExperimentSpec, build_spec
from birdlab.spec.parts import StageSpec
from birdlab.spec.yamlfile import Document
from birdlab.tasks import Event, Executor, InProcess, wanted


@dataclass(frozen=True)
class Training:
    """Where models are trained and who is told; the arguments of `run_experiment`."""

    executor: Executor = field(default_factory=InProcess)
    sinks: Sequence[Sink] = ()
    emit: Callable[[Event], None] = lambda _: None
    step: Progress = silent
    wanted: Callable[[str], bool] = wanted
    planned: Callable[[Sequence[Plan]], None] = lambda _: None


@dataclass(frozen=True, eq=False)
class FullRun:
    """What a run becomes on all data: its experiment, its plan, and in words how long and why."""

    spec: ExperimentSpec
    plan: Plan
    lengths: tuple[str, ...]


def plan_full(lab: Lab, plan: Plan, name: str) -> FullRun:
    """The run of `plan` on all data, with the first of its seeds; nothing is trained.

    A stage whose weights validation rows chose is trained for the median of the epochs that the
    models of the folds ended with, and its last weights count; any other stage as its recipe says.
    Stages that hold no rows out are the cells that the folds started from. Raises PromotionError
    for a cell whose card or curves are gone.
    """
    spec = plan.spec
    stages: list[dict[str, Any]] = []
    lengths = []
    for stage in spec.stages:
        raw = stage.model_dump(mode="json")
        if stage.soup is not None:
            raw = {"name": stage.name, "soup": raw["soup"]}
            lengths.append(f"{stage.name}: the mean of {stage.soup.n} seeds of {stage.soup.of}")
        elif stage.train.is_steered:
            epochs = chosen_epochs(lab, [c for c in plan.cells if c.stage is stage])
            length = _median(epochs)
            raw["train"] |= _last_of(stage, length)
            lengths.append(
                f"{stage.name}: {length} epochs, the median of those that validation chose "
                f"({', '.join(map(str, epochs))})"
            )
        elif stage.data is None:
            said = stage.train.length.model_dump(exclude_none=True)
            lengths.append(f"{stage.name}: " + ", ".join(f"{v:,} {k}" for k, v in said.items()))
        stages.append(raw)
    changes = {
        "stages": stages,
        "cells": {"folds": "none", "seeds": [spec.cells.seeds[0]]},
        "keep": "final" if spec.keep == "outputs" else spec.keep,
    }
    full = build_spec(Document({**spec.model_dump(mode="json"), **changes}, {}))
    planned = plan_experiment(full, lab)
    if planned.spec_id != plan.spec_id:
        full = full.model_copy(update={"name": f"{name}, all data"[:200]})
        planned = plan_experiment(full, lab)
    return FullRun(full, planned, tuple(lengths))


def train_full(lab: Lab, full: FullRun, training: Training) -> Plan:
    """The plan of a run on all data, its cells trained: those that are there are left alone.

    Raises what `run_experiment` raises.
    """
    delta: Mapping[str, Any] = {}
    run_experiment(
        full.spec,
        lab=lab,
        executor=training.executor,
        sinks=training.sinks,
        note=RunNote(title=full.spec.name, delta=delta),
        emit=training.emit,
        progress=training.step,
        wanted=training.wanted,
        planned=training.planned,
    )
    return full.plan


def chosen_epochs(lab: Lab, cells: Sequence[CellPlan]) -> list[int]:
    """The length, in epochs, that validation chose for each of some finished cells.

    The best epoch where the best one is kept, the mean of the best ones where these are averaged,
    else the last that was trained. Epochs count from 1. Raises PromotionError for curves that are
    gone or hold no score.
    """
    return [_chosen_epoch(lab, cell) for cell in cells]


def _chosen_epoch(lab: Lab, cell: CellPlan) -> int:
    path = lab.cells / cell.cell_id / CURVES
    try:
        curves = pd.read_parquet(path)
    except (OSError, ValueError):  # gone, or no Parquet file
        raise _no_curves(cell, str(path)) from None
    train = cell.stage.train
    averages = train.average is not None and train.average.of == "best"
    if train.checkpoint != "best" and not averages:
        return int(curves["epoch"].max()) + 1
    if DECIDES not in curves or curves[DECIDES].isna().all():
        raise _no_curves(cell, str(path))
    scored = curves.dropna(subset=[DECIDES])
    scores = [(int(e), float(s)) for e, s in zip(scored["epoch"], scored[DECIDES], strict=True)]
    k = train.average.k if train.average is not None else 1
    return round(statistics.mean(best_epochs(scores, k))) + 1


def _no_curves(cell: CellPlan, where: str) -> PromotionError:
    return PromotionError(
        "which epoch validation chose is not known",
        where=f"{cell.title}: {where}",
        fix="give --weights folds, or remove the cell's folder and run the experiment again",
    )


def _median(epochs: Sequence[int]) -> int:
    """The median, the longer of two that stand in the middle."""
    return statistics.median_high(epochs)


def _last_of(stage: StageSpec, epochs: int) -> dict[str, Any]:
    """The recipe of a stage without validation: its last weights after so many epochs."""
    average = stage.train.average
    keeps = average is not None and average.of == "last" and average.k <= epochs
    return {
        "length": {"epochs": epochs},
        "checkpoint": "last",
        "early_stop": None,
        "validate_every": "last",
        "average": average.model_dump() if keeps and average is not None else None,
    }
