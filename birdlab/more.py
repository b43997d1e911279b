"""More of a finished run: further folds and seeds, or further epochs as a stage of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from birdlab.errors import SpecError
from birdlab.spec.experiment import ExperimentSpec, build_spec
from birdlab.spec.yamlfile import Document

MORE = "more"


def add_cells(
    spec: ExperimentSpec,
    folds: Iterable[int] | Literal["all"] | None = None,
    n_seeds: int | None = None,
) -> ExperimentSpec:
    """The experiment with further evidence: these folds and seeds 0 .. n_seeds - 1 besides its own.

    The recipe stays, so every cell that is trained stays. Raises SpecError for folds that do not
    exist, and for folds of a run that was trained on all data.
    """
    cells = spec.cells
    if folds is not None and cells.folds == "none":
        raise SpecError(
            "the run was trained on all data, so it has no folds to add to",
            fix="run its experiment file with --set cells.folds=all",
        )
    wanted, asked = cells.folds, () if folds is None or folds == "all" else tuple(folds)
    n_folds = getattr(spec.data.folds, "n", None)
    if n_folds is not None and asked and max(asked) >= n_folds:
        raise SpecError(
            f"the run has no fold {max(asked)}", expected=f"folds of 0 to {n_folds - 1}, or all"
        )
    if folds == "all":
        wanted = "all"
    elif not isinstance(wanted, str):
        wanted = tuple(sorted({*wanted, *asked}))
    seeds = tuple(sorted({*cells.seeds, *range(n_seeds or 0)}))
    return _rebuilt(spec, {"cells": {"folds": wanted, "seeds": seeds}})


def add_stage(spec: ExperimentSpec, epochs: int, lr: float | None = None) -> ExperimentSpec:
    """The experiment with one more stage: so many epochs from the weights of the last stage.

    The stage is called `more`, `more-2`, ... and keeps classes, recipe and augmentations of the
    last one. Its schedule starts anew from `lr`, or from the rate the last stage started with;
    a rate of the backbone keeps its ratio. A backbone that was frozen for the first epochs only
    is not frozen again. Raises SpecError for what the recipe does not allow.
    """
    last = spec.stages[-1]
    names = {stage.name for stage in spec.stages}
    numbered = (MORE if n == 1 else f"{MORE}-{n}" for n in range(1, len(names) + 2))
    raw: dict[str, Any] = last.model_dump(mode="json")
    train = raw["train"]
    train["length"] = {"epochs": epochs}
    if train["freeze_epochs"] != "all":
        train["freeze_epochs"] = 0
    if lr is not None:
        train["optimizer"] |= _rates(train["optimizer"], lr)
    stage = {
        **raw,
        "name": next(name for name in numbered if name not in names),
        "start": last.name,
        "transfer": "all",
        "soup": None,
    }
    return _rebuilt(spec, {"stages": [*(s.model_dump(mode="json") for s in spec.stages), stage]})


def _rates(optimizer: dict[str, Any], lr: float) -> dict[str, Any]:
    backbone_lr = optimizer.get("backbone_lr")
    if backbone_lr is None:
        return {"lr": lr}
    return {"lr": lr, "backbone_lr": backbone_lr * lr / optimizer["lr"]}


def _rebuilt(spec: ExperimentSpec, changes: dict[str, Any]) -> ExperimentSpec:
    """The experiment with top-level fields changed, checked as one that is loaded."""
    return build_spec(Document({**spec.model_dump(mode="json"), **changes}, {}))
