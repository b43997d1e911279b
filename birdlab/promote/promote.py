"""From finished runs to a promoted model: one ONNX file, proven, timed, registered."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from birdlab.errors import PromotionError
from birdlab.infer.models import MODEL_FILE
from birdlab.lab import Lab
from birdlab.plan import Progress
from birdlab.promote.aliases import Tell
from birdlab.promote.cards import build_card, check_tracked, known_version, publish, register
from birdlab.promote.case import Case, open_case
from birdlab.promote.export import ExportInfo
from birdlab.promote.fullweights import FullRun, Training, plan_full, train_full
from birdlab.promote.gates import (
    Costs,
    Tried,
    check_stored,
    check_tried,
    list_waiting,
    refuse,
)
from birdlab.promote.graphs import (
    Graph,
    averaged_members,
    export_graph,
    fold_members,
    lineage,
    members_of,
    name_graph,
    place_graph,
)
from birdlab.promote.parity import ParityReport
from birdlab.promote.request import PromotionRequest, promote_command
from birdlab.promote.soups import score_soups
from birdlab.promote.trial import (
    Floats,
    add_variants,
    agree_models,
    hear_folds,
    judge_variants,
    lacking_agreements,
    measure,
    note_times,
    prove,
    reproduce,
    windows_of,
)
from birdlab.study.ensemble_gates import Gate
from birdlab.timing import timed
from birdlab.words import count_words

Judged = Callable[[Sequence[Gate]], None]
AS_IT_COMES = PromotionRequest()
"""Full-data models, the mean of equals, registered as the champion."""


@dataclass(frozen=True)
class Promotion:
    """A model that may be deployed: its file, the proof, its cost, its place in the registry.

    registered: `models:/name@alias` and version, or None when it
    was not registered; gates: all that were looked at; lengths: of training on all data, in words
    by run.
    """

    name: str
    path: Path
    alias: str
    export: ExportInfo
    parity: ParityReport
    costs: Costs
    registered: tuple[str, str] | None
    gates: tuple[Gate, ...] = ()
    lengths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """What is known before anything is done: gates, lengths of training on all data in words by
    run, and in sentences how shares were fitted and what becomes of windows."""

    gates: tuple[Gate, ...]
    lengths: Mapping[str, tuple[str, ...]]
    told: tuple[str, ...]


def check_runs(
    lab: Lab, records: Sequence[Mapping[str, Any]], request: PromotionRequest
) -> Preview:
    """Every gate of a promotion as far as the lab tells it; nothing is trained or exported.

    Gates that wait for it have no evidence. Raises PromotionError.
    """
    case = open_case(lab, records, request)
    gates = _list_gates(case, _check_lab(case), Tried())
    lengths = {name: full.lengths for name, full in _plan_full(case).items()}
    return Preview(tuple(gates), lengths, (*case.told, *case.chain.told))


def promote_runs(
    lab: Lab,
    records: Sequence[Mapping[str, Any]],
    request: PromotionRequest = AS_IT_COMES,
    *,
    progress: Tell = lambda _: None,
    judged: Judged = lambda _: None,
    training: Training | None = None,
) -> Promotion:
    """The promoted model of some runs, given by their records.

    Columns are the scored classes of the first run. The fold models go through the same export as
    what is deployed and are its evidence. `judged` gets all gates once; where one refuses nothing
    is registered, no alias moves, and PromotionError is raised; what is refused before models are
    trained on all data trains none. The file lies in the lab's models folder, so prediction needs
    neither MLflow nor the cells. Raises PromotionError, and what training raises.
    """
    with timed("plan the runs"):
        case = open_case(lab, records, request)
    if request.register:
        check_tracked(case)
    for sentence in (*case.told, *case.chain.told):
        progress(sentence)
    stored, fulls = _check_lab(case), _plan_full(case)
    training = training or Training()
    lab.models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".promotion-", dir=lab.models) as place:
        folder, windows = Path(place), windows_of(case)
        graph, tried = _try_folds(case, folder, windows, training.step, progress)
        if request.weights != "folds":
            progress("asking the fold models about unlabelled sound")
            with timed("ask the fold models"):
                heard = hear_folds(case, graph)
            early = replace(tried, agreements=lacking_agreements(heard))
            _refuse_early(case, stored, early, judged)
            with timed("train, export what is deployed"):
                graph = _export_deployed(case, fulls, folder, training, progress)
            graph = note_times(graph, tried.costs)
            if request.weights == "averaged":
                progress("scoring soundscapes with the means of weights")
                tried = replace(tried, soups=score_soups(case, graph.members, graph.places))
            progress("checking the file against torch and the fold models")
            with timed("check what is deployed"):
                reports = (*tried.parity, prove(case, graph, windows))
                tried = replace(tried, parity=reports, agreements=agree_models(heard, graph))
        gates = _list_gates(case, stored, tried)
        judged(gates)
        refuse(gates, request)
        with timed("register and move the alias"):
            return _deploy(case, graph, gates, tried, fulls, progress)


def _try_folds(
    case: Case, folder: Path, windows: Floats, step: Progress, progress: Tell
) -> tuple[Graph, Tried]:
    """The fold models as one file, proven against torch and against what validation stored."""
    models = fold_members(case)
    progress(f"exporting {count_words(sum(map(len, models.values())), 'fold model')}")
    with timed("export the fold models"):
        graph = export_graph(case, models, folder / "folds" / MODEL_FILE, lineage(case, {}))
    progress("checking the file against torch")
    with timed("check the file against torch"):
        report = prove(case, graph, windows)
    progress("scoring held-out recordings with the file")
    with timed("score held-out recordings"):
        found = reproduce(case, graph, step)
    progress("measuring what a submission takes")
    with timed("measure a submission"):
        costs = measure(case, graph)
    graph = note_times(graph, costs)
    for name in case.request.variants:
        progress(f"judging {name} by out-of-fold scores")
    with timed(f"make and judge {len(case.request.variants)} variants"):
        variants = judge_variants(case, graph, windows, step)
    return graph, Tried((report,), found, costs, variants=variants)


def _check_lab(case: Case) -> list[Gate]:
    stored = (case.lab, case.records, case.plans, case.request, case.shares, case.chain)
    return check_stored(*stored)


def _list_gates(case: Case, stored: Sequence[Gate], tried: Tried) -> list[Gate]:
    """Those of the lab, those of what was tried, those that still wait."""
    command = promote_command(case.spec_ids, case.request)
    return [*stored, *check_tried(tried), *list_waiting(tried, case.request, command)]


def _refuse_early(case: Case, stored: Sequence[Gate], tried: Tried, judged: Judged) -> None:
    """Refuse before hours of training what is refused by what is known already."""
    try:
        refuse([*stored, *check_tried(tried)], case.request)
    except PromotionError:
        judged(_list_gates(case, stored, tried))
        raise


def _plan_full(case: Case) -> dict[str, FullRun]:
    """Each run on all data, by name; empty where the models of folds are deployed."""
    if case.request.weights != "full":
        return {}
    return {name: plan_full(case.lab, plan, name) for name, plan in case.plans.items()}


def _export_deployed(
    case: Case,
    fulls: Mapping[str, FullRun],
    folder: Path,
    training: Training,
    progress: Tell,
) -> Graph:
    """The file of the models that no fold holds anything out of: on all data, or averaged.

    Models on all data are trained, unless they are there.
    """
    if case.request.weights == "averaged":
        models = averaged_members(case, folder)
    else:
        models = {}
        for name, full in fulls.items():
            progress(f"{name} on all data: {'; '.join(full.lengths)}")
            models[name] = members_of(case, train_full(case.lab, full, training))
    progress(f"exporting {count_words(len(models), 'model')} to deploy")
    lengths = {name: full.lengths for name, full in fulls.items()}
    return export_graph(case, models, folder / "deployed" / MODEL_FILE, lineage(case, lengths))


def _deploy(
    case: Case,
    graph: Graph,
    gates: Sequence[Gate],
    tried: Tried,
    fulls: Mapping[str, FullRun],
    progress: Tell,
) -> Promotion:
    """Register the file, put it in its place with its card, and move the alias last.

    What fails before leaves the folder of the model, and so what is in service, as it was.
    """
    assert tried.costs is not None
    name, lengths = name_graph(case, graph), {run: full.lengths for run, full in fulls.items()}
    add_variants(case, graph, tried.variants, {run: full.plan for run, full in fulls.items()})
    registered = known_version(case, graph, name)
    if case.request.register:
        progress("registering it in MLflow")
        registered = register(case, graph, name)
    card = build_card(case, graph, name, gates, tried, registered, lengths)
    graph = place_graph(graph, case.lab.models / name)
    publish(case, graph, card, tried.parity[-1], progress)
    return Promotion(
        name=name,
        path=graph.export.path,
        alias=case.request.alias,
        export=graph.export,
        parity=tried.parity[-1],
        costs=tried.costs,
        registered=registered,
        gates=tuple(gates),
        lengths=lengths,
    )
