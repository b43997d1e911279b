"""Foreign runs: models that birdlab did not train, by their out-of-fold predictions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdlab.cellfiles import CARD
from birdlab.environment import environment
from birdlab.errors import DataError
from birdlab.evaluate.estimators import Evidence, estimate_all
from birdlab.evaluate.outputs import StoredOutputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.score import FoldTable, fold_table, score_evidence, score_fold
from birdlab.infer.checksums import file_sha256
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.recorded import AS_IS
from birdlab.runtables import save_tables, tables_folder
from birdlab.spec.identity import SPEC_ID_CHARS, digest
from birdlab.upkeep.foreign_table import check_table, read_predictions


def import_foreign(
    lab: Lab,
    plan: Plan,
    oof: Path,
    name: str,
    *,
    like: str,
    onnx: Path | None = None,
    project: str = "foreign",
) -> dict[str, Any]:
    """The record of a foreign run, scored by birdlab's metrics on the rows of another run.

    oof: a Parquet or CSV table with a row per recording (and seed): `recording` as the lab names
    it, `fold`, `seed` (0 when it is left out), and one column of probabilities per class of the
    plan. Truth and estimators come from the plan, `like` is its run. Scores compare with those of
    that run when every fold holds the same recordings. The ONNX file is kept for later, and not
    looked into.
    Raises DataError for a table that does not fit, and for a model that cannot be copied.
    """
    table = check_table(plan, read_predictions(oof), str(oof))
    content = file_sha256(oof)
    run = digest({"foreign": content, "name": name, "like": like}, SPEC_ID_CHARS)
    kept = None if onnx is None else _keep_model(onnx, lab.stores / "foreign" / f"{run}.onnx")
    cells, tables = [], {}
    for (fold, seed), rows in table.groupby(["fold", "seed"]):
        stored, rows_id = _stored(plan, rows), _rows_id(plan, int(fold), rows)
        scored = fold_table(stored, AS_IS, plan.spec.evaluate)
        document = {"foreign": content, "name": name, "fold": int(fold), "seed": int(seed)}
        cell_id = digest(document)
        _save_cell(lab, cell_id, rows_id, stored, document)
        tables[int(fold), int(seed)] = scored
        cells.append(_cell_row(int(fold), int(seed), cell_id, rows_id, scored))
    said = {"oof": oof.name, "like": like, "onnx": kept, "secondary": plan.spec.evaluate.secondary}
    record = _record(plan, run, name, project, cells, tables) | {"foreign": said}
    save_tables(tables_folder(lab, run), {"recordings": _recordings(plan, table)})
    write_whole(lab.runs / f"{run}.json", json.dumps(record, indent=1))
    return record


def _keep_model(onnx: Path, target: Path) -> dict[str, str]:
    """What the record says of a model that was copied into the lab: its file and its content."""
    if not onnx.is_file():  # a pipe would be waited for without an end
        raise DataError("there is no such model", where=str(onnx), expected="an ONNX file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(onnx, target)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise DataError(
            "the model cannot be copied into the lab",
            where=str(onnx),
            got=error,
            fix="make room, or leave --onnx out: it is kept for later, and not looked into",
        ) from None
    return {"file": onnx.name, "sha256": file_sha256(target)}


def same_folds(plan: Plan, record: Mapping[str, Any]) -> bool:
    """Whether a foreign run was scored on the folds of the plan, so that scores compare."""
    known = {c.rows_id for c in plan.final_cells}
    return all(cell["eval_id"] in known for cell in record["cells"])


def _stored(plan: Plan, rows: pd.DataFrame) -> StoredOutputs:
    """The rows as outputs of one window each, in the order of the plan."""
    place = {name: i for i, name in enumerate(plan.rows.names)}
    rows = rows.iloc[np.argsort([place[name] for name in rows["recording"]], kind="stable")]
    truth = plan.rows.table.iloc[[place[name] for name in rows["recording"]]]
    probs = rows[list(plan.data.classes)].to_numpy(np.float32)
    n = len(rows)
    windows = WindowOutputs(
        tuple(rows["recording"]),
        plan.data.classes.codes,
        np.arange(n, dtype=np.int64),
        np.full(n, plan.spec.competition.window_s),
        probs,
        probs,
    )
    columns = ["primary_label", "secondary_labels", *(["apart"] if truth["apart"].any() else [])]
    labels = truth[columns].reset_index(drop=True)
    labels.insert(0, "recording", rows["recording"].to_numpy())
    return StoredOutputs(windows, labels)


def _recordings(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """The recordings of the table with the fold they are in and who made them, by the plan."""
    rows = plan.rows
    columns = {"recording": rows.names, "recordist": rows.recordists}
    known = pd.DataFrame(columns).assign(primary_label=rows.table["primary_label"].to_numpy())
    held = table[["recording", "fold"]].drop_duplicates("recording")
    return held.merge(known, on="recording")[["recording", "fold", "recordist", "primary_label"]]


def _rows_id(plan: Plan, fold: int, rows: pd.DataFrame) -> str:
    """The rows' name: that of the plan's fold where it holds the same recordings."""
    names = set(rows["recording"])
    for cell in plan.final_cells:
        if cell.fold != fold or cell.validation is None or cell.rows_id is None:
            continue
        if set(plan.rows.names[cell.validation]) == names:
            return cell.rows_id
    return digest({"rows": sorted(names), "classes": plan.data.classes.digest}, 12)


def _save_cell(
    lab: Lab, cell_id: str, rows_id: str, stored: StoredOutputs, document: Mapping[str, Any]
) -> None:
    folder = lab.cells / cell_id
    save_outputs(folder / f"outputs-{rows_id}", stored)
    card = {"cell_id": cell_id, "start": None, "document": document}
    write_whole(folder / CARD, json.dumps(card, indent=1, sort_keys=True))


def _cell_row(fold: int, seed: int, cell_id: str, rows_id: str, table: FoldTable) -> dict[str, Any]:
    return {
        "fold": fold,
        "seed": seed,
        "cell_id": cell_id,
        "eval_id": rows_id,
        **asdict(score_fold(table)),
        "seconds": None,
        "device": "foreign",
    }


def _record(
    plan: Plan,
    run: str,
    name: str,
    project: str,
    cells: list[dict[str, Any]],
    tables: Mapping[tuple[int, int], FoldTable],
) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    by_fold = {cell["fold"]: cell["n_rows"] for cell in cells}
    estimators, evidence = plan.spec.evaluate.estimators, Evidence(tables)
    declared, of_cells = estimate_all(estimators, evidence)
    return {
        "spec_id": run,
        "name": name,
        "project": project,
        "delta": {},
        "sweeps": {},
        "created_at": now,
        "updated_at": now,
        "scores": score_evidence(evidence) | declared,
        "estimators": [estimator.name for estimator in estimators],
        "chosen": "",
        "stopped_at": "",
        "cells": [{**cell, **of_cells[cell["fold"], cell["seed"]]} for cell in cells],
        "evaluation": {
            "metric": "padded_cmap",
            "folds": sorted(by_fold),
            "seeds": sorted({cell["seed"] for cell in cells}),
            "n_rows": sum(by_fold.values()),
            "n_classes": len(plan.data.classes),
            "rows_hash": "-".join(sorted({cell["eval_id"] for cell in cells})),
            "classes_hash": plan.data.classes.digest,
            "soundscapes_hash": "",
        },
        "spec": None,
        "environment": environment(),
    }
