"""Records: the scored run as a result in memory and as a file of the lab."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from birdlab.cell import CURVES, load_card, outputs_folder
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.score import (
    FoldTable,
    fold_table,
    score_apart,
    score_classes,
    score_fold,
    score_fold_apart,
    score_run,
)
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.spec.experiment import ExperimentSpec


@dataclass(frozen=True)
class RunNote:
    """What a caller knows of a run that its spec does not say: sweep, title, delta."""

    title: str = ""
    sweep: str = ""
    delta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunResult:
    """A scored run.

    scores: `cv/...` means over folds, their spread, the pooled value and the floor (empty
    when nothing was validated); cells: one row per (fold, seed) with its scores;
    classes: one row per species; trained and cached: how many cells were computed and found;
    waterfall and dropped: how cleaning came to the rows, as in DataTable.
    """

    spec: ExperimentSpec
    spec_id: str
    note: RunNote
    scores: dict[str, float]
    cells: pd.DataFrame
    classes: pd.DataFrame
    curves: pd.DataFrame
    trained: int
    cached: int
    record: Path
    waterfall: pd.DataFrame
    dropped: pd.DataFrame

    @property
    def cv(self) -> float:
        """The fold-averaged padded cmAP; NaN when nothing was validated."""
        return self.scores.get("cv/padded_cmap", float("nan"))


def collect(plan: Plan, lab: Lab, note: RunNote, trained: set[str]) -> RunResult:
    """The result of a run whose cells are all finished; writes its record."""
    tables: dict[tuple[int, int], FoldTable] = {}
    apart: dict[tuple[int, int], FoldTable] = {}
    rows, curves = [], []
    for cell in plan.final_cells:
        card = load_card(lab, cell.cell_id)
        row: dict[str, Any] = {"fold": cell.fold, "seed": cell.seed, "cell_id": cell.cell_id}
        if cell.fold is not None:
            stored = load_outputs(outputs_folder(lab, cell))
            given = (stored, plan.spec.output, plan.spec.evaluate)
            table, halves = fold_table(*given), fold_table(*given, apart=True)
            tables[cell.fold, cell.seed], apart[cell.fold, cell.seed] = table, halves
            row |= {"eval_id": cell.eval_id, **asdict(score_fold(table))}
            row |= score_fold_apart(halves)
        rows.append({**row, "seconds": card["seconds"], "device": card["device"]})
    for cell in plan.cells:
        curve = pd.read_parquet(lab.cells / cell.cell_id / CURVES)
        curves.append(curve.assign(stage=cell.stage.name, fold=cell.fold, seed=cell.seed))
    first_seed = plan.spec.cells.seeds[0]
    pooled = [table for (_, seed), table in sorted(tables.items()) if seed == first_seed]
    result = RunResult(
        plan.spec,
        plan.spec_id,
        note,
        score_run(tables) | score_apart(apart) if tables else {},
        pd.DataFrame(rows),
        score_classes(pooled) if pooled else pd.DataFrame(),
        pd.concat(curves, ignore_index=True),
        trained=sum(c.cell_id in trained for c in plan.cells),
        cached=sum(c.cell_id not in trained for c in plan.cells),
        record=lab.runs / f"{plan.spec_id}.json",
        waterfall=plan.data.waterfall,
        dropped=plan.data.dropped,
    )
    save_record(plan, result)
    return result


def save_record(plan: Plan, result: RunResult) -> None:
    """Write or update the record of a run: `runs/<spec_id>.json`, whole or not at all.

    The scores of a run that was asked for with more folds and seeds before stay, and so does
    its name when a sweep comes across it.
    """
    before: dict[str, Any] = {}
    if result.record.is_file():
        before = json.loads(result.record.read_text())
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    note = result.note
    sweeps, known = dict(before.get("sweeps", {})), before.get("name", "")
    if note.sweep:
        sweeps[note.sweep] = {"title": note.title, "delta": dict(note.delta)}
    validated = result.cells.dropna(subset=["fold"])
    record = {
        "spec_id": result.spec_id,
        "name": known if note.sweep and known else result.spec.name or note.title or known,
        "project": result.spec.project,
        "delta": dict(note.delta) or before.get("delta", {}),
        "sweeps": sweeps,
        "created_at": before.get("created_at", now),
        "updated_at": now,
        "scores": result.scores,
        "cells": json.loads(result.cells.to_json(orient="records", double_precision=15)),
        "evaluation": {
            "metric": "padded_cmap",
            "folds": sorted({int(f) for f in validated["fold"]}),
            "seeds": list(plan.spec.cells.seeds),
            "n_rows": int(validated.drop_duplicates("fold")["n_rows"].sum())
            if len(validated)
            else 0,
            "n_classes": len(plan.data.classes),
            "rows_hash": "-".join(sorted(set(validated["eval_id"]))) if len(validated) else "",
            "classes_hash": plan.data.classes.digest,
        },
        "spec": result.spec.model_dump(mode="json"),
        "environment": environment(),
    }
    if _evidence(before) > _evidence(record):
        record |= {key: before[key] for key in ("scores", "cells", "evaluation", "spec")}
    write_whole(result.record, json.dumps(record, indent=1))


def _evidence(record: Mapping[str, Any]) -> set[tuple[Any, Any]]:
    """The (fold, seed) pairs of a record; one set is greater than another when it holds it."""
    return {(cell["fold"], cell["seed"]) for cell in record.get("cells", ())}


def environment() -> dict[str, str]:
    """Tags of where a run was made: git commit and dirty flag, Python, host processor."""
    out = {"python": platform.python_version(), "machine": platform.machine()}
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return out
    if commit.returncode == 0:
        out |= {"git_commit": commit.stdout.strip(), "git_dirty": str(bool(dirty.stdout.strip()))}
    return out
