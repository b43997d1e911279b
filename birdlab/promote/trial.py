"""What is tried of the file of a promotion: parity, scores, agreement, cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.passes import find_windows
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.windows import batch_windows
from birdlab.infer.budget import predict_minutes
from birdlab.infer.session import open_predictor
from birdlab.plan import Plan, Progress
from birdlab.promote.agreement import (
    Agreement,
    Sounds,
    agree,
    cut_sounds,
    find_sounds,
    training_sounds,
)
from birdlab.promote.budget import workload_of
from birdlab.promote.case import Case
from birdlab.promote.export import build_reference, build_roads, write_card
from birdlab.promote.gates import Costs
from birdlab.promote.graphs import Graph
from birdlab.promote.machines import measure_model
from birdlab.promote.members import real_windows
from birdlab.promote.parity import ParityReport, check_parity
from birdlab.promote.reproduce import score_exported
from birdlab.promote.reproduction import Reproduction
from birdlab.promote.soups import count_deployed
from birdlab.promote.variant_report import VariantReport
from birdlab.promote.variants import build_variant, judge_variant, list_variants

Floats = npt.NDArray[np.float32]
BATCH = 16
CORES = 2
"""Of the machine that a competition gives."""


def prove(case: Case, graph: Graph, windows: Floats) -> ParityReport:
    """How far the file lies from its models in torch, on real windows and odd ones."""
    classes = case.first.data.classes.codes
    reference = build_reference(
        graph.members, classes, blend=case.request.blend, weights=graph.shares
    )
    roads = build_roads(graph.members, classes)
    return check_parity(graph.export.path, reference, windows, members=roads, strict=False)


def reproduce(case: Case, folds: Graph, progress: Progress) -> dict[str, Reproduction]:
    """What the file of the fold models says of held-out recordings, against what was stored."""
    predictor = open_predictor(folds.export.path, threads=1)
    return {
        name: score_exported(case.lab, plan, predictor, progress=progress)
        for name, plan in case.plans.items()
    }


def judge_variants(
    case: Case, folds: Graph, windows: Floats, progress: Progress
) -> tuple[VariantReport, ...]:
    """What each requested form of the file does to the out-of-fold scores of the fold models."""
    return tuple(
        judge_variant(
            case.lab,
            case.plans,
            folds.export.path,
            build_variant(name, folds.export.path, case.lab, case.plans.values()),
            windows=windows,
            threshold=case.request.gate,
            progress=progress,
        )
        for name in case.request.variants
    )


def add_variants(
    case: Case, graph: Graph, reports: Sequence[VariantReport], fulls: Mapping[str, Plan]
) -> None:
    """The forms of the deployed file beside it, in a list with what was found of each.

    `fulls`: by the names of runs, what was trained on all data for it; what the fold models of a
    run left in fp32 is in fp32 there too.
    """
    if not reports:
        return
    plans = [*case.plans.values(), *fulls.values()]
    for report in reports:
        left = dict(report.fp32_blocks)
        for run, full in fulls.items():
            left[full.spec_id] = left.get(case.plans[run].spec_id, ())
        build_variant(report.variant.name, graph.export.path, case.lab, plans, fp32_blocks=left)
    list_variants(graph.export.path.parent, [report.judged for report in reports])


def windows_of(case: Case) -> Floats:
    """Real inputs to try files on: [n, samples] of the first run's data, the longest of any run."""
    each = [build_windowing(plan.spec, plan.sample_rate_hz) for plan in case.plans.values()]
    longest = max(each, key=lambda windowing: windowing.input_samples)
    return real_windows(case.lab, case.first, windowing=longest)


@dataclass(frozen=True, eq=False)
class Heard:
    """A sound on which the fold models of a run were asked, and what each said: [W, C] each."""

    sounds: Sounds
    folds: tuple[Floats, ...]
    passed_over: str = ""

    def judge(self, run: str, full: Floats | None = None) -> Agreement:
        """How the model on all data agrees; without it, whether this sound can tell."""
        return agree(run, full, self.folds, self.sounds, self.passed_over)


