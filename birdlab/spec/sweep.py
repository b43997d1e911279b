"""The sweep spec: a base experiment and the changes whose effect is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Also, Name, Positive, Spec
from birdlab.spec.bets import BetSpec, Expect, expect_words
from birdlab.spec.experiment import ExperimentSpec, build_spec, load_document
from birdlab.spec.forms import FORMS
from birdlab.spec.parts import CellsSpec
from birdlab.spec.problems import validate
from birdlab.spec.searches import OptunaSpec, RaceSpec, RandomSpec, ThenSpec
from birdlab.spec.space import WHEN, Axis, Changes, check_distinct
from birdlab.spec.yamlfile import Document, load_yaml

BASE, ALL = "base", "all"
"""Titles of arms: the base unchanged, and with every bundle of `leave_one_out`."""


class SweepSpec(Spec):
    """A base experiment and the changes whose effect is asked for, in exactly one form.

    The forms are `grid`, `one_factor`, `add_one`, `leave_one_out`, `random` and `optuna`.
    """

    name: Name
    """What the sweep is called; the name of its file unless said."""
    base: str | None = None
    """The file of the experiment that is changed, relative to this one."""
    project: Name | None = None
    """The MLflow experiment of the runs; that of the base unless said."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Changes to the base, by dotted name, before any arm is made."""
    grid: dict[str, Axis] = Field(default_factory=dict)
    """All combinations of its entries, the last entry changing fastest; an entry is a dotted field
    with its values, or a name of your own with named bundles of changes."""
    one_factor: dict[str, list[Any] | Changes] = Field(default_factory=dict)
    """The base and each change alone: a dotted field with its values, or a name of your own with
    changes."""
    add_one: dict[str, Changes] = Field(default_factory=dict)
    """The base, and one bundle of changes more from arm to arm."""
    leave_one_out: dict[str, Changes] = Field(default_factory=dict)
    """All bundles of changes, and all but each."""
    random: RandomSpec | None = None
    """A search of points drawn at random."""
    optuna: OptunaSpec | None = None
    """A search by Optuna."""
    cells: CellsSpec | None = None
    """The folds and seeds of every arm; those of the base unless said."""
    then: ThenSpec | None = None
    """More evidence for the best arms."""
    race: Annotated[RaceSpec | None, Also({"const": True})] = None
    """Stop arms that lose to the control."""
    control: str | None = None
    """The arm that the others are compared with: by default the base, or all bundles, where the
    form has such an arm, else the best."""
    smallest_effect: Positive = 0.005
    """The smallest difference that matters: what surely is smaller is within noise. Unit: score."""
    correction: Literal["holm", "dunnett"] = "holm"
    """How the verdicts allow for several arms against a control. Source: Holm 1979, Dunnett 1955.
    """
    expect: Expect = ()
    """What somebody bets on: words, or claims that the outcome decides."""
    notes: str = ""
    """Words beside the sweep. They change no number."""

    @field_validator("one_factor", "add_one", "leave_one_out", mode="before")
    @classmethod
    def _entries(cls, raw: Any, info: Any) -> Any:
        listed = info.field_name == "one_factor"
        for key, entry in raw.items() if isinstance(raw, dict) else ():
            if isinstance(entry, list) and listed:
                if not entry:
                    raise ValueError(f"{key} should list at least one value")
                check_distinct(tuple(entry))
            elif not isinstance(entry, dict) or not entry:
                kinds = "field: [values] or name: {changes}" if listed else "name: {changes}"
                raise ValueError(f"{key} should be {kinds}")
            elif WHEN in entry:
                raise ValueError(f"{key}: `when` goes with grid, random and optuna")
        return raw

    @field_validator("race", mode="before")
    @classmethod
    def _plain_race(cls, raw: Any) -> Any:
        return {} if raw is True else raw

    @model_validator(mode="after")
    def _one_form(self) -> SweepSpec:
        given = [form for form in FORMS if getattr(self, form)]
        if len(given) != 1:
            raise ValueError(
                f"give one of {', '.join(FORMS)}; got {' and '.join(given) or 'none of them'}"
            )
        if self.race is not None and (self.optuna or self.compared_with is None):
            hint = "an Optuna search has none" if self.optuna else "name one as `control`"
            raise ValueError(f"a race needs an arm that the others race against: {hint}")
        self._check_bets()
        if self.optuna is not None and self.control is not None:
            raise ValueError("nobody knows the arms of an Optuna search, so it has no `control`")
        return self

    def _check_bets(self) -> None:
        """Raise ValueError for a bet on a range of what is not searched, or an unknown arm."""
        for bet in self.expect:
            places = bet.best if bet.best is not None else bet.worst
            unknown = [key for key in places or () if key not in self.entries]
            if isinstance(places, dict) and unknown:
                raise ValueError(f"a bet on {unknown[0]!r}, which the sweep does not search")
            if self.optuna is not None and bet.kind and not isinstance(places, dict):
                raise ValueError(
                    "nobody knows the arms of an Optuna search: bet on `best: {field: [low, high]}`"
                )

    @property
    def form(self) -> str:
        """Which of FORMS the sweep is."""
        return next(form for form in FORMS if getattr(self, form))

    @property
    def entries(self) -> tuple[str, ...]:
        """The fields and named bundles whose effect is asked for."""
        form = getattr(self, self.form)
        return tuple(getattr(form, "space", form))

    @property
    def expected(self) -> str:
        """What is bet on, in words; "" for nothing."""
        return expect_words(self.expect)

    @property
    def compared_with(self) -> str | None:
        """The title of the arm that the others are compared with; None for the best."""
        own = {"one_factor": BASE, "add_one": BASE, "leave_one_out": ALL}
        return self.control if self.control is not None else own.get(self.form)


