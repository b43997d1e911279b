"""The arms of a sweep: every point of its form once, in a stated order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from birdlab.errors import SpecError
from birdlab.spec.conditions import Conditions
from birdlab.spec.diff import title_of
from birdlab.spec.identity import canonical_json
from birdlab.spec.kinds import nearest
from birdlab.spec.points import SearchSpace
from birdlab.spec.space import WHEN, Axis, Changes, When, lay_over
from birdlab.spec.sweep import ALL, BASE, Arm, Sweep

MIN_RACE_FOLDS = 3
_MISSES = 200
"""After so many draws that are no new experiment, a space has no more to give."""


@dataclass(frozen=True)
class _Option:
    """What an arm may take of one entry: a title, the changes it stands for, its condition."""

    label: Any
    title: str
    changes: Changes
    when: tuple[When, ...] = ()


@dataclass(frozen=True)
class _Point:
    """Options taken one after the other."""

    titles: tuple[str, ...] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)
    delta: Mapping[str, Any] = field(default_factory=dict)

    def take(self, key: str, option: _Option) -> _Point:
        """This point with an option of one more entry."""
        return _Point(
            (*self.titles, option.title),
            {**self.chosen, key: option.label},
            lay_over(self.delta, option.changes),
        )


def sweep_arms(sweep: Sweep) -> list[Arm]:
    """All arms of a sweep that is no search by Optuna, each once; checked as a whole.

    The order: a grid with its last entry changing fastest, everything else as in the file, the
    base (or `all`) first. Raises SpecError for an arm that does not hold, two arms that are the
    same experiment, a control that is none, a race or finalists' cells that cannot be.
    """
    make = {
        "grid": _grid,
        "one_factor": _one_factor,
        "add_one": _add_one,
        "leave_one_out": _leave_one_out,
        "random": _random,
    }[sweep.spec.form]
    arms = list(make(sweep))
    _refuse_twins(sweep, arms)
    _check_plans(sweep, arms)
    return arms


# ---------------------------------------------------------------- forms


def _grid(sweep: Sweep) -> Iterator[Arm]:
    axes = {key: _options(key, axis) for key, axis in sweep.spec.grid.items()}
    fields = {key: [f for o in options for f in o.changes] for key, options in axes.items()}
    conditions = Conditions(sweep.base, sweep.spec.set, fields)
    unused: dict[tuple[str, str], None] = {}
    for key, options in axes.items():
        for option in options:
            for when in option.when:
                conditions.check(key, when, sweep.place(f"grid.{key}"))
                unused[key, option.title] = None
    points = [_Point()]
    for key, options in axes.items():
        there = [(p, _there(sweep, conditions, key, options, p)) for p in points]
        for key_title in {(key, o.title) for _, found in there for o in found}:
            unused.pop(key_title, None)
        points = [q for p, found in there for q in [p.take(key, o) for o in found] or [p]]
    for key, title in unused:
        raise SpecError(
            f"the condition of {title!r} holds at no point", where=sweep.place(f"grid.{key}")
        )
    for p in points:
        yield sweep.build_arm(
            ", ".join(p.titles) or BASE, p.delta, point=p.chosen, origin=_origin("grid", p)
        )


def _options(key: str, axis: Axis) -> list[_Option]:
    shared = (axis.when,) if axis.when else ()
    if not axis.bundles:
        return [_Option(v, title_of({key: v}), {key: v}, shared) for v in axis.values]
    options = []
    for name, bundle in axis.bundles.items():
        own = (bundle[WHEN],) if WHEN in bundle else ()
        changes = {k: v for k, v in bundle.items() if k != WHEN}
        options.append(_Option(name, name, changes, (*shared, *own)))
    return options


def _there(
    sweep: Sweep, conditions: Conditions, key: str, options: Iterable[_Option], point: _Point
) -> list[_Option]:
    """The options of an entry whose conditions hold at a point."""
    place = sweep.place(f"grid.{key}")
    return [
        option
        for option in options
        if all(conditions.hold(w, point.chosen, point.delta, place) for w in option.when)
    ]


def _origin(form: str, point: _Point) -> str:
    """The entry an arm comes from, where it is one alone."""
    return f"{form}.{next(iter(point.chosen))}" if len(point.chosen) == 1 else form


def _one_factor(sweep: Sweep) -> Iterator[Arm]:
    yield sweep.build_arm(BASE, {})
    for key, entry in sweep.spec.one_factor.items():
        changes = [{key: value} for value in entry] if isinstance(entry, list) else [entry]
        for change in changes:
            title = title_of(change) if isinstance(entry, list) else key
            yield sweep.build_arm(title, change, origin=f"one_factor.{key}")


def _add_one(sweep: Sweep) -> Iterator[Arm]:
    yield sweep.build_arm(BASE, {})
    delta: Changes = {}
    names: list[str] = []
    for name, changes in sweep.spec.add_one.items():
        delta = lay_over(delta, changes)
        names.append(f"+{name}")
        yield sweep.build_arm(" ".join(names), delta, origin=f"add_one.{name}")


def _leave_one_out(sweep: Sweep) -> Iterator[Arm]:
    bundles = sweep.spec.leave_one_out
    for left_out in (None, *bundles):
        delta: Changes = {}
        for name, changes in bundles.items():
            if name != left_out:
                delta = lay_over(delta, changes)
        title = ALL if left_out is None else f"without {left_out}"
        yield sweep.build_arm(title, delta, origin=left_out and f"leave_one_out.{left_out}")


def _random(sweep: Sweep) -> Iterator[Arm]:
    """Draw n gives each entry a number of its own, so that a longer search goes on."""
    spec = sweep.spec.random
    assert spec is not None
    space = SearchSpace(sweep)
    seen: set[str] = set()
    n = misses = 0
    while len(seen) < spec.trials and misses < _MISSES:
        point: dict[str, Any] = {}
        for key, entry in spec.space.items():
            if space.applies(key, point):
                point[key] = entry.draw(random.Random(f"{spec.seed} {n} {key}"))
        arm = space.arm(point)
        identity = canonical_json(arm.spec)
        misses = misses + 1 if identity in seen else 0
        if not misses:
            seen.add(identity)
            yield arm
        n += 1


# ---------------------------------------------------------------- checks


def _refuse_twins(sweep: Sweep, arms: list[Arm]) -> None:
    """Raise for two arms that are one experiment, or that have one title."""
    seen: dict[str, str] = {}
    titles: set[str] = set()
    for arm in arms:
        key = canonical_json(arm.spec)
        if seen.get(key) == BASE and sweep.spec.form != "grid":
            raise SpecError(
                f"the arm {arm.title!r} is the base: its changes change nothing",
                where=sweep.place(sweep.spec.form),
                got=title_of(arm.delta),
                fix="leave it out: the base is an arm already",
            )
        if key in seen:
            raise SpecError(
                "two arms of the sweep are the same experiment",
                where=f"{seen[key]!r} and {arm.title!r}",
                fix="remove one, or check the dotted names of its changes",
            )
        if arm.title in titles:
            raise SpecError(
                "two arms of the sweep have the same title",
                where=sweep.place(sweep.spec.form),
                got=arm.title,
                fix="give a bundle another name",
            )
        seen[key] = arm.title
        titles.add(arm.title)


def _check_plans(sweep: Sweep, arms: list[Arm]) -> None:
    """Raise now for a control that is no arm, a race or finalists' cells that cannot be."""
    titles, control = [arm.title for arm in arms], sweep.spec.compared_with
    if control is not None and control not in titles:
        raise SpecError(
            "the control of the sweep is none of its arms",
            where=sweep.place("control") or "control",
            got=control,
            expected=nearest(control, titles),
        )
    if sweep.spec.then is not None:
        for arm in arms:
            sweep.build_arm(arm.title, arm.delta, sweep.spec.then.cells, origin="then")
    if sweep.spec.race is not None:
        for arm in arms:
            _check_race(sweep, arm)


def _check_race(sweep: Sweep, arm: Arm) -> None:
    assert sweep.spec.race is not None
    n_folds, n_seeds = len(arm.spec.fold_numbers), len(arm.spec.cells.seeds)
    if arm.spec.rounds is not None:
        raise SpecError(
            "an arm with `rounds` cannot race: both decide what is not run",
            where=sweep.place("race"),
            got=f"rounds by {arm.spec.rounds.by} in the arm {arm.title!r}",
            fix="leave out `race`, or set `rounds: null` for the arms",
        )
    rounds = sweep.spec.race.min_rounds
    if n_folds < MIN_RACE_FOLDS or n_seeds <= rounds:
        raise SpecError(
            "the arms of this sweep cannot race",
            where=sweep.place("race"),
            got=f"{n_folds} folds and {n_seeds} seeds in the arm {arm.title!r}",
            expected=f"at least {MIN_RACE_FOLDS} folds, and more seeds than the {rounds} that "
            "every arm gets",
            fix="ask for more: `cells: {folds: all, seeds: [0, 1, 2]}`",
        )
