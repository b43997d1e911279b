"""What is refused of the arms of a sweep as a whole: twins, plans and bets that cannot be."""

from __future__ import annotations

from birdlab.errors import SpecError
from birdlab.spec.bets import build_claim
from birdlab.spec.diff import title_of
from birdlab.spec.identity import canonical_json
from birdlab.spec.kinds import nearest
from birdlab.spec.sweep import BASE, Arm, Sweep

MIN_RACE_FOLDS = 3


def refuse_twins(sweep: Sweep, arms: list[Arm]) -> None:
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


def check_plans(sweep: Sweep, arms: list[Arm]) -> None:
    """Raise now for a control that is no arm, a race, a bet or finalists' cells that cannot be."""
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
    check_bets(sweep, {arm.title: dict(arm.point or arm.delta) for arm in arms})


def check_bets(sweep: Sweep, points: dict[str, dict[str, object]]) -> None:
    """Raise SpecError for a bet on what is no arm; `points` is what each arm takes."""
    for n, bet in enumerate(sweep.spec.expect):
        try:
            build_claim(bet, points, sweep.spec.compared_with)
        except SpecError as error:
            error.where = sweep.place(f"expect.{n}") or "expect"
            raise


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
