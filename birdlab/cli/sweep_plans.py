"""The plan of a sweep in words: arms and cells, time, what it can tell apart, its networks."""

from __future__ import annotations

from collections.abc import Callable

from birdlab.cli.common import Place
from birdlab.cli.estimates import time_words
from birdlab.cli.plans import describe_floor, describe_open_leaks
from birdlab.cli.progress import CellProgress, print_lines
from birdlab.cli.result_json import sweep_plan_json
from birdlab.cli.voice import print_json, print_note
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.spec.arms import arms_left_out
from birdlab.spec.diff import title_of
from birdlab.spec.sweep import Sweep
from birdlab.study.noise import detectable_delta
from birdlab.study.noise_file import load_noise
from birdlab.sweep.dryrun import (
    ModelCheck,
    SweepPlan,
    check_models,
    estimate_sweep,
    plan_sweep,
    slots_here,
)
from birdlab.sweep.estimate import Estimate


def dry_run_sweep(sweep: Sweep, lab: Lab, place: Place, *, json_: bool = False) -> bool:
    """Print what a sweep would do; whether every arm holds and every network can be built."""
    with CellProgress() as shown:
        plan = plan_sweep(sweep, lab, shown.step)
    if json_:
        check = check_models(plan)
        print_json(sweep_plan_json(plan, estimate_here(plan, lab, place), check))
        return not check.bad
    print_lines("\n".join([*_announced(plan, lab, place), "", describe_sweep(plan)]))
    check = check_models(plan)
    print_lines("\n" + describe_models(check))
    return not check.bad


def announce(lab: Lab, place: Place) -> Callable[[SweepPlan], None]:
    """What prints what a sweep will take, before anything of it starts.

    The room of a cluster is not known here: there it is as many cells at once as jobs, or one.
    """

    def tell(plan: SweepPlan) -> None:
        print_note("\n".join(_announced(plan, lab, place)))

    return tell


def _announced(plan: SweepPlan, lab: Lab, place: Place) -> list[str]:
    left_out = [f"left out {title}: {why}" for title, why in arms_left_out(plan.sweep).items()]
    estimate = estimate_here(plan, lab, place)
    return [*left_out, describe_estimate(plan, estimate, describe_detectable(plan, lab))]


def estimate_here(plan: SweepPlan, lab: Lab, place: Place) -> Estimate:
    """What a sweep would train, at a place."""
    jobs = place.jobs or lab.file.jobs
    return estimate_sweep(plan, lab, slots_here(plan, lab, jobs) if place.is_here else jobs or 1)


def describe_detectable(plan: SweepPlan, lab: Lab) -> str:
    """The difference that the sweep would find in 80 % of repetitions, in words."""
    by_title = {arm.title: arm_plan for arm, arm_plan in plan.arms}
    control = plan.sweep.spec.compared_with
    one = by_title.get(control or "", plan.arms[0][1])
    noise = load_noise(lab, one.rows_hash, one.data.classes.digest)
    if noise is None:
        return f"unknown: run `birdlab noise {plan.sweep.base_path}`"
    n_folds, n_seeds = len(one.spec.fold_numbers), len(one.spec.cells.seeds)
    delta = detectable_delta(noise, n_folds, n_seeds, max(1, plan.n_points - 1))
    if delta != delta:
        return f"nothing: {n_folds} folds give no verdict"
    least = "at least " if noise.fold_arm is None or control is None else ""
    return (
        f"a true difference of {least}{delta:.4f} to {control or 'the best'} in 4 of 5 such "
        f"sweeps, by the noise of {noise.n_folds} folds x {noise.n_seeds} seeds"
    )


