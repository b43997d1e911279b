"""Records: the scored run as a result in memory and as a file of the lab."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from birdlab.cell import CURVES, is_finished, load_card, outputs_folder, soundscapes_folder
from birdlab.cellplan import CellPlan
from birdlab.costs import model_id
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.score import (
    FoldTable,
    fold_table,
    score_apart,
    score_classes,
    score_fold,
    score_fold_apart,
    score_run,
    score_soundscape_windows,
    score_soundscapes,
)
from birdlab.inputs import data_inputs
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.runtables import TABLES, save_tables
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
    waterfall and dropped: how cleaning came to the rows, as in DataTable; chosen: in words, how
    validation rows picked the weights that were scored on them, "" where they did not; stopped_at:
    in words, where a race stopped the run, which then has cells and no scores.
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
    chosen: str = ""
    stopped_at: str = ""

    @property
    def cv(self) -> float:
        """The fold-averaged padded cmAP; NaN when nothing was validated."""
        return self.scores.get("cv/padded_cmap", float("nan"))


def collect(
    plan: Plan,
    lab: Lab,
    note: RunNote,
    trained: set[str],
    *,
    seeds: Sequence[int] | None = None,
    stopped_at: str = "",
) -> RunResult:
    """The result of a run whose cells are all finished; writes its record.

    With `stopped_at` it is a run that a race stopped: only cells of `seeds` are finished, and it
    has no scores.
    """
    cells = [c for c in plan.cells if is_finished(lab, c)] if stopped_at else list(plan.cells)
    kept = plan.spec.cells.seeds if seeds is None else seeds
    scored = [_score_cell(plan, c, lab) for c in plan.final_cells if c.seed in kept]
    tables = {s.key: s.table for s in scored if s.table is not None}
    apart = {s.key: s.apart for s in scored if s.apart is not None}
    heard = {s.key: s.heard for s in scored if s.heard}
    curves = [
        pd.read_parquet(lab.cells / c.cell_id / CURVES).assign(
            stage=c.stage.name, fold=c.fold, seed=c.seed
        )
        for c in cells
    ]
    pooled = [table for (_, seed), table in sorted(tables.items()) if seed == kept[0]]
    result = RunResult(
        plan.spec,
        plan.spec_id,
        note,
        {} if stopped_at else _score_run(tables, apart, heard),
        pd.DataFrame([s.row for s in scored]),
        score_classes(pooled) if pooled else pd.DataFrame(),
        pd.concat(curves, ignore_index=True),
        trained=sum(c.cell_id in trained for c in cells),
        cached=sum(c.cell_id not in trained for c in cells),
        record=lab.runs / f"{plan.spec_id}.json",
        waterfall=plan.data.waterfall,
        dropped=plan.data.dropped,
        chosen=chosen_words(plan, cells, lab),
        stopped_at=stopped_at,
    )
    save_record(plan, result)
    return result


def score_cells(plan: Plan, lab: Lab, seeds: Sequence[int]) -> pd.DataFrame:
    """fold, seed, score (padded cmAP) of the finished cells of some seeds of a run."""
    rows = [
        (c.fold, c.seed, _score_cell(plan, c, lab).row["padded_cmap"])
        for c in plan.final_cells
        if c.seed in seeds and c.fold is not None
    ]
    return pd.DataFrame(rows, columns=["fold", "seed", "score"])


@dataclass(frozen=True, eq=False)
class _ScoredCell:
    """One finished cell: its row of RunResult.cells, and what its scores come from."""

    row: dict[str, Any]
    table: FoldTable | None = None
    apart: FoldTable | None = None
    heard: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, int]:
        return self.row["fold"], self.row["seed"]


def _score_cell(plan: Plan, cell: CellPlan, lab: Lab) -> _ScoredCell:
    card = load_card(lab, cell.cell_id)
    row: dict[str, Any] = {"fold": cell.fold, "seed": cell.seed, "cell_id": cell.cell_id}
    made = {key: card[key] for key in ("seconds", "device")}
    if cell.fold is None:
        return _ScoredCell({**row, **made})
    stored = load_outputs(outputs_folder(lab, cell))
    given = (stored, plan.spec.output, plan.spec.evaluate)
    table, halves = fold_table(*given), fold_table(*given, apart=True)
    heard = {} if cell.soundscapes_id is None else _score_soundscapes(plan, cell, lab)
    row |= {"eval_id": cell.eval_id, **asdict(score_fold(table)), **score_fold_apart(halves)}
    return _ScoredCell({**row, **heard, **made}, table, halves, heard)


def _score_run(
    tables: Mapping[tuple[int, int], FoldTable],
    apart: Mapping[tuple[int, int], FoldTable],
    heard: Mapping[tuple[int, int], Mapping[str, float]],
) -> dict[str, float]:
    if not tables:
        return {}
    scores = score_run(tables) | score_apart(apart)
    return scores | score_soundscapes(heard) if heard else scores


def _score_soundscapes(plan: Plan, cell: CellPlan, lab: Lab) -> dict[str, float]:
    assert plan.soundscapes is not None
    stored = load_outputs(soundscapes_folder(lab, cell))
    w = stored.windows
    n_windows = np.bincount(w.recording_index, minlength=len(w.recordings))
    targets = plan.soundscapes.targets(n_windows, plan.data.classes, plan.spec.competition.window_s)
    return score_soundscape_windows(stored, targets, plan.spec.output)


def chosen_words(plan: Plan, cells: Sequence[CellPlan], lab: Lab) -> str:
    """How validation rows picked the weights of a run, from the cards of finished `cells`.

    "" where every cell keeps its last weights, as all did that were trained before cards said.
    """
    words = {
        (cell.stage.name, load_card(lab, cell.cell_id).get("chosen", "last")): None
        for cell in cells
        if cell.stage.train.is_steered
    }
    several = len(plan.spec.stages) > 1
    said = [f"{name}: {w}" if several else w for name, w in words if w != "last"]
    return "; ".join(said[:4]) + (f"; and {len(said) - 4} more" if len(said) > 4 else "")


def save_record(plan: Plan, result: RunResult) -> None:
    """Write or update the record of a run: `runs/<spec_id>.json`, whole or not at all.

    The scores of a run that was asked for with more folds and seeds before stay, also when a race
    stops it now, and so does its name when a sweep comes across it.
    """
    result.record.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(result.record.parent / ".lock"):  # another sweep may score the same run
        before = json.loads(result.record.read_text()) if result.record.is_file() else {}
        record = _updated(plan, result, before)
        folder = result.record.with_suffix("")
        if not folder.is_dir() or any(record[k] != before.get(k) for k in ("cells", "spec")):
            stays = len(record["cells"]) != len(result.cells)
            names = [name for name in TABLES if not (stays and name == "classes")]
            save_tables(folder, {name: getattr(result, name) for name in names})
        write_whole(result.record, json.dumps(record, indent=1))


def _updated(plan: Plan, result: RunResult, before: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run after `result`, from what it was before."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    note = result.note
    sweeps, known = dict(before.get("sweeps", {})), before.get("name", "")
    if note.sweep:
        sweeps[note.sweep] = {
            "title": note.title,
            "delta": dict(note.delta),
            "stopped_at": result.stopped_at,
        }
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
        "chosen": result.chosen,
        "stopped_at": result.stopped_at,
        "cells": json.loads(result.cells.to_json(orient="records", double_precision=15)),
        "evaluation": {
            "metric": "padded_cmap",
            "folds": sorted({int(f) for f in validated["fold"]}),
            "seeds": sorted({int(s) for s in result.cells["seed"]}),
            "n_rows": int(validated.drop_duplicates("fold")["n_rows"].sum())
            if len(validated)
            else 0,
            "n_classes": len(plan.data.classes),
            "rows_hash": plan.rows_hash,
            "classes_hash": plan.data.classes.digest,
            "soundscapes_hash": "" if plan.soundscapes is None else plan.soundscapes.identity,
        },
        "data": data_inputs(plan),
        "model_id": model_id(result.spec, len(plan.data.classes)),
        "spec": result.spec.model_dump(mode="json"),
        "environment": environment(),
    }
    kept = ("scores", "chosen", "stopped_at", "cells", "evaluation", "spec")
    has_less = bool(before.get("scores")) and bool(result.stopped_at)
    if has_less or _evidence(before) > _evidence(record):
        record |= {key: before[key] for key in kept if key in before}
    return record


def _evidence(record: Mapping[str, Any]) -> set[tuple[Any, Any]]:
    """The (fold, seed) pairs of a record; one set is greater than another when it holds it."""
    return {(cell["fold"], cell["seed"]) for cell in record.get("cells", ())}


@cache
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
