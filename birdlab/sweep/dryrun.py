"""What a sweep would do, checked without training: its plans, its networks, its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from birdlab.cellfiles import is_trained
from birdlab.cellorder import find_lacking
from birdlab.cellplan import CellPlan
from birdlab.errors import BirdlabError
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.windows import WHOLE, Share
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, plan_experiments, silent
from birdlab.spec.arms import sweep_arms
from birdlab.spec.points import SearchSpace
from birdlab.spec.sweep import Arm, Sweep
from birdlab.sweep.estimate import Estimate, estimate_plans, load_cards
from birdlab.sweep.slots import build_inventory


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What a sweep would do: its arms with their plans, and which cells are there already.

    unheard: cells among the `cached` whose weights are there, and outputs that an arm asks for not.
    Of an Optuna search `arms` are those of its first batch, and `alone` are plans of every choice
    and both ends of every range, each alone over the base where its condition holds.
    """

    sweep: Sweep
    arms: tuple[tuple[Arm, Plan], ...]
    cached: frozenset[str]
    alone: tuple[tuple[Arm, Plan], ...] = ()
    unheard: frozenset[str] = frozenset()

    @property
    def cells(self) -> dict[str, tuple[Arm, Any]]:
        """Every distinct cell with the first arm that needs it."""
        return {c.cell_id: (arm, c) for arm, plan in reversed(self.arms) for c in plan.cells}

    @property
    def n_points(self) -> int:
        """How many points the sweep has: of a search, its trials."""
        optuna = self.sweep.spec.optuna
        return len(self.arms) if optuna is None else optuna.trials


@dataclass(frozen=True)
class ModelCheck:
    """The distinct networks of a sweep that were built, and what was wrong with which arms.

    n: how many were built; shapes: what they answer, [1, samples] -> [1, classes] in words; bad:
    titles of the arms and the error of each that does not work.
    """

    n: int
    shapes: tuple[str, ...]
    bad: tuple[tuple[tuple[str, ...], BirdlabError], ...]


def plan_sweep(sweep: Sweep, lab: Lab, progress: Progress = silent) -> SweepPlan:
    """The plan of a sweep; data that the lab lacks is noted in the plans, not raised.

    A search is asked for its first batch, which is not journalled. Raises SpecError for an arm
    that does not hold.
    """

    def planned(arms: Sequence[Arm]) -> tuple[tuple[Arm, Plan], ...]:
        plans = plan_experiments([a.spec for a in arms], lab, strict=False, progress=progress)
        return tuple(zip(arms, plans, strict=True))

    if sweep.spec.optuna is None:
        return with_cached(sweep, planned(sweep_arms(sweep)), lab)
    from birdlab.sweep.search import first_batch

    space = SearchSpace(sweep)
    points = first_batch(sweep.spec.optuna, space.applies)
    arms = {arm.title: arm for arm in (space.arm(point) for point in points)}
    plan = with_cached(sweep, planned(list(arms.values())), lab)
    return replace(plan, alone=planned(list_alone(space)))


def with_cached(sweep: Sweep, arms: Sequence[tuple[Arm, Plan]], lab: Lab) -> SweepPlan:
    """The plan of a sweep over plans that were made, with the cells that are there."""
    cells = {c.cell_id for _, plan in arms for c in plan.cells}
    lacking = {c.cell_id: c for _, plan in arms for c in find_lacking(lab, plan.cells)}
    unheard = frozenset(cell_id for cell_id, c in lacking.items() if is_trained(lab, c))
    cached = (cells - set(lacking)) | unheard
    return SweepPlan(sweep, tuple(arms), frozenset(cached), unheard=unheard)


def slots_here(plan: SweepPlan, lab: Lab, jobs: int | None) -> int:
    """How many cells of a plan run at once on this machine, at most `jobs`."""
    return slots_for([cell for _, cell in plan.cells.values()], lab, jobs)


def slots_for(cells: Sequence[CellPlan], lab: Lab, jobs: int | None) -> int:
    """How many of some cells run at once on this machine, at most `jobs`."""
    inventory = build_inventory(lab)
    threads = max((cell.stage.train.threads_per_cell for cell in cells), default=1)
    return min(len(inventory.slots(jobs)), max(1, inventory.cores // threads))


def estimate_sweep(plan: SweepPlan, lab: Lab, slots: int) -> Estimate:
    """What the arms of a plan would train with `slots` cells at once.

    Of a search it is the first batch, and its time is what that takes where nothing is cached, as
    of the batches that nobody knows yet.
    """
    plans = [arm_plan for _, arm_plan in plan.arms]
    is_search = plan.sweep.spec.optuna is not None
    cards = load_cards(lab) if is_search or set(plan.cells) - plan.cached else []
    estimate = estimate_plans(plans, plan.cached, cards, slots)
    if not is_search:
        return estimate
    whole = estimate_plans(plans, (), cards, slots)
    return replace(whole, cached=estimate.cached, steps=estimate.steps)


def check_models(plan: SweepPlan) -> ModelCheck:
    """Build each distinct network of a sweep once, and let it hear a clip of each length asked.

    A network is distinct by its spec and number of classes. The lengths are those of training
    clips and of what is heard of the windows that are scored, with their parts of it.
    """
    from birdlab.sed.probe import probe_model

    users: dict[tuple[str, int], list[str]] = {}
    inputs: dict[tuple[str, int], dict[tuple[int, tuple[Share, ...]], None]] = {}
    specs = {}
    for arm, arm_plan in (*plan.arms, *plan.alone):
        for cell in arm_plan.cells:
            key = (arm_plan.spec.model.model_dump_json(), len(cell.classes))
            specs[key] = arm_plan.spec.model
            users.setdefault(key, [])
            if arm.title not in users[key]:
                users[key].append(arm.title)
            scored = build_windowing(arm_plan.spec, arm_plan.sample_rate_hz)
            clip = round(cell.stage.train.window_s * arm_plan.sample_rate_hz)
            inputs.setdefault(key, {})[clip, (WHOLE,)] = None
            inputs[key][scored.input_samples, scored.centres] = None
    shapes, bad = [], []
    for key, spec in specs.items():
        try:
            probe_model(spec, key[1], list(inputs[key]))
        except BirdlabError as error:
            bad.append((tuple(users[key]), error))
        else:
            shapes += [f"[1, {n}] -> [{len(parts)}, {key[1]}]" for n, parts in inputs[key]]
    return ModelCheck(len(specs), tuple(dict.fromkeys(shapes)), tuple(bad))


def list_alone(space: SearchSpace) -> list[Arm]:
    """An arm for every choice and both ends of every range of a space, each alone over the base."""
    return [
        space.arm_alone(key, value)
        for key, entry in space.entries.items()
        for value in entry.options or entry.ends
    ]
