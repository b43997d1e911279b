"""What MLflow shall say of a run: its parameters, tags, metrics, files. Nothing is written here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from birdlab.evaluate.score import APART, SOUNDSCAPES, SYNTHETIC, chosen_sentence
from birdlab.lab import Lab
from birdlab.runresult import RunResult
from birdlab.spec.diff import flatten, title_of
from birdlab.spreadsheets import csv_text

MAX_PARAMS = 15
Record = Mapping[str, Any]

_SHOWN = (
    "model.backbone",
    "model.weights",
    "train.window_s",
    "train.length.epochs",
    "train.length.steps",
    "train.batch",
    "train.optimizer.kind",
    "train.optimizer.lr",
    "train.loss.kind",
    "train.sampler.kind",
    "data.base",
    "data.folds.kind",
)
_CHILD_METRICS = ("padded_cmap", "macro_auc", "top1", "floor", "n_rows", "n_classes", "seconds")
_CURVES = ("loss", "lr", "clips_per_s")


def parent_params(result: RunResult, record: Record) -> dict[str, str]:
    """At most MAX_PARAMS: what differs from the base first, then what everyone asks for."""
    flat = flatten(result.spec)
    keys = [*record["delta"], *_SHOWN]
    shown = {key: flat[key] for key in keys if flat.get(key) is not None}
    return {k: str(v)[:500] for k, v in list(shown.items())[:MAX_PARAMS]}


def parent_metrics(record: Record) -> dict[str, float]:
    """The scores of a run with the rows and classes they are over; none for a stopped one."""
    counts = {key: float(record["evaluation"][key]) for key in ("n_rows", "n_classes")}
    scores = {k: float(v) for k, v in record["scores"].items() if v is not None}
    return {k: v for k, v in {**scores, **counts}.items() if math.isfinite(v)}


def parent_tags(result: RunResult, record: Record) -> dict[str, str]:
    """Where a run belongs and what it was made of; what does not apply is "" and not written."""
    evaluation, delta, cells = record["evaluation"], record["delta"], result.cells
    devices = cells.get("device", ())
    return {
        "birdlab.kind": "run",
        "spec_id": result.spec_id,
        "mlflow.runName": record["name"] or result.spec_id,
        "mlflow.source.name": "birdlab",
        "mlflow.note.content": _note(result, record),
        "delta": title_of(delta),
        "sweeps": ",".join(sorted(record["sweeps"])),
        "folds": ",".join(map(str, evaluation["folds"])) or "none",
        "seeds": ",".join(map(str, evaluation["seeds"])),
        "classes_hash": evaluation["classes_hash"],
        "rows_hash": evaluation["rows_hash"],
        "soundscapes_hash": evaluation.get("soundscapes_hash", ""),
        "synthetic_hash": evaluation.get("synthetic_hash", "")[:4000],
        "chosen": record.get("chosen", ""),
        "stopped_at": record.get("stopped_at", ""),
        "hardware": ", ".join(sorted({str(d) for d in devices})),
        "cells": ",".join(cells["cell_id"])[:4000] if len(cells) else "",
        **record.get("environment", {}),
    }


def run_files(lab: Lab, result: RunResult) -> dict[str, str]:
    """Small files of a run by name: its spec, where its outputs lie, scores per species."""
    files = {
        "spec.yaml": _yaml(result.spec.model_dump(mode="json")),
        "stored_outputs.json": json.dumps(_places(lab, result.cells), indent=2),
    }
    if len(result.classes):
        files["classes.csv"] = csv_text(result.classes)
    return files


def child_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The scores of one cell."""
    heard = (SOUNDSCAPES, SYNTHETIC)
    beside = (key for key in row if key.endswith(APART) or key.startswith(heard))
    wanted = dict.fromkeys((*_CHILD_METRICS, *beside))
    found = {k: float(row[k]) for k in wanted if row.get(k) is not None and k != SYNTHETIC + "id"}
    return {k: v for k, v in found.items() if math.isfinite(v)}


def curve_points(curves: pd.DataFrame, n_stages: int) -> list[tuple[str, float, int]]:
    """(name, value, epoch) of the curves of a cell and of what it started from."""
    points: list[tuple[str, float, int]] = []
    if curves.empty:
        return points
    for stage, part in curves.groupby("stage", sort=False):
        prefix = "" if n_stages == 1 else f"{stage}/"
        for row in part.to_dict("records"):
            at = int(row["epoch"])
            points += [(prefix + key, float(row[key]), at) for key in _CURVES if key in row]
    return [point for point in points if math.isfinite(point[1])]


def fold_text(fold: Any) -> str:
    """A fold as text: its number, `all` where a cell trained on all data."""
    return "all" if fold is None or fold != fold else str(int(fold))


def to_ms(moment: str) -> int:
    """Milliseconds since 1970 of a date and time in ISO form."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _note(result: RunResult, record: Record) -> str:
    chosen = chosen_sentence(record.get("chosen", ""))
    stopped = record.get("stopped_at", "")
    said = f"Stopped by a race: {stopped}" if stopped else ""
    parts = [f"**{title_of(record['delta'])}**", said, chosen]
    return "\n\n".join(p for p in (*parts, result.spec.notes, result.spec.expect) if p)


def _places(lab: Lab, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Where the outputs of each scored cell lie, as the lab names paths."""
    return [
        {
            "fold": row["fold"]
            if row["fold"] is None or row["fold"] != row["fold"]
            else int(row["fold"]),
            "seed": int(row["seed"]),
            "cell": str(lab.name_path(lab.cells / row["cell_id"])),
        }
        for row in cells.to_dict("records")
    ]


def _yaml(value: Any) -> str:
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, stream)
    return stream.getvalue()
