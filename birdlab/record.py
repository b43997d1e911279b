"""Records: the scored run as a file of the lab, made of a plan whose cells are finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from birdlab.cellfiles import CURVES, is_finished
from birdlab.cellplan import CellPlan
from birdlab.costs import model_id
from birdlab.environment import environment
from birdlab.evaluate.score import score_classes
from birdlab.inputs import data_inputs
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.recorded import load_record_file
from birdlab.runresult import RunNote, RunResult
from birdlab.runtables import TABLES, list_recordings, save_tables, tables_folder
from birdlab.scoring import chosen_words, name_sources, score_cell, score_together


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
    has no scores. Scores that the record already has are taken from it where they come from the
    same stored outputs by the same code.
    """
    path = lab.runs / f"{plan.spec_id}.json"
    cells = list(plan.cells)
    sources = ""
    if stopped_at:
        cells = [c for c in plan.cells if is_finished(lab, c)]
        kept = plan.spec.cells.seeds if seeds is None else seeds
        scored = replace(_score(plan, cells, lab, kept), scores={})
    else:
        sources = name_sources(plan, lab)
        scored = _scored(plan, lab, path, sources)
    result = RunResult(
        plan.spec,
        plan.spec_id,
        note,
        scored.scores,
        scored.cells,
        {
            "classes": scored.classes,
            "curves": lambda: _curves(cells, lab),
            "recordings": lambda: list_recordings(plan.rows),
        },
        trained_cells=frozenset(c.cell_id for c in cells if c.cell_id in trained),
        cached=sum(c.cell_id not in trained for c in cells),
        record=path,
        waterfall=plan.data.waterfall,
        dropped=plan.data.dropped,
        chosen=scored.chosen,
        stopped_at=stopped_at,
    )
    save_record(plan, result, sources)
    return result


def _curves(cells: Sequence[CellPlan], lab: Lab) -> pd.DataFrame:
    curves = [
        pd.read_parquet(lab.cells / c.cell_id / CURVES).assign(
            stage=c.stage.name, fold=c.fold, seed=c.seed
        )
        for c in cells
        if not c.sources
    ]
    return pd.concat(curves, ignore_index=True)


def _scored(plan: Plan, lab: Lab, path: Path, sources: str) -> _Scored:
    """The scores of a run: those of its record where they come from the same `sources`."""
    record = load_record_file(path) if sources and path.is_file() else {}
    table = tables_folder(lab, plan.spec_id) / "classes.parquet"
    if record.get("scored_from") == sources and _is_older(table, path):
        cells = pd.DataFrame(record["cells"])
        return _Scored(record["scores"], cells, lambda: pd.read_parquet(table), record["chosen"])
    return _score(plan, plan.cells, lab, plan.spec.cells.seeds)


def _is_older(table: Path, record: Path) -> bool:
    """Whether a table is there and was written before the record, so that both belong together."""
    return table.is_file() and table.stat().st_mtime_ns <= record.stat().st_mtime_ns


@dataclass(frozen=True, eq=False)
class _Scored:
    """The part of a RunResult that is computed from stored outputs; `classes` when called."""

    scores: dict[str, float]
    cells: pd.DataFrame
    classes: Callable[[], pd.DataFrame]
    chosen: str


def _score(plan: Plan, cells: Sequence[CellPlan], lab: Lab, seeds: Sequence[int]) -> _Scored:
    scored = [score_cell(plan, c, lab) for c in plan.final_cells if c.seed in seeds]
    tables = {s.key: s.table for s in scored if s.table is not None}
    pooled = [table for (_, seed), table in sorted(tables.items()) if seed == seeds[0]]
    classes = score_classes(pooled) if pooled else pd.DataFrame()
    scores, rows = score_together(plan, scored)
    return _Scored(scores, pd.DataFrame(rows), lambda: classes, chosen_words(plan, cells, lab))


