"""The MLflow sink: a parent run per recipe, a child run per cell, a summary run per sweep.

Only the driving process uses it. It writes from records and cell folders, so what a crash or
a stopped server kept from MLflow is written by the next command that passes the run.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from birdlab.errors import BirdlabError, TrackingError
from birdlab.evaluate.score import APART, SOUNDSCAPES, chosen_sentence
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan
from birdlab.record import RunNote, RunResult, environment
from birdlab.spec.diff import flatten, title_of
from birdlab.spec.identity import canonical_json, digest
from birdlab.tracking.index import link_path, load_link, load_record

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

MAX_PARAMS = 15
Artifacts = Callable[[RunResult], Mapping[str, str]]

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


def connect(lab: Lab) -> Any:
    """An MLflow client on the lab's store, whose database is migrated; TrackingError if not."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    lab.stores.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow", "alembic"):  # migrations are told at INFO; they are no news
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        client = MlflowClient(tracking_uri=lab.tracking_uri, registry_uri=lab.tracking_uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            "the MLflow store cannot be used",
            where=lab.tracking_uri.split("@")[-1],
            got=str(error).splitlines()[0],
            fix="check tracking_uri in birdlab.toml; training needs no tracker: --no-mlflow",
        ) from None
    return client


class MlflowSink:
    """Writes runs to MLflow; `artifacts` makes the reports that go with a run (name → text)."""

    def __init__(self, lab: Lab, artifacts: Artifacts | None = None) -> None:
        self.lab, self.artifacts = lab, artifacts
        self._client: Any = None
        self._experiments: dict[str, str] = {}

    @property
    def client(self) -> Any:
        """The MLflow client, made on first use, after which dead runs are ended."""
        if self._client is None:
            self._client = connect(self.lab)
            self._end_dead_runs()
        return self._client

    def started(self, plan: Plan, note: RunNote) -> None:
        """Open the parent run of a recipe that was never logged here, as RUNNING."""
        if not self._link(plan.spec_id):
            name = note.title or plan.spec.name or plan.spec_id
            self._open(plan.spec_id, plan.spec.project, name)

    def finished(self, result: RunResult) -> None:
        """Log everything of a scored run, unless exactly that is in MLflow already."""
        record = load_record(self.lab, result.spec_id)
        content = digest(
            {k: v for k, v in record.items() if k != "updated_at" and k != "environment"}
        )
        link = self._link(result.spec_id)
        if link.get("logged") == content:
            return
        if not link or not self._exists(link["parent"]):
            name = record["name"] or result.spec_id
            link = self._open(result.spec_id, result.spec.project, name)
        parent = link["parent"]
        self._log_parent(parent, result, record)
        for row in result.cells.to_dict("records"):
            key = f"{_int(row['fold'])}-{row['seed']}"
            link["children"][key] = self._log_child(link["children"].get(key), parent, result, row)
            self._save_link(result.spec_id, link)
        self.client.set_terminated(parent, "FINISHED")
        self._save_link(result.spec_id, {**link, "logged": content})

    def failed(self, plan: Plan, error: BirdlabError, *, stopped: bool = False) -> None:
        """End the parent run of a recipe as FAILED or KILLED, with the error as its note."""
        link = self._link(plan.spec_id)
        if link and not link.get("logged"):
            self.client.set_tag(link["parent"], "mlflow.note.content", f"```\n{error}\n```")
            self.client.set_terminated(link["parent"], "KILLED" if stopped else "FAILED")
            link_path(self.lab, plan.spec_id).unlink()

    def log_sweep(
        self,
        name: str,
        project: str,
        run_id: str | None,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
    ) -> str:
        """The id of the summary run of a sweep, which carries its tables and figures."""
        if run_id is None or not self._exists(run_id):
            base = {"birdlab.kind": "sweep", "birdlab.sweep": name}
            experiment = self.experiment(project)
            run_id = str(
                self.client.create_run(experiment, run_name=f"sweep {name}", tags=base).info.run_id
            )
        self._log(run_id, metrics, {}, tags)
        for file, text in artifacts.items():
            self.client.log_text(run_id, text, file)
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def log_metrics(
        self, spec_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Copy metrics (leaderboard scores) to the parent run of a recipe."""
        link = self._link(spec_id)
        if link and self._exists(link["parent"]):
            self._log(link["parent"], metrics, {}, tags)

    def experiment(self, project: str) -> str:
        """The MLflow experiment of a project, made on first use with the lab's artifact folder."""
        if project not in self._experiments:
            found = self.client.get_experiment_by_name(project)
            if found is None:
                place = (
                    None if self.lab.file.tracking_uri else self.lab.artifacts.resolve().as_uri()
                )
                identifier = self.client.create_experiment(project, artifact_location=place)
            else:
                identifier = found.experiment_id
            self._experiments[project] = str(identifier)
        return self._experiments[project]

    def _log_parent(self, run_id: str, result: RunResult, record: Mapping[str, Any]) -> None:
        evaluation, delta = record["evaluation"], record["delta"]
        flat = flatten(result.spec)
        shown = {key: flat.get(key) for key in [*delta, *_SHOWN] if flat.get(key) is not None}
        params = {k: str(v)[:500] for k, v in list(shown.items())[:MAX_PARAMS]}
        folds = ",".join(map(str, evaluation["folds"])) or "none"
        tags = {
            "mlflow.runName": record["name"] or result.spec_id,
            "mlflow.note.content": _note(result, record),
            "delta": title_of(delta),
            "sweeps": ",".join(sorted(record["sweeps"])),
            "folds": folds,
            "seeds": ",".join(map(str, evaluation["seeds"])),
            "classes_hash": evaluation["classes_hash"],
            "rows_hash": evaluation["rows_hash"],
            "soundscapes_hash": evaluation.get("soundscapes_hash", ""),
            "chosen": record.get("chosen", ""),
            "hardware": ", ".join(sorted({str(d) for d in result.cells["device"]})),
            "cells": ",".join(result.cells["cell_id"])[:4000],
            **environment(),
        }
        counts = {"n_rows": evaluation["n_rows"], "n_classes": evaluation["n_classes"]}
        self._log(run_id, {**record["scores"], **counts}, params, tags)
        self.client.log_dict(run_id, result.spec.model_dump(mode="json"), "spec.yaml")
        self.client.log_dict(run_id, _links(self.lab, result), "stored_outputs.json")
        if len(result.classes):
            self.client.log_text(run_id, result.classes.to_csv(index=False), "classes.csv")
        for file, text in (self.artifacts(result) if self.artifacts else {}).items():
            self.client.log_text(run_id, text, file)

    def _log_child(
        self, run_id: str | None, parent: str, result: RunResult, row: Mapping[str, Any]
    ) -> str:
        """The id of the child run of a cell, logged once: a cell never changes."""
        if run_id is not None and self._exists(run_id):
            return run_id
        fold = _int(row["fold"])
        tags = {
            "mlflow.parentRunId": parent,
            "birdlab.kind": "cell",
            "cell_id": row["cell_id"],
            "spec_id": result.spec_id,
        }
        name = f"fold {fold}, seed {row['seed']}"
        run = self.client.create_run(self.experiment(result.spec.project), run_name=name, tags=tags)
        identifier = str(run.info.run_id)
        self._log_curves(identifier, result, row)
        keep = ("padded_cmap", "macro_auc", "top1", "floor", "n_rows", "n_classes", "seconds")
        beside = (key for key in row if key.endswith(APART) or key.startswith(SOUNDSCAPES))
        scores = {k: float(row[k]) for k in (*keep, *beside) if row.get(k) is not None}
        self._log(identifier, scores, {"fold": str(fold), "seed": str(row["seed"])}, {})
        self.client.set_terminated(identifier, "FINISHED")
        return identifier

    def _log_curves(self, run_id: str, result: RunResult, row: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        curves, now = result.curves, int(time.time() * 1000)
        fold = row["fold"]
        mine = curves[
            (curves["seed"] == row["seed"]) & ((curves["fold"] == fold) | curves["fold"].isna())
        ]
        metrics = []
        for stage, part in mine.groupby("stage", sort=False):
            prefix = "" if len(result.spec.stages) == 1 else f"{stage}/"
            for point in part.to_dict("records"):
                metrics += [
                    Metric(prefix + key, float(point[key]), now, int(point["epoch"]))
                    for key in ("loss", "lr", "clips_per_s")
                ]
        for first in range(0, len(metrics), 900):
            self.client.log_batch(run_id, metrics=metrics[first : first + 900])

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        present = {p.key for p in self._params(run_id)} if params else set()
        self.client.log_batch(
            run_id,
            metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items() if math.isfinite(v)],
            params=[Param(k, v) for k, v in params.items() if k not in present],
            tags=[RunTag(k, v) for k, v in tags.items()],
        )

    def _params(self, run_id: str) -> list[Any]:
        from mlflow.entities import Param

        run = self.client.get_run(run_id)
        return [Param(k, v) for k, v in run.data.params.items()]

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_run(run_id).info.lifecycle_stage) == "active"
        except MlflowException:
            return False

    def _open(self, spec_id: str, project: str, name: str) -> dict[str, Any]:
        """The link to a new parent run, RUNNING under this driver."""
        tags = {"birdlab.kind": "run", "spec_id": spec_id, "birdlab.driver": _driver()}
        tags["mlflow.source.name"] = "birdlab"
        run = self.client.create_run(self.experiment(project), run_name=name, tags=tags)
        link = {"parent": str(run.info.run_id), "children": {}, "logged": "", "store": self._store}
        self._save_link(spec_id, link)
        return link

    def _link(self, spec_id: str) -> dict[str, Any]:
        """The link of a recipe into the store in use; empty when that is another or is gone."""
        link = load_link(self.lab, spec_id)
        lost = not self._store and not (self.lab.stores / "mlflow.db").is_file()
        return {} if lost or link.get("store", "") != self._store else link

    @property
    def _store(self) -> str:
        """What tells this store from others: the address of a server, "" for the lab's own."""
        return self.lab.file.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")

    def _save_link(self, spec_id: str, link: Mapping[str, Any]) -> None:
        write_whole(link_path(self.lab, spec_id), canonical_json(dict(link)))

    def _end_dead_runs(self) -> None:
        """End what a killed driver of this machine left as RUNNING."""
        experiments = [e.experiment_id for e in self._client.search_experiments()]
        running = self._client.search_runs(
            experiments, "attributes.status = 'RUNNING' and tags.`birdlab.driver` != ''"
        )
        for run in running:
            host, _, pid = run.data.tags["birdlab.driver"].partition(":")
            if host == socket.gethostname() and not _alive(int(pid)):
                self._client.set_terminated(run.info.run_id, "KILLED")


def _note(result: RunResult, record: Mapping[str, Any]) -> str:
    chosen = chosen_sentence(record.get("chosen", ""))
    parts = [f"**{title_of(record['delta'])}**", chosen, result.spec.notes, result.spec.expect]
    return "\n\n".join(part for part in parts if part)


def _links(lab: Lab, result: RunResult) -> list[dict[str, Any]]:
    return [
        {
            "fold": _int(row["fold"]),
            "seed": int(row["seed"]),
            "cell": str((lab.cells / row["cell_id"]).relative_to(lab.root)),
        }
        for row in result.cells.to_dict("records")
    ]


def _int(value: Any) -> int | str:
    return "all" if value is None or value != value else int(value)


def _driver() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