def hear_folds(case: Case, folds: Graph) -> dict[str, Heard]:
    """For each run the sound on which its deployed model will be compared with its fold models.

    Soundscapes, or where these models do not agree with each other there, training recordings.
    Nothing of the deployed models is needed, so what lacks evidence is known before training.
    """
    own = find_sounds(case.lab, case.first, case.request.soundscapes)
    said = _hear(folds, own, [i for places in folds.places.values() for i in places])
    heard = {}
    for name, places in folds.places.items():
        found = Heard(own, tuple(said[i] for i in places))
        lack = found.judge(name).lack
        if lack and len(places) > 1:
            sounds = training_sounds(case.plans[name])
            again = _hear(folds, sounds, places)
            found = Heard(sounds, tuple(again[i] for i in places), lack)
        heard[name] = found
    return heard


def lacking_agreements(heard: Mapping[str, Heard]) -> tuple[Agreement, ...]:
    """Those of runs for which no sound can tell, whatever is trained."""
    found = [one.judge(name) for name, one in heard.items()]
    return tuple(agreement for agreement in found if agreement.lack)


def agree_models(heard: Mapping[str, Heard], full: Graph) -> tuple[Agreement, ...]:
    """How deployed models order unlabelled sound, against the fold models of their run.

    Several of one run, as a soup over folds or seeds gives, are asked as their mean.
    """
    found = []
    for name, one in heard.items():
        said = _hear(full, one.sounds, full.places[name])
        found.append(one.judge(name, np.mean(list(said.values()), axis=0)))
    return tuple(found)


def _hear(graph: Graph, sounds: Sounds, wanted: Sequence[int]) -> dict[int, Floats]:
    """What each wanted member of a file says of windows of a sound: [W, C] each, by its place."""
    predictor, card = open_predictor(graph.export.path, threads=1), graph.export.card
    n_windows: list[int] = []

    def inputs() -> Iterator[Floats]:
        for heard, n in cut_sounds(sounds, card.windowing):
            n_windows.append(n)
            yield heard

    parts = [predictor.member_probs(some, wanted) for some in batch_windows(inputs(), BATCH)]
    none = np.zeros((0, len(card.classes)), np.float32)
    rows = find_windows(n_windows, card.windows_per_pass)
    return {
        m: np.concatenate([none, *(part[k] for part in parts)])[rows] for k, m in enumerate(wanted)
    }


def measure(case: Case, folds: Graph) -> Costs:
    """What the deployed models cost on this machine, by the times of the fold models.

    One model of each run is deployed, unless it is all of them or several means of them, and those
    of a run take equal time, so this is known before anything is trained.
    """
    competition = case.first.spec.competition
    machine = measure_model(case.lab, folds.export.path, cores=CORES)
    members = [
        i
        for name, places in folds.places.items()
        for i in places[: count_deployed(case.plans[name], case.request)]
    ]
    workload = workload_of(competition, case.chain.hop_s)
    line = predict_minutes(machine, workload, members, cores=CORES)
    ms = machine["mel_ms_per_window"] + sum(machine["members"][i]["ms_per_window"] for i in members)
    return Costs(
        float(machine["crowding"] * ms),
        line.total_minutes,
        line.needed_minutes,
        line.limit_minutes,
        CORES,
        {
            name: float(np.mean([machine["members"][i]["ms_per_window"] for i in places]))
            for name, places in folds.places.items()
        },
    )


def note_times(graph: Graph, costs: Costs | None) -> Graph:
    """The same file, whose card says how long each member takes, where that was measured.

    By that a deadline knows which of equal members comes first, and what the next one will take.
    """
    if costs is None:
        return graph
    times = {i: costs.run_ms[run] for run, places in graph.places.items() for i in places}
    card = graph.export.card
    members = tuple(
        replace(member, ms_per_window=round(times[i], 2)) for i, member in enumerate(card.members)
    )
    return replace(graph, export=write_card(graph.export, replace(card, members=members)))