def save_record(plan: Plan, result: RunResult, sources: str = "") -> None:
    """Write or update the record of a run: `runs/<spec_id>.json`, whole or not at all.

    The scores of a run that was asked for with more folds and seeds before stay, also when a race
    stops it now or when it is trained on all data, whose cells are then listed as `full`; and so
    does its name when a sweep comes across it. `sources` names what the
    scores come from; where the record has just these and knows the sweep, it is left as it is.
    """
    result.record.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(result.record.parent / ".lock"):  # another sweep may score the same run
        before = load_record_file(result.record) if result.record.is_file() else {}
        if sources and before.get("scored_from") == sources:
            record = before | _noted(result, before)
            if result.note.sweep and record | {"updated_at": before["updated_at"]} == before:
                return
        else:
            record = _updated(plan, result, before, sources)
        folder = result.record.with_suffix("")
        if not folder.is_dir() or any(record[k] != before.get(k) for k in ("cells", "spec")):
            stays = len(record["cells"]) != len(result.cells)
            names = [name for name in TABLES if not (stays and name == "classes")]
            save_tables(folder, {name: getattr(result, name) for name in names})
        write_whole(result.record, json.dumps(record, indent=1))


def _noted(result: RunResult, before: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that depends on who asks for the run, from what it was before."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    note = result.note
    sweeps, known = dict(before.get("sweeps", {})), before.get("name", "")
    if note.sweep:
        sweeps[note.sweep] = {
            "title": note.title,
            "delta": dict(note.delta),
            "stopped_at": result.stopped_at,
        }
    rounds = note.rounds or before.get("rounds", "")
    return {
        **({"rounds": rounds} if rounds else {}),
        "spec_id": result.spec_id,
        "name": known if note.sweep and known else result.spec.name or note.title or known,
        "project": result.spec.project,
        "delta": dict(note.delta) or before.get("delta", {}),
        "sweeps": sweeps,
        "created_at": before.get("created_at", now),
        "updated_at": now,
        "spec": result.spec.model_dump(mode="json"),
    }


def _updated(
    plan: Plan, result: RunResult, before: Mapping[str, Any], sources: str
) -> dict[str, Any]:
    """The record of a run after `result`, from what it was before."""
    validated = result.cells.dropna(subset=["fold"])
    record = _noted(result, before) | {
        "scores": result.scores,
        "estimators": [estimator.name for estimator in result.spec.evaluate.estimators],
        "chosen": result.chosen,
        "stopped_at": result.stopped_at,
        "scored_from": sources,
        "cells": _plain(result.cells),
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
            "soundscapes_rows": "" if plan.soundscapes is None else plan.soundscapes.rows_id,
            "synthetic_hash": plan.synthetic_hash,
            "synthetic_rows": plan.synthetic_rows,
        },
        "data": data_inputs(plan),
        "model_id": model_id(result.spec, len(plan.data.classes)),
        "environment": environment(),
    }
    kept = (
        "scores",
        "estimators",
        "chosen",
        "stopped_at",
        "scored_from",
        "cells",
        "evaluation",
        "spec",
        "data",
        "environment",
    )
    is_full = result.spec.cells.folds == "none"
    beside = [*before.get("full", ()), *(c for c in before.get("cells", ()) if c["fold"] is None)]
    has_less = bool(before.get("scores")) and (bool(result.stopped_at) or is_full)
    if has_less or _evidence(before) > _evidence(record):
        beside += record["cells"] if is_full else []
        record |= {key: before[key] for key in kept if key in before}
    if record["scores"] and beside:
        record["full"] = list({cell["cell_id"]: cell for cell in beside}.values())
    return record


def _plain(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON takes them, every number to its last bit; null where there is none."""
    rows = cells.to_dict("records")
    return [{str(k): None if v != v else v for k, v in row.items()} for row in rows]


def _evidence(record: Mapping[str, Any]) -> set[tuple[Any, Any]]:
    """The (fold, seed) pairs of a record; one set is greater than another when it holds it."""
    return {(cell["fold"], cell["seed"]) for cell in record.get("cells", ())}
