"""From finished runs to a promoted model: one ONNX file, proven, timed, registered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PromotionError
from birdlab.evaluate.blends import MEAN, Blend
from birdlab.infer.models import CARD_FILE, MODEL_FILE
from birdlab.infer.session import OnnxPredictor
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.promote.aliases import move_alias
from birdlab.promote.export import ExportInfo, Member, build_reference, export_ensemble
from birdlab.promote.history import check_alias
from birdlab.promote.members import collect_members, plan_of, real_windows
from birdlab.promote.parity import ParityReport, check_parity, save_parity
from birdlab.record import environment
from birdlab.spec.competition import CompetitionSpec
from birdlab.spec.identity import digest
from birdlab.tracking.index import load_link

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Promotion:
    """A model that may be deployed: its file, the proof, its cost, its place in the registry.

    seconds_per_window: on one thread; predicted_minutes: for all soundscapes of the
    competition on one thread, against its limit; registered: `models:/name@alias` and
    version, or None when it was not registered.
    """

    name: str
    path: Path
    alias: str
    export: ExportInfo
    parity: ParityReport
    seconds_per_window: float
    predicted_minutes: float
    limit_minutes: float
    registered: tuple[str, str] | None


def promote_runs(
    lab: Lab,
    records: Sequence[Mapping[str, Any]],
    *,
    alias: str = "champion",
    blend: Blend = MEAN,
    weights: Sequence[float] | None = None,
    register: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """The promoted model of some runs, given by their records: all their fold and seed models.

    Columns are the scored classes of the first run. The file lies in the lab's models folder,
    so prediction needs neither MLflow nor the cells; `weights` holds one weight per run,
    shared by its models. Models are exported, proven against torch on real and odd windows,
    timed, registered, and only then does the alias move. Raises PromotionError.
    """
    _check_request(records, alias, weights)
    plans = [plan_of(lab, record) for record in records]
    members, shares = collect_members(lab, plans, weights)
    classes = plans[0].data.classes.codes
    name = digest([_says(m) for m in members] + [str(blend), shares])
    candidate = lab.models / f".{name}.onnx"
    progress(f"exporting {len(members)} models")
    export = export_ensemble(
        members,
        candidate,
        classes=classes,
        metadata=_lineage(records, plans),
        blend=blend,
        weights=shares,
    )
    progress("checking it against torch")
    try:
        reference = build_reference(members, classes, blend=blend, weights=shares)
        windows = real_windows(lab, plans[0])
        parity = check_parity(candidate, reference, windows)
        seconds = time_windows(candidate, windows)
        path = lab.models / name / MODEL_FILE
        path.parent.mkdir(exist_ok=True)
        candidate.replace(path)
    finally:
        candidate.unlink(missing_ok=True)
    export = replace(export, path=path)
    registered = None
    if register:
        progress("registering it in MLflow")
        registered = _register(lab, records, export, plans[0].spec.competition, alias, name)
    promotion = Promotion(
        name=name,
        path=path,
        alias=alias,
        export=export,
        parity=parity,
        seconds_per_window=seconds,
        predicted_minutes=predict_minutes(seconds, plans[0].spec.competition),
        limit_minutes=plans[0].spec.competition.cpu_minutes,
        registered=registered,
    )
    _save_card(lab, promotion, records)
    return promotion


def predict_minutes(seconds_per_window: float, competition: CompetitionSpec) -> float:
    """The minutes that all soundscapes of a competition take, windows alone."""
    per_file = -(-competition.soundscape_s // competition.window_s)
    return competition.n_soundscapes * per_file * seconds_per_window / 60


def time_windows(path: Path, windows: Floats) -> float:
    """Seconds per window on one thread: the fastest of three batches, after one to warm up."""
    predictor = OnnxPredictor(path, threads=1)
    batch = windows[:8]
    predictor(batch)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predictor(batch)
        seconds.append(time.perf_counter() - began)
    return min(seconds) / len(batch)


def _says(member: Member) -> list[object]:
    """What the outputs of a member depend on besides its share."""
    around = [] if member.context_s is None else [member.context_s]
    return [member.name, member.clip, member.time_max, *around]


def _check_request(
    records: Sequence[Mapping[str, Any]], alias: str, weights: Sequence[float] | None
) -> None:
    if not records:
        raise PromotionError("there is no run to promote", fix="birdlab promote RUN")
    ids = [record["spec_id"] for record in records]
    if len(set(ids)) < len(ids):
        raise PromotionError("a run is named twice", got=", ".join(ids))
    if weights is not None and len(weights) != len(records):
        raise PromotionError("give one weight per run", got=f"{len(weights)} for {len(records)}")
    check_alias(alias)


def _lineage(records: Sequence[Mapping[str, Any]], plans: Sequence[Plan]) -> dict[str, str]:
    """What the ONNX file says of where it comes from."""
    return {
        "competition": plans[0].spec.competition.name,
        "spec_ids": json.dumps([record["spec_id"] for record in records]),
        "runs": json.dumps([record["name"] for record in records]),
        "data": json.dumps(
            sorted({n for p in plans for n in (p.spec.data.base, *p.spec.data.extra)})
        ),
        "licence": "Weights learned from recordings under licences of their own: see the data "
        "sets named here before you share or sell this model.",
        **{f"promoted_{key}": value for key, value in environment().items()},
    }


def _register(
    lab: Lab,
    records: Sequence[Mapping[str, Any]],
    export: ExportInfo,
    competition: CompetitionSpec,
    alias: str,
    name: str,
) -> tuple[str, str]:
    from birdlab.promote.registry import register_model

    link = load_link(lab, records[0]["spec_id"])
    if "parent" not in link:
        raise PromotionError(
            "the run is not in MLflow, so its model has no place there",
            where=records[0]["name"] or records[0]["spec_id"],
            fix="run the experiment again with MLflow (nothing is trained), or: --no-register",
        )
    registered = register_model(
        export.path,
        export.card,
        tracking_uri=lab.tracking_uri,
        name=competition.name,
        run_id=link["parent"],
        tags={
            "birdlab.model": name,
            "birdlab.spec_ids": ",".join(record["spec_id"] for record in records),
            "birdlab.sha256": export.sha256,
            "birdlab.members": str(export.n_members),
        },
    )
    return f"models:/{registered.name}@{alias}", registered.version


def _save_card(lab: Lab, promotion: Promotion, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the card of the model, then move the alias to it."""
    card = {
        "model": promotion.name,
        "spec_ids": [record["spec_id"] for record in records],
        "classes": list(promotion.export.card.classes),
        "n_members": promotion.export.n_members,
        "sha256": promotion.export.sha256,
        "parity": {**promotion.parity.by_case, "in a batch": promotion.parity.batch_invariance},
        "seconds_per_window": promotion.seconds_per_window,
        "predicted_minutes": promotion.predicted_minutes,
        "limit_minutes": promotion.limit_minutes,
        "registered": promotion.registered,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_whole(lab.models / promotion.name / CARD_FILE, json.dumps(card, indent=1))
    save_parity(promotion.parity, lab.models / promotion.name)
    for alias in dict.fromkeys(("candidate", promotion.alias)):
        move_alias(lab, alias, promotion.name, why="promoted")
