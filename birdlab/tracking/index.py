"""The lab's index of runs: records beside the cells, read back as tables. No MLflow here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from birdlab.lab import Lab
from birdlab.recorded import (
    is_foreign,
    link_path,
    load_json,
    load_link,
    load_record,
    load_records,
    rows_heard,
)
from birdlab.spec.diff import title_of
from birdlab.tracking.attributes import ATTRIBUTES, name_attributes
from birdlab.tracking.query import spec_field

__all__ = [
    "CELL_COLUMNS",
    "RUN_COLUMNS",
    "link_path",
    "load_cells",
    "load_link",
    "load_record",
    "load_records",
    "load_runs",
    "load_sweeps",
    "sweep_path",
]

RUN_COLUMNS = (
    "run",
    "name",
    "project",
    "delta",
    "sweeps",
    "status",
    "stopped_at",
    "created_at",
    "updated_at",
    "mlflow_run_id",
    "metric",
    "chosen",
    "n_folds",
    "n_seeds",
    "n_rows",
    "n_classes",
    "rows_hash",
    "classes_hash",
    "floor",
    "cv/padded_cmap",
    "cv/padded_cmap_sd",
    "cv/padded_cmap_pooled",
    "cv/macro_auc",
    "cv/soundscapes_padded_cmap",
    "cv/soundscapes_padded_cmap_sd",
    "cv/soundscapes_macro_auc",
    "cv/soundscapes_macro_auc_sd",
    "soundscapes_floor",
    "soundscapes_hash",
    "cv/synthetic_padded_cmap",
    "cv/synthetic_padded_cmap_sd",
    "cv/synthetic_macro_auc",
    "cv/synthetic_macro_auc_sd",
    "synthetic_floor",
    "synthetic_hash",
    *ATTRIBUTES,
)
CELL_COLUMNS = (
    "run",
    "name",
    "fold",
    "seed",
    "cell_id",
    "padded_cmap",
    "macro_auc",
    "top1",
    "floor",
    "n_rows",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
    "soundscapes_n_windows",
    "synthetic_padded_cmap",
    "synthetic_macro_auc",
    "synthetic_n_windows",
    "seconds",
    "device",
)


def load_runs(
    lab: Lab, fields: Sequence[str] = (), *, records: Sequence[Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """One row per run, newest last; scores are NaN where there are none.

    Columns: RUN_COLUMNS, then `cv/<name>` for each estimator that some run declared, in order.
    `records`: those of the lab as `load_records` gives them, where they were read before.

    `chosen` says how validation rows picked the weights that they then scored, "" where not;
    `status` is finished, stopped (by a race, `stopped_at` says where) or foreign; `split`,
    `family`, `checkpoint` and `lineage` are those of `name_attributes`. `fields` are further
    columns: other `cv/...` scores, or dotted fields of the spec, None where a run has none.
    """
    rows, records = [], load_records(lab) if records is None else records
    declared = [f"cv/{name}" for name in _estimators(records) if f"cv/{name}" not in RUN_COLUMNS]
    more = [name for name in fields if name not in (*RUN_COLUMNS, *declared)]
    for record, attributes in zip(records, name_attributes(lab, records), strict=True):
        evaluation, scores = record["evaluation"], record["scores"]
        row = {
            "run": record["spec_id"],
            "name": record["name"],
            "project": record["project"],
            "delta": title_of(record["delta"]),
            "sweeps": sorted(record["sweeps"]),
            "status": _status(record),
            "stopped_at": record.get("stopped_at", ""),
            "created_at": record["created_at"],
            "updated_at": record["updated_at"],
            "mlflow_run_id": load_link(lab, record["spec_id"]).get("parent", ""),
            "metric": evaluation["metric"],
            "chosen": record.get("chosen", ""),
            "n_folds": len(evaluation["folds"]),
            "n_seeds": len(evaluation["seeds"]),
            "floor": scores.get("cv/floor", float("nan")),
            "soundscapes_floor": scores.get("cv/soundscapes_floor", float("nan")),
            "soundscapes_hash": rows_heard(evaluation, "soundscapes"),
            "synthetic_floor": scores.get("cv/synthetic_floor", float("nan")),
            "synthetic_hash": rows_heard(evaluation, "synthetic"),
        }
        row |= attributes
        row |= {k: evaluation[k] for k in ("n_rows", "n_classes", "rows_hash", "classes_hash")}
        row |= {
            k: scores.get(k, float("nan")) for k in (*RUN_COLUMNS, *declared) if k.startswith("cv/")
        }
        row |= {k: scores.get(k, spec_field(record.get("spec"), k)) for k in more}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*RUN_COLUMNS, *declared, *more])


def _status(record: Mapping[str, Any]) -> str:
    if is_foreign(record):
        return "foreign"
    return "stopped" if record.get("stopped_at") else "finished"


def _estimators(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all estimators that some run declared, each once."""
    return list(dict.fromkeys(name for r in records for name in r.get("estimators", ())))


def load_cells(lab: Lab, *, records: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """One row per scored (run, fold, seed) with CELL_COLUMNS, then what estimators say of it.

    An estimator that is no mean over cells, such as a pooled score, has no column. A line of a
    foreign ledger has a row per fold without a cell (`cell_id` is ""), and its score in the column
    of its metric.
    """
    records = load_records(lab) if records is None else records
    rows = [
        {"run": record["spec_id"], "name": record["name"], "cell_id": "", **cell}
        for record in records
        for cell in (*record["cells"], *record.get("fold_scores", ()))
        if cell["fold"] is not None
    ]
    there = {key for row in rows for key in row} - set(CELL_COLUMNS)
    declared = [name for name in _estimators(records) if name in there]
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, *declared])


def sweep_path(lab: Lab, name: str) -> Path:
    """Where the record of a sweep is kept."""
    return lab.stores / "sweeps" / f"{name}.json"


SWEEP_FIX = "birdlab sweep its file: the record is written anew"
"""What to do where the record of a sweep cannot be read."""


def load_sweeps(lab: Lab) -> dict[str, dict[str, Any]]:
    """The record of every sweep by name."""
    paths = sorted((lab.stores / "sweeps").glob("*.json"))
    return {path.stem: load_json(path, SWEEP_FIX) for path in paths}
