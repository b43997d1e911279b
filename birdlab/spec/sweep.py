"""The sweep spec: a base experiment and the changes whose effect is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Name, Positive, Spec
from birdlab.spec.diff import title_of
from birdlab.spec.experiment import ExperimentSpec, build_spec, load_document
from birdlab.spec.identity import canonical_json
from birdlab.spec.kinds import nearest
from birdlab.spec.parts import CellsSpec
from birdlab.spec.problems import validate
from birdlab.spec.yamlfile import Document, load_yaml


class Range(Spec):
    """One searched field: uniform, log-uniform or integer between `low` and `high`, or choices."""

    kind: Literal["uniform", "log_uniform", "int", "choice"]
    low: float | None = None
    high: float | None = None
    choices: Annotated[tuple[Any, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _complete(self) -> Range:
        if self.kind == "choice":
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("a choice has `choices` and no `low` and `high`")
        elif self.choices or self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("should have `low` < `high`, and no `choices`")
        elif self.kind == "log_uniform" and self.low <= 0:
            raise ValueError("log_uniform should have `low` > 0")
        return self


class OptunaSpec(Spec):
    """A search by Optuna: the sampler, the number of trials, the searched fields.

    Results are told in trial order in batches of `batch`, so a resumed search asks for what
    an undisturbed one would.
    """

    space: dict[str, Range]
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    batch: Annotated[int, Field(ge=1, le=100)] = 2
    seed: Annotated[int, Field(ge=0)] = 0


class ThenSpec(Spec):
    """More evidence for the `top` arms of the ranking."""

    top: Annotated[int, Field(ge=1)]
    cells: CellsSpec


class SweepSpec(Spec):
    """A base experiment and the changes whose effect is asked for.

    `grid` maps a dotted field to its values, or a name of your own to named bundles of
    changes; arms are all combinations, the last entry changing fastest. `optuna` searches
    instead. `control` names the arm that the others are compared with (default: the best).
    """

    name: Name
    base: str | None = None
    project: Name | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    optuna: OptunaSpec | None = None
    cells: CellsSpec | None = None
    then: ThenSpec | None = None
    control: str | None = None
    smallest_effect: Positive = 0.005
    expect: str = ""
    notes: str = ""

    @field_validator("grid")
    @classmethod
    def _values(cls, grid: dict[str, Any]) -> dict[str, Any]:
        for key, values in grid.items():
            bundles = isinstance(values, dict) and all(isinstance(v, dict) for v in values.values())
            if not values or not (isinstance(values, list) or bundles):
                raise ValueError(f"{key} should be a list of values, or name: {{changes}} pairs")
            if isinstance(values, list) and len({repr(v) for v in values}) < len(values):
                raise ValueError(f"{key} lists a value twice")
        return grid

    @model_validator(mode="after")
    def _one_driver(self) -> SweepSpec:
        if bool(self.grid) == (self.optuna is not None):
            raise ValueError("give either `grid` or `optuna`")
        return self


@dataclass(frozen=True)
class Arm:
    """One point of a sweep: its title, its changes to the base, its experiment."""

    title: str
    delta: dict[str, Any]
    spec: ExperimentSpec


@dataclass(frozen=True)
class Sweep:
    """A loaded sweep: its spec and the raw base that its arms change."""

    spec: SweepSpec
    base: Document

    def build_arm(
        self, title: str, delta: Mapping[str, Any], cells: CellsSpec | None = None
    ) -> Arm:
        """The arm whose changes to the base are `delta`, on the sweep's evidence or on `cells`."""
        cells = cells or self.spec.cells
        changes: dict[str, Any] = dict(delta)
        if cells is not None:
            changes["cells"] = cells.model_dump(mode="json")
        if self.spec.project is not None:
            changes["project"] = self.spec.project
        changes["name"] = title
        return Arm(title, dict(delta), build_spec(self.base, self.spec.set, changes))


def load_sweep(path: Path, grid: Mapping[str, list[Any]] | None = None) -> Sweep:
    """The sweep in a YAML file, or over an experiment file with `grid` given by the caller."""
    document = load_yaml(path)
    if grid:
        name = "-".join([path.stem, *(key.rsplit(".", 1)[-1] for key in grid)])
        raw: dict[str, Any] = {"name": name, "grid": dict(grid)}
        is_sweep = {"grid", "optuna"} & set(document.data)
        if is_sweep:
            raise SpecError(
                "--grid goes with an experiment file", where=str(path), got="a sweep file"
            )
        return Sweep(validate(SweepSpec, raw, Document(raw)), load_document(path))
    raw = {"name": path.stem, **document.data}
    if "grid" not in raw and "optuna" not in raw:
        raise SpecError(
            "this file describes no sweep",
            where=document.place(""),
            expected="`grid:` or `optuna:`",
            fix=f"birdlab run {path}, or birdlab sweep {path} --grid train.optimizer.lr=1e-4,1e-3",
        )
    spec = validate(SweepSpec, raw, document)
    if spec.base is None:
        raise SpecError(
            "a sweep file names no base", where=document.place(""), fix="add `base: x.yaml`"
        )
    return Sweep(spec, load_document(path.parent / spec.base))


def grid_arms(sweep: Sweep) -> list[Arm]:
    """All arms of a grid, each once, the last entry changing fastest.

    An arm that a bundle leaves as another one is (equal resolved spec) is refused.
    """
    axes: list[list[tuple[str, dict[str, Any]]]] = []
    for key, values in sweep.spec.grid.items():
        if isinstance(values, dict):
            axes.append([(name, dict(changes)) for name, changes in values.items()])
        else:
            axes.append([(title_of({key: value}), {key: value}) for value in values])
    arms: list[Arm] = []
    for point in itertools.product(*axes):
        delta: dict[str, Any] = {}
        for _title, changes in point:
            delta |= changes
        arms.append(sweep.build_arm(", ".join(title for title, _ in point), delta))
    _refuse_twins(arms)
    _check_plans(sweep, arms)
    return arms


def _check_plans(sweep: Sweep, arms: list[Arm]) -> None:
    """Raise now for a control that is no arm and finalists' cells that no arm can have."""
    titles = [arm.title for arm in arms]
    if sweep.spec.control is not None and sweep.spec.control not in titles:
        raise SpecError(
            "the control of the sweep is none of its arms",
            where="control",
            got=sweep.spec.control,
            expected=nearest(sweep.spec.control, titles),
        )
    if sweep.spec.then is not None:
        for arm in arms:
            sweep.build_arm(arm.title, arm.delta, sweep.spec.then.cells)


def _refuse_twins(arms: list[Arm]) -> None:
    seen: dict[str, str] = {}
    for arm in arms:
        key = canonical_json(arm.spec)
        if key in seen:
            raise SpecError(
                "two arms of the sweep are the same experiment",
                where=f"{seen[key]!r} and {arm.title!r}",
                fix="remove one, or check the dotted names of its changes",
            )
        seen[key] = arm.title
