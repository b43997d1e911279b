"""What goes into MLflow beside a run's own scores: data sets, costs, leaderboard, the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from birdlab.costs import costs_of
from birdlab.lab import Lab
from birdlab.runresult import RunResult
from birdlab.runtables import load_table, tables_folder

Beside = tuple[Mapping[str, float], Mapping[str, str]]
"""Metrics and tags."""
_BATCH = 900
_DIGEST_CHARS = 36  # what MLflow keeps of a digest


def no_files(_result: RunResult) -> Mapping[str, str]:
    """No file."""
    return {}


def no_scores(_lab: Lab) -> Mapping[str, Beside]:
    """No run has a leaderboard score."""
    return {}


@dataclass(frozen=True)
class Extras:
    """What rooms below this one give: reports (name → text), leaderboard scores by spec id."""

    files: Callable[[RunResult], Mapping[str, str]] = no_files
    scores: Callable[[Lab], Mapping[str, Beside]] = no_scores

    def beside(self, lab: Lab, record: Mapping[str, Any]) -> Beside:
        """The `lb/*` and `model/*` metrics and tags of a run."""
        metrics, tags = self.scores(lab).get(record["spec_id"], ({}, {}))
        costs = costs_of(lab, record.get("model_id", ""))
        if costs is None:
            return metrics, tags
        measured = {
            "model/parameters": float(costs.parameters),
            "model/size_mb": costs.size_mb,
            "model/cpu_ms_per_window": costs.cpu_ms_per_window,
        }
        return {**metrics, **measured}, {**tags, "model/cpu": costs.processor}


def log_inputs(client: Any, run: Any, inputs: Iterable[Mapping[str, Any]]) -> None:
    """Name the data sets that a run was made from, with a digest of each, once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    known = {(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs}
    new = [
        DatasetInput(
            Dataset(
                name=item["name"],
                digest=item["digest"][:_DIGEST_CHARS],
                source_type="birdlab",
                source=json.dumps({"data": item["name"]}),
                profile=json.dumps({"n_rows": item["n_rows"]}),
            ),
            [InputTag("mlflow.data.context", item["role"])],
        )
        for item in inputs
        if (item["name"], item["digest"][:_DIGEST_CHARS]) not in known
    ]
    if new:
        client.log_inputs(run.info.run_id, new)


def log_system(client: Any, lab: Lab, run_id: str, spec_id: str) -> None:
    """Copy what was measured of the machine while the run was under way, where it was."""
    from mlflow.entities import Metric

    table = load_table(tables_folder(lab, spec_id), "system")
    metrics = [
        Metric(f"system/{row['name']}", float(row["value"]), int(row["at_ms"]), int(row["step"]))
        for row in table.to_dict("records")
    ]
    log_metrics(client, run_id, metrics)


def log_metrics(client: Any, run_id: str, metrics: Sequence[Any]) -> None:
    """Log as many metrics as there are, in calls that MLflow takes."""
    for first in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
