"""What becomes of the windows of a promoted model: the steps and the hop of its runs, or others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birdlab.errors import PromotionError
from birdlab.evaluate.postprocess import check_overlap, check_steps
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.steps import portable_mappings, to_mappings
from birdlab.evaluate.windows import find_hop
from birdlab.plan import Plan
from birdlab.promote.request import PromotionRequest
from birdlab.spec.postprocess import PostStep, chain_of

Steps = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Chain:
    """The steps that predictions get, the seconds from one window to the next, and it in words.

    hop_s: None for windows one after the other; told: empty where nothing becomes of windows.
    """

    steps: tuple[Mapping[str, Any], ...] = ()
    hop_s: float | None = None
    told: tuple[str, ...] = ()

    def steps_for(self, record: Mapping[str, Any]) -> tuple[PostStep, ...]:
        """The steps as scores of a run take them: windows that do not overlap are not averaged."""
        heard = (record.get("spec") or {}).get("evaluate", {})
        steps = chain_of(list(self.steps), "the steps of the model").steps
        return tuple(s for s in steps if heard.get("hop_s") or s.kind != "shift_average")


def settle_chain(plans: Mapping[str, Plan], request: PromotionRequest) -> Chain:
    """The chain of a promotion: what it asks for, else what all its runs were scored with.

    Raises PromotionError where runs differ, SpecError for steps that cannot leave the lab, that
    lack their overlapping windows or that name a species of no class.
    """
    hop_s = _settle_hop(plans, request.hop_s)
    own = {name: to_mappings(plan.spec.postprocess) for name, plan in plans.items()}
    first = next(iter(plans.values()))
    if request.post is not None:
        steps = tuple(request.post)
        check_overlap(steps, overlap=hop_s is not None)
    else:
        if any(listed != own[next(iter(own))] for listed in own.values()):
            raise PromotionError(
                "the runs were scored with different post-processing, and a model has one",
                got="; ".join(f"{name}: {_words(listed)}" for name, listed in own.items()),
                fix="say which it gets: --post FILE, or --post none",
            )
        steps = tuple(portable_mappings(first.spec.postprocess, overlap=hop_s is not None))
    check_steps(steps, first.data.classes.codes)
    return Chain(steps, hop_s, tuple(_tell(plans, own, steps, hop_s)))


def _settle_hop(plans: Mapping[str, Plan], asked_s: float | None) -> float | None:
    first = next(iter(plans.values()))
    window_s = first.spec.competition.window_s
    if asked_s is not None:
        find_hop(build_windowing(first.spec, first.sample_rate_hz), asked_s)
        return None if asked_s == window_s else asked_s
    found = {name: plan.spec.evaluate.hop_s for name, plan in plans.items()}
    if len(set(found.values())) > 1:
        raise PromotionError(
            "the runs were scored on windows that overlap differently, and a model has one hop",
            got="; ".join(f"{name}: every {hop or window_s:g} s" for name, hop in found.items()),
            fix=f"say which it gets: --hop {window_s / 2:g}, or --hop {window_s:g} for none",
        )
    return found[next(iter(found))]


def _tell(
    plans: Mapping[str, Plan], own: Mapping[str, Steps], steps: Steps, hop_s: float | None
) -> list[str]:
    """What predictions get, and where that is not what runs were scored with."""
    hops = {name: plan.spec.evaluate.hop_s for name, plan in plans.items()}
    told = []
    if steps or any(own.values()):
        told.append(f"Post-processing of predictions: {_words(steps)}.")
        told += [
            f"It stands in place of that of {name}: {_words(listed)}."
            for name, listed in own.items()
            if list(listed) != list(steps)
        ]
    if hop_s is not None:
        told.append(f"Predictions hear a window every {hop_s:g} s.")
    told += [
        f"{name} was scored on windows "
        + ("one after the other" if own_s is None else f"every {own_s:g} s")
        + ": out-of-fold scores are of these."
        for name, own_s in hops.items()
        if own_s != hop_s
    ]
    return told


def _words(steps: Steps) -> str:
    return ", ".join(str(step["kind"]) for step in steps) or "none"
