"""The gates of a promotion: what must be shown of runs, file and models before an alias moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from birdlab.errors import PromotionError
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.promote.agreement import LEAST, MARGIN, Agreement
from birdlab.promote.chains import Chain
from birdlab.promote.champion import champion_gate
from birdlab.promote.parity import TOLERANCE, ParityReport
from birdlab.promote.reproduction import Reproduction
from birdlab.promote.request import PromotionRequest
from birdlab.promote.soups import SCORES_AS, SOUPED, SoupScore, line_gate, soup_gate
from birdlab.promote.storedgates import licence_gate, range_gate
from birdlab.promote.variant_report import VariantReport
from birdlab.study.ensemble_gates import Gate, State, folds_gate, leaderboard_gate
from birdlab.study.ledger import load_ledger
from birdlab.study.tables import StudyTables
from birdlab.tracking.index import load_cells, load_runs
from birdlab.words import count_words

Record = Mapping[str, Any]

PARITY = "the file equals its models"
BATCH = "a clip alone equals it in a batch"
REPRODUCED = "out-of-fold scores come back"
BUDGET = "the CPU budget holds"
AGREEMENT = "deployed models rank as fold models"
MORE_SOUND = "--soundscapes DIR with recordings that have these species in them, or --weights folds"
FOLDS_INSTEAD = "birdlab promote RUN... --weights folds; or train longer"
WANTED = {
    PARITY: f"at most {TOLERANCE:g} apart",
    BATCH: f"at most {TOLERANCE:g} apart",
    REPRODUCED: f"score and windows at most {TOLERANCE:g} apart",
    BUDGET: "the limit of the competition",
    SOUPED: SCORES_AS,
    AGREEMENT: f"the worst fold model's less {MARGIN:g}, {LEAST:g} at least",
}


@dataclass(frozen=True)
class Costs:
    """What a file costs: milliseconds a window of one core, and the minutes of a submission.

    predicted_minutes: for all soundscapes of the competition on so many cores; needed_minutes:
    with the share that is kept free; limit_minutes: of the competition; run_ms: milliseconds a
    window of the network of one model of each run, by its name.
    """

    ms_per_window: float
    predicted_minutes: float
    needed_minutes: float
    limit_minutes: float
    cores: int
    run_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tried:
    """What was found out of models and their file so far; empty and None for what was not tried.

    parity: files against the models they are made of, the deployed one last; reproduced: the
    held-out recordings of each run through the exported fold models; agreements: of each run whose
    deployed models have no held-out recordings; soups: of runs whose weights were averaged, what
    the means score on soundscapes; variants: the forms of the file that were asked for.
    """

    parity: tuple[ParityReport, ...] = ()
    reproduced: Mapping[str, Reproduction] = field(default_factory=dict)
    costs: Costs | None = None
    agreements: tuple[Agreement, ...] = ()
    soups: tuple[SoupScore, ...] = ()
    variants: tuple[VariantReport, ...] = ()


def check_stored(
    lab: Lab,
    records: Mapping[str, Record],
    plans: Mapping[str, Plan],
    request: PromotionRequest,
    shares: Sequence[float] | None,
    chain: Chain | None = None,
) -> list[Gate]:
    """The gates that look only at what the lab holds."""
    listed = list(records.values())
    known = StudyTables(load_runs(lab), load_cells(lab), load_ledger(lab.ledger))
    gates = [
        folds_gate(records),
        champion_gate(lab, listed, request.blend, shares, request.alias, chain),
        leaderboard_gate(known, listed[0]),
        range_gate(lab, plans),
        licence_gate(list(plans.values())),
    ]
    return gates + ([line_gate(plans, request.soup)] if request.weights == "averaged" else [])


def check_tried(tried: Tried) -> list[Gate]:
    """The gates of the file and of the models in it, as far as they were tried."""
    gates = parity_gates(tried.parity) if tried.parity else []
    gates += [reproduction_gate(tried.reproduced)] if tried.reproduced else []
    gates += [budget_gate(tried.costs)] if tried.costs is not None else []
    gates += [agreement_gate(tried.agreements)] if tried.agreements else []
    gates += [soup_gate(tried.soups)] if tried.soups else []
    return gates + [variant_gate(report) for report in tried.variants]


def list_waiting(tried: Tried, request: PromotionRequest, command: str) -> list[Gate]:
    """The gates that nothing was tried for yet, without evidence; `command` brings it."""
    names = [] if tried.parity else [PARITY, BATCH]
    names += [] if tried.reproduced else [REPRODUCED]
    names += [BUDGET] if tried.costs is None else []
    names += [AGREEMENT] if request.weights != "folds" and not tried.agreements else []
    names += [SOUPED] if request.weights == "averaged" and not tried.soups else []
    judged = {report.variant.name for report in tried.variants}
    variants = [name for name in request.variants if name not in judged]
    waits = dict.fromkeys((AGREEMENT, SOUPED), "waits for the models to deploy")
    gates = [
        Gate(name, "no evidence", waits.get(name, "waits for the export"), WANTED[name], command)
        for name in names
    ]
    wanted = f"at most {request.gate:g} apart"
    return gates + [
        Gate(f"variant {name}", "no evidence", "waits for the export", wanted, command)
        for name in variants
    ]


def parity_gates(reports: Sequence[ParityReport]) -> list[Gate]:
    """Whether files say what the trained models say, blend and members, and in any batch."""
    found = max((_worst_case(report) for report in reports), key=lambda case: case[0])
    alone = max(reports, key=lambda r: r.batch_invariance)
    fix = "do not deploy it; report the backbone and the versions of torch and onnx"
    return [
        _at_most(PARITY, *found, fix),
        _at_most(BATCH, alone.batch_invariance, f", {alone.n_windows} windows", fix),
    ]


def _worst_case(report: ParityReport) -> tuple[float, str]:
    """The largest difference of a file from its models, and in words where."""
    cases = {(case, ""): value for case, value in report.by_case.items()}
    for member, own in report.by_member.items():
        cases |= {(case, f" of {member}"): value for case, value in own.items()}
    case, member = max(cases, key=lambda key: cases[key])
    return cases[case, member], f" on {case}{member}, {count_words(len(cases), 'case')}"


def _at_most(name: str, difference: float, told: str, fix: str) -> Gate:
    state: State = "met" if difference <= TOLERANCE else "not met"
    return Gate(name, state, f"{difference:.1e}{told}", WANTED[name], fix)


def reproduction_gate(found: Mapping[str, Reproduction]) -> Gate:
    """Whether exported fold models score held-out recordings as the trained ones did."""
    told = "; ".join(
        f"{run} {r.score_torch:.4f}, again {r.score_onnx:.4f}, windows {r.largest:.1e} apart"
        for run, r in found.items()
    )
    state: State = "met" if all(r.passed for r in found.values()) else "not met"
    if not all(r.largest <= TOLERANCE for r in found.values()):
        fix = "outputs of another machine or other versions are not these: train the run anew here"
    else:
        fix = "windows agree and near ties move the score: train longer, or force it"
    return Gate(REPRODUCED, state, told, WANTED[REPRODUCED], fix)


def budget_gate(costs: Costs) -> Gate:
    """Whether all soundscapes of the competition are predicted in time."""
    state: State = "met" if costs.needed_minutes <= costs.limit_minutes else "not met"
    told = (
        f"{costs.predicted_minutes:.1f} min on {count_words(costs.cores, 'core')}, "
        f"{costs.needed_minutes:.1f} with its margin"
    )
    fix = "birdlab budget RUN... shows what fits: promote fewer runs or smaller backbones"
    return Gate(BUDGET, state, told, f"at most {costs.limit_minutes:g} min", fix)


def agreement_gate(found: Sequence[Agreement]) -> Gate:
    """Whether models without a held-out recording order sound as the fold models do.

    Agreement on training recordings, where soundscapes cannot tell, is a notice: the deployed
    model has seen them all, so it says that training went well and little of other sound.
    """
    wanted = WANTED[AGREEMENT]
    lacks = [a.lack for a in found if a.lack]
    if lacks:
        return Gate(AGREEMENT, "no evidence", "; ".join(lacks), wanted, MORE_SOUND)
    told = "; ".join(map(str, found))
    if not all(a.passed for a in found):
        return Gate(AGREEMENT, "not met", told, wanted, FOLDS_INSTEAD)
    state: State = "notice" if any(a.seen for a in found) else "met"
    return Gate(AGREEMENT, state, told, wanted, MORE_SOUND)


def variant_gate(report: VariantReport) -> Gate:
    """Whether a form of the file scores held-out recordings as fp32 does.

    One that does not refuses no promotion: it stays in the list as failed, and is taken only by
    force.
    """
    gain = report.fp32_ms_per_window / report.ms_per_window
    told = f"{report.difference:+.5f}, {gain:.2f} times as fast"
    name, wanted = f"variant {report.variant.name}", f"at most {report.threshold:g} apart"
    if report.passed:
        return Gate(name, "met", told, wanted)
    fix = f"without --variant {report.variant.name}, or another --gate"
    return Gate(name, "notice", f"failed: {told}; predict refuses it", wanted, fix)


def refuse(gates: Sequence[Gate], request: PromotionRequest) -> None:
    """Raise PromotionError for gates that refuse, unless the promotion is forced."""
    against = [gate for gate in gates if gate.state in ("not met", "no evidence")]
    if not against or request.force:
        return
    raise PromotionError(
        f"the promotion is refused by {count_words(len(against), 'gate')}",
        got="; ".join(f"{gate.name}: {gate.state} ({gate.number})" for gate in against),
        expected="every gate met, or a notice",
        fix='see the table for what brings each; or: --force --reason "..."',
    )
