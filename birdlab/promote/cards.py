"""A proven file put in its place: registered in MLflow, its card written, the alias moved last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from birdlab.environment import environment
from birdlab.errors import PromotionError, TrackingError
from birdlab.infer.models import CARD_FILE, load_promoted
from birdlab.lab import write_whole
from birdlab.promote.aliases import Tell, move_alias
from birdlab.promote.case import Case
from birdlab.promote.gates import Tried
from birdlab.promote.graphs import Graph
from birdlab.promote.parity import ParityReport, save_parity
from birdlab.study.ensemble_gates import Gate
from birdlab.tracking.client import connect
from birdlab.tracking.index import load_link


def check_tracked(case: Case) -> None:
    """Raise PromotionError where MLflow is away or lacks the first run: its model belongs there."""
    run = case.spec_ids[0]
    try:
        connect(case.lab)
    except TrackingError as error:
        raise PromotionError(
            "MLflow cannot be used, and the model would be registered there",
            where=error.where,
            got=error.got,
            fix="promote again when it is there, or: --no-register",
        ) from None
    if "parent" not in load_link(case.lab, run):
        raise PromotionError(
            "the run is not in MLflow, so its model has no place there",
            where=next(iter(case.records)),
            fix="run the experiment again with MLflow (nothing is trained), or: --no-register",
        )


def register(case: Case, graph: Graph, name: str) -> tuple[str, str]:
    """The address and the version of the file in MLflow's Model Registry; PromotionError."""
    from birdlab.promote.registry import register_model

    check_tracked(case)
    registered = register_model(
        graph.export.path,
        graph.export.card,
        tracking_uri=case.lab.tracking_uri,
        name=case.first.spec.competition.name,
        run_id=load_link(case.lab, case.spec_ids[0])["parent"],
        tags=registry_tags(case, graph, name),
    )
    return f"models:/{registered.name}@{case.request.alias}", registered.version


def known_version(case: Case, graph: Graph, name: str) -> tuple[str, str] | None:
    """Where the very same file was registered before, by the card that it has in the lab."""
    if not (case.lab.models / name / CARD_FILE).is_file():
        return None
    card = load_promoted(case.lab.models, name).card
    same = card.get("sha256") == graph.export.sha256
    return tuple(card["registered"]) if same and card.get("registered") else None


def registry_tags(case: Case, graph: Graph, name: str) -> dict[str, str]:
    """Where a version comes from: runs, data, code, file, and why it was forced."""
    data = {d["name"]: d["digest"] for r in case.records.values() for d in r.get("data", ())}
    place = environment()
    tags = {
        "birdlab.model": name,
        "birdlab.spec_ids": ",".join(case.spec_ids),
        "birdlab.runs": ",".join(case.records),
        "birdlab.data": ",".join(f"{name} {digest}" for name, digest in sorted(data.items())),
        "birdlab.weights": case.request.weights,
        "birdlab.sha256": graph.export.sha256,
        "birdlab.members": str(graph.export.n_members),
        "birdlab.git_commit": place.get("git_commit", ""),
        "birdlab.git_dirty": place.get("git_dirty", ""),
        "birdlab.forced": case.request.reason if case.request.force else "",
    }
    return {key: text[:4000] for key, text in tags.items() if text}


def build_card(
    case: Case,
    graph: Graph,
    name: str,
    gates: Sequence[Gate],
    tried: Tried,
    registered: tuple[str, str] | None,
    lengths: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What card.json says of a model: what it is made of, what was shown, what it costs."""
    request, place, parity = case.request, environment(), tried.parity[-1]
    refused = [gate.name for gate in gates if gate.state in ("not met", "no evidence")]
    return {
        "model": name,
        "spec_ids": case.spec_ids,
        "runs": list(case.records),
        "classes": list(graph.export.card.classes),
        "n_members": graph.export.n_members,
        "members": [asdict(member) for member in graph.export.card.members],
        "weights": request.weights,
        "trained_on_all_data": {run: list(told) for run, told in lengths.items()},
        "blend": str(request.blend),
        "blending": {
            "kind": request.blend.kind,
            "power": request.blend.power,
            "shares": None if case.shares is None else list(case.shares),
            "told": list(case.told),
        },
        "postprocess": list(case.chain.steps),
        "hop_s": case.chain.hop_s,
        "score": case.score,
        "sha256": graph.export.sha256,
        "parity": {**parity.by_case, "in a batch": parity.batch_invariance},
        "reproduced": {
            run: {
                "score_torch": found.score_torch,
                "score_onnx": found.score_onnx,
                "largest": found.largest,
                "n_windows": found.n_windows,
            }
            for run, found in tried.reproduced.items()
        },
        **({"soup": request.soup} if request.weights == "averaged" else {}),
        **({"soup_scores": [asdict(found) for found in tried.soups]} if tried.soups else {}),
        "agreement": [asdict(found) for found in tried.agreements],
        "variants": {report.variant.name: report.judged.state for report in tried.variants},
        "gates": [asdict(gate) for gate in gates],
        **({} if tried.costs is None else asdict(tried.costs)),
        "registered": registered,
        "forced": bool(refused) and request.force,
        "reason": request.reason if refused else "",
        "forced_gates": refused if request.force else [],
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": place.get("git_commit", ""),
        "dirty": place.get("git_dirty", ""),
    }


def publish(
    case: Case, graph: Graph, card: Mapping[str, Any], parity: ParityReport, say: Tell
) -> None:
    """Write card and parity report beside the file, then move the aliases: the asked one last."""
    folder, request = graph.export.path.parent, case.request
    write_whole(folder / CARD_FILE, json.dumps(card, indent=1))
    save_parity(parity, folder)
    why = f"promoted by force: {request.reason}" if card["forced"] else "promoted"
    for alias in dict.fromkeys(("candidate", request.alias)):
        move_alias(case.lab, alias, graph.name, why=why, tell=say)
