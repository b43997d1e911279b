"""The noise floors of a lab: `noise/<data hash>.json`, one for each set of rows and classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole
from birdlab.spec.identity import digest
from birdlab.study.contrasts import arms_of_equal_variance, fold_means
from birdlab.study.noise import NoiseFloor, estimate_fold_arm, estimate_noise

_NOISE = TypeAdapter(NoiseFloor)


def measure_noise(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> NoiseFloor:
    """The noise floor of a run, from its record, over the seeds that all of its folds have.

    How much recipes differ from fold to fold comes from it and those of `records` that are scored
    on the same rows, classes, folds and seeds, share no cell and scatter alike; None where there
    are no such. Raises DataError for fewer than two folds or seeds.
    """
    own = _cells(record)
    noise = estimate_noise(own.T.rename(columns={record["spec_id"]: "score"}).reset_index())
    tables, cell_ids = [own], _cell_ids(record)
    for other in records:
        cells = _cells(other) if _comparable(other, record) else pd.DataFrame()
        if own.columns.isin(cells.columns).all() and not cell_ids & _cell_ids(other):
            tables.append(cells[own.columns])
            cell_ids |= _cell_ids(other)
    arms = pd.concat(tables)
    alike = arms_of_equal_variance(fold_means(arms).to_numpy(), keep=0)
    if len(alike) < 2:
        return noise
    scores = arms.iloc[alike].to_numpy().reshape(len(alike), noise.n_folds, noise.n_seeds)
    return replace(noise, fold_arm=estimate_fold_arm(scores), n_arms=len(alike))


def save_noise(lab: Lab, record: Mapping[str, Any], noise: NoiseFloor) -> Path:
    """Where the noise floor of a run was stored; it replaces an earlier one of the same data."""
    data = {key: record["evaluation"][key] for key in ("rows_hash", "classes_hash")}
    path = _folder(lab) / f"{digest(data)}.json"
    stored = {
        "run": record["spec_id"],
        "name": record["name"],
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **data,
        "noise": asdict(noise),
    }
    write_whole(path, json.dumps(stored, indent=1))
    return path


def load_noise(lab: Lab, rows_hash: str, classes_hash: str) -> NoiseFloor | None:
    """The noise floor of data as records and plans name it, None where none was measured.

    Noise that was measured over these and more folds of the split counts. Raises LabError for a
    file that holds no noise floor.
    """
    wanted = set(rows_hash.split("-"))
    fitting: list[tuple[tuple[bool, str], NoiseFloor]] = []
    for path in sorted(_folder(lab).glob("*.json")):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            rows, noise = stored["rows_hash"], _NOISE.validate_python(stored["noise"])
            fits = stored["classes_hash"] == classes_hash and wanted <= set(rows.split("-"))
            order = (rows == rows_hash, stored["updated_at"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LabError(
                "a stored noise floor cannot be read",
                where=str(path),
                got=type(error).__name__,
                fix="delete the file, then birdlab noise SPEC",
            ) from None
        if fits:
            fitting.append((order, noise))
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _folder(lab: Lab) -> Path:
    return lab.stores / "noise"


def _comparable(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether a scored run has the rows and classes of another one."""
    keys = ("rows_hash", "classes_hash")
    return bool(one["scores"]) and all(one["evaluation"][k] == two["evaluation"][k] for k in keys)


def _cell_ids(record: Mapping[str, Any]) -> set[str]:
    return {cell["cell_id"] for cell in record["cells"]}


def _cells(record: Mapping[str, Any]) -> pd.DataFrame:
    """One row for a run: its scores by (fold, seed), for the seeds that every fold has."""
    cells = pd.DataFrame(record["cells"], columns=["fold", "seed", "padded_cmap"])
    cells = cells.dropna(subset=["fold"]).astype({"fold": int})
    table = cells.pivot(index="fold", columns="seed", values="padded_cmap").dropna(axis=1)
    return table.stack().to_frame(record["spec_id"]).T
