"""Means of the weights of fold and seed models as what is deployed: which, and what shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from birdlab.cellfiles import soundscapes_folder
from birdlab.cellplan import CellPlan
from birdlab.data.audio import decode
from birdlab.data.classes import ClassList
from birdlab.evaluate.deployed import count_rows, deploy_windows
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.windows import blend
from birdlab.heldout import METRICS
from birdlab.network import load_model
from birdlab.plan import Plan
from birdlab.promote.agreement import MIN_WINDOWS
from birdlab.promote.case import Case
from birdlab.promote.detector import Member
from birdlab.promote.request import PromotionRequest, Soup
from birdlab.stages import fresh_weights
from birdlab.study.ensemble_gates import Gate
from birdlab.validation import predict_waves

LINE = "the averaged models are of one line"
SOUPED = "the mean of weights scores as its models"
SCORES_AS = "not below them alone on average, paired, nor below the worst"

Floats = npt.NDArray[np.float32]


class Placed(Protocol):
    """A model of a fold and a seed."""

    @property
    def fold(self) -> int | None:
        """None: all data."""

    @property
    def seed(self) -> int | None:
        """None: of several."""


M = TypeVar("M", bound=Placed)


def group_models(models: Sequence[M], soup: Soup) -> list[list[M]]:
    """The models whose weights become one: those of a seed, of a fold, or all of them."""
    groups: dict[int | None, list[M]] = {}
    for model in models:
        key = {"all": None, "folds": model.seed, "seeds": model.fold}[soup]
        groups.setdefault(key, []).append(model)
    return list(groups.values())


def count_deployed(plan: Plan, request: PromotionRequest) -> int:
    """How many models of a run the deployed file holds."""
    if request.weights == "folds":
        return len(plan.final_cells)
    if request.weights == "full":
        return 1
    return len(group_models(plan.final_cells, request.soup))


def line_gate(plans: Mapping[str, Plan], soup: Soup) -> Gate:
    """Whether models that become one go back to the same weights, so that their mean is a network.

    Those of a cell that they all go back to, or pretrained ones.
    """
    apart = [
        name
        for name, plan in plans.items()
        if not all(_is_of_one_line(plan, group) for group in group_models(plan.final_cells, soup))
    ]
    wanted = "all go back to one cell, or to pretrained weights"
    if not apart:
        return Gate(LINE, "met", f"{len(plans)} of {len(plans)}", wanted)
    told = f"{', '.join(apart)}: models go back to different random weights, whose mean is no model"
    return Gate(LINE, "not met", told, wanted, "--weights full")


def _is_of_one_line(plan: Plan, cells: Sequence[CellPlan]) -> bool:
    lines = [_line(cell) for cell in cells]
    common = set.intersection(*({c.cell_id for c in line} for line in lines))
    if common:
        return True
    return all(fresh_weights(plan.spec.model, line[0].stage) != (False, None) for line in lines)


def _line(cell: CellPlan) -> list[CellPlan]:
    """The cells that a cell's weights go back to, the first of them first, and the cell itself.

    A mean goes back to what its sources do.
    """
    before = cell.start or next(iter(cell.sources), None)
    return [cell] if before is None else [*_line(before), cell]


@dataclass(frozen=True)
class SoupScore:
    """What the means of weights of a run score on the run's labelled soundscapes.

    averaged: of each averaged model alone; alone: for each of them, of the models that went into
    it; outputs: of all these together. n_windows is 0 and there are no scores for a run without
    such soundscapes.
    """

    run: str
    metric: str
    averaged: tuple[float, ...] = ()
    alone: tuple[tuple[float, ...], ...] = ()
    outputs: float = float("nan")
    n_windows: int = 0

    @property
    def is_evidence(self) -> bool:
        """Whether there are windows enough to tell anything."""
        return self.n_windows >= MIN_WINDOWS

    @property
    def deltas(self) -> Floats:
        """Each averaged model less each of the models that went into it."""
        pairs = zip(self.averaged, self.alone, strict=True)
        return np.array([mean - one for mean, models in pairs for one in models], np.float32)

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval of the mean difference; infinite for one model."""
        d = self.deltas.astype(np.float64)
        if len(d) < 2:
            return float("inf")
        width = float(special.stdtrit(len(d) - 1, 0.975)) * d.std(ddof=1) / np.sqrt(len(d))
        return float(d.mean() + width)

    @property
    def passed(self) -> bool:
        """Whether averaging broke nothing.

        No averaged model is below the worst that went into it, nor are they below these on average
        by more than chance: paired, the same windows for all.
        """
        pairs = zip(self.averaged, self.alone, strict=True)
        return self.high >= 0 and all(mean >= min(models) for mean, models in pairs)

    def __str__(self) -> str:
        """The scores in words."""
        if not self.n_windows:
            return f"{self.run} has no labelled soundscapes"
        models = [one for group in self.alone for one in group]
        return (
            f"{self.run} {np.mean(self.averaged):.4f}, its models alone {np.mean(models):.4f} on "
            f"average and {min(models):.4f} at worst, together {self.outputs:.4f} "
            f"({self.metric}, {self.n_windows} windows)"
        )


