"""The ONNX file of a promotion: which models it is made of, what it says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from birdlab.environment import environment
from birdlab.infer.models import MODEL_FILE, hash_model
from birdlab.plan import Plan
from birdlab.promote.case import Case
from birdlab.promote.export import (
    ExportInfo,
    Member,
    average_members,
    export_ensemble,
    renew_norms,
)
from birdlab.promote.members import Floats, collect_members, real_windows
from birdlab.promote.soups import group_models
from birdlab.promote.storedgates import licence_kinds, training_licences
from birdlab.spec.identity import digest

N_NORM_WINDOWS = 128
"""Windows that the batch norms of averaged weights are made from."""
MOST = 1 - 1e-6
"""The most that a share of training rows counts as a probability."""


@dataclass(frozen=True, eq=False)
class Graph:
    """An exported file with the models it is made of: those of each run, by their places in it."""

    export: ExportInfo
    members: tuple[Member, ...]
    shares: tuple[float, ...]
    places: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """The folder it lies in, which is its name once it is in its place."""
        return self.export.path.parent.name


def fold_members(case: Case) -> dict[str, list[Member]]:
    """The fold and seed models of each run."""
    return {name: members_of(case, plan) for name, plan in case.plans.items()}


def members_of(case: Case, plan: Plan) -> list[Member]:
    """The models of the last stage of a plan."""
    return collect_members(case.lab, plan)


def averaged_members(case: Case, folder: Path) -> dict[str, list[Member]]:
    """For each run the means of the weights of its fold and seed models, as `soup` asks for them.

    Their batch norms are made anew on windows of the run's recordings.
    """
    averaged = {}
    for name, members in fold_members(case).items():
        windows = real_windows(case.lab, case.plans[name], N_NORM_WINDOWS)
        groups = group_models(members, case.request.soup)
        averaged[name] = [_average(group, folder, windows) for group in groups]
    return averaged


def _average(members: Sequence[Member], folder: Path, windows: Floats) -> Member:
    """The mean of some models, with the fold and the seed that they have in common."""
    called = digest(["averaged", *(member.name for member in members)])
    weights = average_members(
        [member.weights for member in members], folder / f"{called}.safetensors"
    )
    folds, seeds = {m.fold for m in members}, {m.seed for m in members}
    one = replace(
        members[0],
        name=called,
        weights=weights,
        fold=folds.pop() if len(folds) == 1 else None,
        seed=seeds.pop() if len(seeds) == 1 else None,
        learned="averaged",
    )
    renew_norms(one, windows)
    return one


def export_graph(
    case: Case, models: Mapping[str, Sequence[Member]], path: Path, metadata: Mapping[str, str]
) -> Graph:
    """The file of the models of each run; the share of a run is split evenly over its models.

    Raises PromotionError for models that do not fit together.
    """
    given = case.shares or [1.0] * len(models)
    shares = [s / len(own) for s, own in zip(given, models.values(), strict=True) for _ in own]
    members = [member for own in models.values() for member in own]
    export = export_ensemble(
        members,
        path,
        classes=case.first.data.classes.codes,
        metadata=metadata,
        blend=case.request.blend,
        weights=shares,
        hop_s=case.chain.hop_s,
    )
    places, n = {}, 0
    for name, own in models.items():
        places[name] = tuple(range(n, n + len(own)))
        n += len(own)
    return Graph(export, tuple(members), tuple(shares), places)


def name_graph(case: Case, graph: Graph) -> str:
    """The name of a model: of its members, their shares, the blend and post-processing.

    What predicts something else has another name, and so has another file of the same models (of
    another commit, say) than one that is there: no promotion changes a model in service.
    """
    blend, chain = case.request.blend, case.chain
    said = [blend.kind, *([blend.power] if blend.kind == "power" else [])]
    parts = [[_says(member) for member in graph.members], said, list(graph.shares)]
    if chain.steps:
        parts.append(list(chain.steps))
    if chain.hop_s is not None:
        parts.append({"hop_s": chain.hop_s})
    name = digest(parts)
    there = case.lab.models / name / MODEL_FILE
    if there.is_file() and hash_model(there) != graph.export.sha256:
        return digest([name, graph.export.sha256])
    return name


def place_graph(graph: Graph, folder: Path) -> Graph:
    """The file in a folder of its own, after all that lies beside it: weights, variants."""
    folder.mkdir(parents=True, exist_ok=True)
    path, data = graph.export.path, graph.export.data_path
    beside = [other for other in sorted(path.parent.iterdir()) if other != path]
    for file in (*beside, path):
        file.replace(folder / file.name)
    placed = folder / path.name, data and folder / data.name
    return replace(graph, export=replace(graph.export, path=placed[0], data_path=placed[1]))


def _says(member: Member) -> list[object]:
    """What the outputs of a member depend on besides its share."""
    around: list[object] = [] if member.context_s is None else [member.context_s]
    if member.windows_per_pass > 1:
        around.append(member.windows_per_pass)
    return [member.name, member.clip, member.time_max, *around]


def lineage(case: Case, lengths: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What the ONNX file says of where it comes from; `lengths`: of training on all data."""
    request, plans = case.request, list(case.plans.values())
    data = {d["name"]: d["digest"] for r in case.records.values() for d in r.get("data", ())}
    kinds = licence_kinds(training_licences(plans))
    told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    said: dict[str, Any] = {
        "spec_ids": case.spec_ids,
        "runs": list(case.records),
        "data": sorted(data) or sorted({p.spec.data.base for p in plans}),
        "data_digests": data,
        "metric": case.score,
        "prior": class_prior(case.first, case.first.data.classes.codes),
    }
    return {
        "competition": case.first.spec.competition.name,
        **{key: json.dumps(value) for key, value in said.items()},
        "weights": request.weights,
        **({"postprocess": json.dumps(list(case.chain.steps))} if case.chain.steps else {}),
        "trained_on_all_data": json.dumps({k: list(v) for k, v in lengths.items()}),
        "forced": request.reason if request.force else "",
        "licence": "Weights learned from recordings under licences of their own: see the data "
        "sets named here before you share or sell this model."
        + (f" Restricted: {told}." if told else ""),
        **{f"promoted_{key}": value for key, value in environment().items()},
    }


def class_prior(plan: Plan, codes: Sequence[str]) -> list[float]:
    """The share of the training rows that name each class, in [0, 1)."""
    table = plan.rows.table
    labels = zip(table["primary_label"], table["secondary_labels"], strict=True)
    named = Counter(code for first, others in labels for code in {first, *others})
    return [min(named[code] / max(1, len(table)), MOST) for code in codes]