def describe_sweep(plan: SweepPlan) -> str:
    """The plan of a sweep, for `--dry-run`: arms, cells, steps, what is cached."""
    first_arm, first = plan.arms[0]
    width = max(len(arm.title) for arm, _ in plan.arms)
    head = f"rows {len(first.rows.table):,}, {len(first.data.classes)} classes, "
    lines = [head + f"floor {describe_floor(first)}", ""]
    if plan.sweep.spec.optuna is not None:
        lines += [
            f"the first {len(plan.arms)} of {plan.n_points} points; what follows depends on "
            "the scores"
        ]
    usual = _steps(first)
    for arm, arm_plan in plan.arms:
        cached = sum(c.cell_id in plan.cached for c in arm_plan.cells)
        steps = _steps(arm_plan)
        note = "" if steps == usual else f"  <- steps differ from {first_arm.title}"
        lines.append(
            f"  {arm.title:<{width}}  {arm_plan.spec_id}  {len(arm_plan.cells)} cells "
            f"({cached} cached)  {'+'.join(map(str, steps))} steps{note}"
        )
        if arm.delta and title_of(arm.delta) != arm.title:
            lines.append(f"  {'':<{width}}  {title_of(arm.delta)}")
    plans = [p for _, p in (*plan.arms, *plan.alone)]
    lines += [f"missing {text}" for text in sorted({m for p in plans for m in p.missing})]
    lines += [f"note {text}" for text in dict.fromkeys(t for p in plans for t in p.notes)]
    lines += [f"leak {t}" for t in dict.fromkeys(t for p in plans for t in describe_open_leaks(p))]
    return "\n".join(lines)


def describe_estimate(plan: SweepPlan, estimate: Estimate, detectable: str) -> str:
    """What a sweep will take, before anything starts; `detectable` says what it can tell apart."""
    spec = plan.sweep.spec
    n_arms, points = len(plan.arms), plan.n_points
    if spec.optuna is None:
        head = f"{n_arms} arms"
    else:
        each = estimate.cells / max(1, n_arms)
        head = (
            f"{points} points by {spec.optuna.sampler} in batches of {spec.optuna.batch}, about "
            f"{round(each * points)} cells in all; the first batch: {n_arms} arms"
        )
    batches = None if spec.optuna is None else points / max(1, n_arms)
    lines = [
        f"sweep {spec.name}: {head}, {estimate.cells} distinct cells, {estimate.cached} cached, "
        f"{estimate.to_train} to train ({estimate.steps:,} steps)",
        *([f"hears    {_again(len(plan.unheard))}"] if plan.unheard else []),
        f"time     {time_words(estimate, batches)}",
        f"detects  {detectable}",
    ]
    if spec.race is not None:
        first = "every seed" if spec.race.min_rounds == 1 else f"{spec.race.min_rounds} seeds"
        lines.append(
            f"race     against {spec.compared_with}, after {first}: cells and time are at most "
            f"these; of arms equal to it at most {100 * spec.race.level:g} % are stopped"
        )
    if spec.then is not None:
        folds, seeds = spec.then.cells.folds, spec.then.cells.seeds
        told = folds if isinstance(folds, str) else ", ".join(map(str, folds))
        lines.append(
            f"then     the best {spec.then.top} on folds {told}, seeds "
            f"{', '.join(map(str, seeds))}: not counted here"
        )
    return "\n".join(lines)


def _again(n: int) -> str:
    cells = "1 trained cell" if n == 1 else f"{n} trained cells"
    return f"{cells} once more, for windows or sounds that they lack outputs of; not in the time"


def describe_models(check: ModelCheck) -> str:
    """Which networks were built, what they answer, and which arms have one that does not."""
    what = "network" if check.n == 1 else "distinct networks"
    lines = [f"checked  {check.n} {what}: {'; '.join(check.shapes) or 'none works'}"]
    for titles, error in check.bad:
        more = f" and {len(titles) - 3} more arms" if len(titles) > 3 else ""
        lines.append(f"bad      {', '.join(titles[:3])}{more}: {error}")
    return "\n".join(lines)


def _steps(plan: Plan) -> list[int]:
    per_stage = {c.stage.name: c.steps.total for c in reversed(plan.cells)}
    return [per_stage[stage.name] for stage in plan.spec.stages]
