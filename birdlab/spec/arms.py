"""The arms of a sweep: every point of its form once, in a stated order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from birdlab.errors import SpecError
from birdlab.spec.arm_checks import check_plans, refuse_twins
from birdlab.spec.conditions import Conditions
from birdlab.spec.diff import title_of
from birdlab.spec.identity import canonical_json
from birdlab.spec.points import SearchSpace
from birdlab.spec.space import WHEN, Axis, Changes, When, lay_over
from birdlab.spec.sweep import ALL, BASE, Arm, Sweep

MAX_ARMS = 10_000
"""As many as a search may have trials."""
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


Planned = tuple[str, Callable[[], Arm]]
"""The title of an arm, and what builds it."""


def sweep_arms(sweep: Sweep) -> list[Arm]:
    """All arms of a sweep that is no search by Optuna, each once; checked as a whole.

    The order: a grid with its last entry changing fastest, everything else as in the file, the
    base (or `all`) first. Over another base than that of its file, arms that do not hold there or
    change nothing are no arms (`arms_left_out`). Raises SpecError for an arm that does not hold,
    two arms that are the same experiment, more than 10,000 arms, a control that is none, a race or
    finalists' cells that cannot be.
    """
    if sweep.rebased:
        arms, left_out = _sort_out(sweep)
        _refuse_too_few(sweep, arms, left_out)
    else:
        arms = [build() for _, build in _planned(sweep)]
    refuse_twins(sweep, arms)
    check_plans(sweep, arms)
    return arms


def arms_left_out(sweep: Sweep) -> dict[str, str]:
    """The arms of the file that are none over another base, each with the reason in words."""
    return _sort_out(sweep)[1] if sweep.rebased and sweep.spec.optuna is None else {}


def _planned(sweep: Sweep) -> Iterator[Planned]:
    make = {
        "grid": _grid,
        "one_factor": _one_factor,
        "add_one": _add_one,
        "leave_one_out": _leave_one_out,
        "random": _random,
    }[sweep.spec.form]
    for n, planned in enumerate(make(sweep)):
        if n >= MAX_ARMS:
            raise _too_many(sweep, sweep.spec.form)
        yield planned


def _sort_out(sweep: Sweep) -> tuple[list[Arm], dict[str, str]]:
    """The arms that are experiments of their own, the reasons of those that are not.

    Of equal ones the control stays, else the first.
    """
    built: dict[str, Arm] = {}
    reasons: dict[str, str] = {}
    titles: list[str] = []
    for title, build in _planned(sweep):
        titles.append(title)
        try:
            built[title] = build()
        except SpecError as error:
            reasons[title] = f"does not hold over this base: {_in_a_line(error)}"
    control = sweep.spec.compared_with
    kept: dict[str, str] = {}
    for title in sorted(built, key=lambda t: t != control):
        first = kept.setdefault(canonical_json(built[title].spec), title)
        if first != title:
            reasons[title] = f"changes nothing over this base: the same experiment as {first!r}"
    arms = [built[title] for title in titles if title in built and title not in reasons]
    return arms, {title: reasons[title] for title in titles if title in reasons}


def _in_a_line(error: SpecError) -> str:
    lines = [line.strip().removeprefix("spec: ") for line in str(error.what).splitlines()]
    return "; ".join(lines[1:] or lines)[:300]


def _refuse_too_few(sweep: Sweep, arms: list[Arm], left_out: Mapping[str, str]) -> None:
    control = sweep.spec.compared_with
    if control in left_out or len(arms) < 2:
        raise SpecError(
            "too little of the sweep is left over this base",
            where=str(sweep.base_path),
            got="; ".join(f"{arm} {why}" for arm, why in left_out.items()),
            expected="two arms or more" + (f", {control!r} among them" if control else ""),
        )


# ---------------------------------------------------------------- forms


def _grid(sweep: Sweep) -> Iterator[Planned]:
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
        there, n = list[tuple[_Point, list[_Option]]](), 0
        for p in points:
            there.append((p, _there(sweep, conditions, key, options, p)))
            n += len(there[-1][1]) or 1
            if n > MAX_ARMS:
                raise _too_many(sweep, f"grid.{key}")
        for key_title in {(key, o.title) for _, found in there for o in found}:
            unused.pop(key_title, None)
        points = [q for p, found in there for q in [p.take(key, o) for o in found] or [p]]
    for key, title in unused:
        raise SpecError(
            f"the condition of {title!r} holds at no point",
            where=sweep.place(f"grid.{key}"),
            fix="correct `when`, or leave the option out",
        )
    for p in points:
        title = ", ".join(p.titles) or BASE
        build = partial(sweep.build_arm, point=p.chosen, origin=_origin("grid", p))
        yield title, partial(build, title, p.delta)


def _too_many(sweep: Sweep, field: str) -> SpecError:
    return SpecError(
        f"the sweep has more than {MAX_ARMS:,} arms",
        where=sweep.place(field),
        expected=f"{MAX_ARMS:,} or fewer",
        fix="search instead: `random:` or `optuna:` try as many points of a space as you say",
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


def _one_factor(sweep: Sweep) -> Iterator[Planned]:
    yield BASE, partial(sweep.build_arm, BASE, {})
    for key, entry in sweep.spec.one_factor.items():
        changes = [{key: value} for value in entry] if isinstance(entry, list) else [entry]
        for change in changes:
            title = title_of(change) if isinstance(entry, list) else key
            yield title, partial(sweep.build_arm, title, change, origin=f"one_factor.{key}")


def _add_one(sweep: Sweep) -> Iterator[Planned]:
    yield BASE, partial(sweep.build_arm, BASE, {})
    delta: Changes = {}
    names: list[str] = []
    for name, changes in sweep.spec.add_one.items():
        delta = lay_over(delta, changes)
        names.append(f"+{name}")
        title = " ".join(names)
        yield title, partial(sweep.build_arm, title, delta, origin=f"add_one.{name}")


def _leave_one_out(sweep: Sweep) -> Iterator[Planned]:
    bundles = sweep.spec.leave_one_out
    for left_out in (None, *bundles):
        delta: Changes = {}
        for name, changes in bundles.items():
            if name != left_out:
                delta = lay_over(delta, changes)
        title = ALL if left_out is None else f"without {left_out}"
        origin = left_out and f"leave_one_out.{left_out}"
        yield title, partial(sweep.build_arm, title, delta, origin=origin)


def _random(sweep: Sweep) -> Iterator[Planned]:
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
            yield arm.title, partial(_same, arm)
        n += 1


def _same(arm: Arm) -> Arm:
    return arm