@dataclass(frozen=True)
class Arm:
    """One point of a sweep: its title, its changes to the base, its experiment.

    point: what it takes of each entry of the sweep, a value or the name of a bundle.
    """

    title: str
    delta: dict[str, Any]
    spec: ExperimentSpec
    point: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A loaded sweep: its spec, the raw base that its arms change, where both stand.

    rebased: whether it is laid over another base than that of its file.
    """

    spec: SweepSpec
    base: Document
    base_path: Path
    document: Document = field(default_factory=lambda: Document({}))
    rebased: bool = False

    def place(self, dotted: str) -> str | None:
        """`file:line` of a field of the sweep file; None for a grid from the command line."""
        return self.document.place(dotted)

    def build_arm(
        self,
        title: str,
        delta: Mapping[str, Any],
        cells: CellsSpec | None = None,
        *,
        point: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> Arm:
        """The arm whose changes to the base are `delta`, on the sweep's evidence or on `cells`.

        `origin` is the entry that it comes from. Raises SpecError that names both for an
        experiment that does not hold.
        """
        cells = cells or self.spec.cells
        changes: dict[str, Any] = dict(delta)
        if cells is not None:
            changes["cells"] = cells.model_dump(mode="json")
        if self.spec.project is not None:
            changes["project"] = self.spec.project
        changes["name"] = title
        try:
            return Arm(
                title, dict(delta), build_spec(self.base, self.spec.set, changes), point or {}
            )
        except SpecError as error:
            place = self.place(origin or self.spec.form)
            arm = f"arm {title!r}" + (f" ({place})" if place else "")
            error.where = f"{error.where}, {arm}" if error.where else arm
            raise


def load_sweep(
    path: Path,
    grid: Mapping[str, list[Any]] | None = None,
    *,
    base: Path | None = None,
    name: str | None = None,
) -> Sweep:
    """The sweep in a YAML file, or over an experiment file with `grid` given by the caller.

    With `base` it is laid over that experiment instead of its own, and is called `SWEEP-on-BASE`;
    its bets were made on its own base, so they are words there. `name` calls it otherwise.
    """
    document = load_yaml(path)
    given = [form for form in FORMS if form in document.data]
    renamed = {} if name is None else {"name": name}
    if grid:
        plain = "-".join([path.stem, *(key.rsplit(".", 1)[-1] for key in grid)])
        raw: dict[str, Any] = {"name": plain, "grid": dict(grid), **renamed}
        if given:
            raise SpecError(
                "--grid goes with an experiment file", where=str(path), got="a sweep file"
            )
        if base is not None:
            raise SpecError(
                "--base goes with a sweep file", where=str(path), fix="name the base itself"
            )
        return Sweep(validate(SweepSpec, raw, Document(raw)), load_document(path), path)
    if not given:
        raise SpecError(
            "this file describes no sweep",
            where=document.place(""),
            expected=f"one of {', '.join(f'`{form}:`' for form in FORMS)}",
            fix=f"birdlab run {path}, or birdlab sweep {path} --grid train.optimizer.lr=1e-4,1e-3",
        )
    spec = validate(SweepSpec, {"name": path.stem, **document.data, **renamed}, document)
    if spec.base is None:
        raise SpecError(
            "a sweep file names no base", where=document.place(""), fix="add `base: x.yaml`"
        )
    own = path.parent / spec.base
    if base is None or base.resolve() == own.resolve():
        return Sweep(spec, load_document(own), own, document)
    changed = spec.model_copy(
        update={
            "name": spec.name if renamed else _name_on(spec.name, base),
            "base": os.path.relpath(base, path.parent),
            "expect": (BetSpec(text=f"on {own.name}: {spec.expected}"),) if spec.expect else (),
        }
    )
    return Sweep(changed, load_document(base), base, document, rebased=True)


def _name_on(name: str, base: Path) -> str:
    """The name of a sweep over another base, as long as a name may be."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", base.stem).strip("-.") or "base"
    return f"{name[:40]}-on-{stem[:36]}"