def score_soups(
    case: Case, members: Sequence[Member], places: Mapping[str, Sequence[int]]
) -> tuple[SoupScore, ...]:
    """For each run, what its averaged models (`members` by `places`) score on soundscapes.

    Those of `evaluate.soundscapes`, with the stored outputs of the models that went into them. A
    mean over folds has no held-out recording: each was heard by some of them.
    """
    return tuple(
        _score(case, name, plan, [members[i] for i in places[name]])
        for name, plan in case.plans.items()
    )


def _score(case: Case, name: str, plan: Plan, members: Sequence[Member]) -> SoupScore:
    asked = plan.spec.competition.metric
    metric = asked if asked in METRICS else "padded_cmap"
    folders = {c.cell_id: soundscapes_folder(case.lab, c) for c in plan.final_cells}
    if plan.soundscapes is None or not all(folder.is_dir() for folder in folders.values()):
        return SoupScore(name, metric)
    own = {cell_id: load_outputs(folder).windows for cell_id, folder in folders.items()}
    n_rows = count_rows(next(iter(own.values())))
    targets = plan.soundscapes.targets(n_rows, plan.data.classes, plan.spec.competition.window_s)

    def score(models: Sequence[WindowOutputs]) -> float:
        return float(METRICS[metric](targets, _deployed(plan, models)))

    groups = group_models(plan.final_cells, case.request.soup)
    return SoupScore(
        name,
        metric,
        tuple(score([_hear(plan, member)]) for member in members),
        tuple(tuple(score([own[cell.cell_id]]) for cell in group) for group in groups),
        score(list(own.values())),
        len(targets),
    )


def _deployed(plan: Plan, models: Sequence[WindowOutputs]) -> Floats:
    """The probability of every row, models averaged window by window; files in order, in time."""
    output, first = plan.spec.output, models[0]
    probs = [blend(w.clip_probs, w.time_max, output.clip, output.time_max) for w in models]
    mean = np.asarray(np.mean(probs, axis=0, dtype=np.float64), np.float32)
    rows = deploy_windows(first, mean, plan.spec.postprocess)
    return rows.probs[np.lexsort((rows.end_s, rows.recording_index))]


def _hear(plan: Plan, member: Member) -> WindowOutputs:
    """What a model says of the soundscapes of a run, by the road of validation."""
    assert plan.soundscapes is not None
    keys = [key for key in plan.soundscapes.keys if key is not None]
    return predict_waves(
        plan.spec,
        load_model(plan.spec.model, len(member.classes), member.weights),
        ClassList(member.classes),
        plan.data.classes,
        list(plan.soundscapes.table["recording"]),
        lambda i: decode(plan.paths[keys[i]], plan.sample_rate_hz),
        plan.sample_rate_hz,
    )


def soup_gate(found: Sequence[SoupScore]) -> Gate:
    """Whether means of weights score labelled soundscapes as what went into them does."""
    told, ask = "; ".join(map(str, found)), "run with evaluate.soundscapes: [NAME]"
    if not all(one.passed for one in found if one.is_evidence):
        return Gate(SOUPED, "not met", told, SCORES_AS, "--weights full, or folds")
    if not all(one.is_evidence for one in found):
        told += f"; {MIN_WINDOWS} windows are needed"
        return Gate(SOUPED, "no evidence", told, SCORES_AS, f"{ask}, or --weights full")
    return Gate(SOUPED, "met", told, SCORES_AS)
