"""What is tried of the file of a promotion: parity, scores, agreement, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from birdlab.infer.budget import predict_minutes
from birdlab.infer.session import open_predictor
from birdlab.plan import Plan, Progress
from birdlab.promote.agreement import Agreement, agree, cut_sounds, find_sounds
from birdlab.promote.budget import workload_of
from birdlab.promote.case import Case
from birdlab.promote.export import build_reference, build_roads
from birdlab.promote.gates import Costs
from birdlab.promote.graphs import Graph
from birdlab.promote.machines import measure_model
from birdlab.promote.members import real_windows
from birdlab.promote.parity import ParityReport, check_parity
from birdlab.promote.reproduce import score_exported
from birdlab.promote.reproduction import Reproduction
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

    `fulls`: by the names of runs, what was trained on all data for it; a run whose fold models
    stayed in fp32 stays so there too.
    """
    if not reports:
        return
    plans = [*case.plans.values(), *fulls.values()]
    for report in reports:
        left = set(report.fp32_runs)
        left |= {full.spec_id for run, full in fulls.items() if case.plans[run].spec_id in left}
        build_variant(report.variant.name, graph.export.path, case.lab, plans, fp32_runs=left)
    list_variants(graph.export.path.parent, [report.judged for report in reports])


def windows_of(case: Case) -> Floats:
    """Real windows to try files on: [n, samples] of the first run's data."""
    return real_windows(case.lab, case.first)


def agree_models(case: Case, folds: Graph, full: Graph) -> tuple[Agreement, ...]:
    """How the models on all data order unlabelled sound, against the fold models of their run."""
    sounds = find_sounds(case.lab, case.first, case.request.soundscapes)
    windows = cut_sounds(sounds, full.export.card.windowing)
    heard = [_hear(graph, windows) for graph in (folds, full)]
    return tuple(
        agree(name, heard[1][full.places[name][0]], [heard[0][i] for i in places], sounds.source)
        for name, places in folds.places.items()
    )


def _hear(graph: Graph, windows: Floats) -> list[Floats]:
    """What each member of a file says of windows: [W, C] each."""
    predictor = open_predictor(graph.export.path, threads=1)
    wanted = range(predictor.n_members)
    parts = [
        predictor.member_probs(windows[i : i + BATCH], wanted)
        for i in range(0, len(windows), BATCH)
    ]
    return [np.concatenate([part[m] for part in parts]) for m in wanted]


def measure(case: Case, folds: Graph) -> Costs:
    """What the deployed models cost on this machine, by the times of the fold models.

    One model of each run is deployed unless it is all of them, and those of a run take equal time,
    so this is known before anything is trained.
    """
    competition = case.first.spec.competition
    machine = measure_model(case.lab, folds.export.path, cores=CORES)
    several = case.request.weights == "folds"
    members = [i for places in folds.places.values() for i in (places if several else places[:1])]
    line = predict_minutes(machine, workload_of(competition), members, cores=CORES)
    ms = machine["mel_ms_per_window"] + sum(machine["members"][i]["ms_per_window"] for i in members)
    return Costs(
        float(machine["crowding"] * ms),
        line.total_minutes,
        line.needed_minutes,
        line.limit_minutes,
        CORES,
    )
