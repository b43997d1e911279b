"""Writes one run from the lab into MLflow: a parent per recipe, a child per scored cell.

Everything is read from the disk, and every step may be repeated: a run that a crash left half
written is found by its tags and completed, not made a second time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from birdlab.cellfiles import CARD
from birdlab.lab import Lab
from birdlab.processes import own_process
from birdlab.runresult import RunResult
from birdlab.runtables import load_curves
from birdlab.spec.identity import digest
from birdlab.storedrun import load_result
from birdlab.tracking import runcontent as content
from birdlab.tracking.client import Experiments
from birdlab.tracking.index import load_record
from birdlab.tracking.links import (
    Link,
    current_link,
    edit_link,
    end,
    living,
    new_attempt,
    writing,
)
from birdlab.tracking.runextras import Extras, log_inputs, log_metrics, log_system

LOGGED = "birdlab.logged"
"""The tag that is written last: the digest of all that MLflow was told of the run."""
_LEFT_OUT = ("updated_at", "environment", "scored_from")


class RunWriter:
    """Brings MLflow up to date with what the lab holds of a run; `client` connects on first use."""

    def __init__(self, lab: Lab, client: Callable[[], Any], extras: Extras) -> None:
        self.lab, self._connect, self.extras = lab, client, extras
        self._client: Any = None
        self._experiments: Experiments | None = None

    @property
    def client(self) -> Any:
        """The MLflow client."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    @property
    def experiments(self) -> Experiments:
        """The experiments of the store."""
        if self._experiments is None:
            self._experiments = Experiments(self.lab, self.client)
        return self._experiments

    def write(self, spec_id: str, *, anew: bool = False) -> str:
        """What was written, in a word: opened, finished, killed, failed; "" when nothing was due.

        Tries that have ended are ended there too; a record that MLflow lacks is logged; a run in
        training becomes RUNNING, one whose drivers all died KILLED. `anew` logs the record though
        the link says that it was. Raises what a store that cannot be reached raises: then
        nothing is lost and the same call goes on.
        """
        with writing(self.lab, spec_id):
            link = current_link(self.lab, spec_id)
            record = self._record(spec_id)
            wanted = "" if record is None else self.digest(record)
            died = bool(link["drivers"]) and not living(link)
            if died and not link["due"] and record is None:
                with edit_link(self.lab, spec_id) as link:
                    end(link, "KILLED", "the process that trained it died")
            is_due = bool(link["due"] or anew or died)
            done = ""
            if link["ended"]:
                done = self._end_tries(spec_id, link)
            if record is not None and is_due and (anew or wanted != link["logged"]):
                self._log(spec_id, link, record, wanted)
                return "finished"
            if link["due"] or (record is not None and died):
                self._settle(spec_id, link["due"])
            elif living(link) and not link["parent"]:
                self._open(spec_id, link)
                return done or "opened"
            return done

    def digest(self, record: Mapping[str, Any]) -> str:
        """What names all that is logged of a run: record, leaderboard scores, cost of its model."""
        kept = {k: v for k, v in record.items() if k not in _LEFT_OUT}
        metrics, tags = self.extras.beside(self.lab, record)
        finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
        return digest([_plain(kept), finite, dict(tags)])

    def _record(self, spec_id: str) -> dict[str, Any] | None:
        path = self.lab.runs / f"{spec_id}.json"
        return load_record(self.lab, spec_id) if path.is_file() else None

    def _find(self, spec_id: str) -> list[Any]:
        """Every run in the store that is tagged with the recipe, parents and children."""
        from mlflow.entities import ViewType

        experiments = [e.experiment_id for e in self.client.search_experiments()]
        found = self.client.search_runs(
            experiments,
            f"tags.spec_id = '{spec_id}'",
            ViewType.ACTIVE_ONLY,
            max_results=5000,
        )
        return list(found)

    def _parent(self, link: Mapping[str, Any], found: Iterable[Any]) -> Any:
        """The parent of a try: by its id, or by the tag of a try whose id was not kept."""
        for run in found:
            same = link["attempt"] and run.data.tags.get("birdlab.attempt") == link["attempt"]
            if run.info.run_id == link["parent"] or same:
                return run
        return None

    def _create(self, link: Mapping[str, Any], spec_id: str, start_ms: int | None = None) -> Any:
        tags = {
            "birdlab.kind": "run",
            "spec_id": spec_id,
            "birdlab.driver": own_process(),
            "birdlab.attempt": link["attempt"],
            "mlflow.source.name": "birdlab",
        }
        experiment = self.experiments[link["project"]]
        name = link["name"] or spec_id
        return self.client.create_run(experiment, start_time=start_ms, run_name=name, tags=tags)

    def _open(self, spec_id: str, link: Link) -> None:
        """Show a run in training as RUNNING."""
        run = self._parent(link, self._find(spec_id)) or self._create(link, spec_id)
        with edit_link(self.lab, spec_id) as now:
            if now["attempt"] == link["attempt"]:
                now["parent"] = str(run.info.run_id)

    def _end_tries(self, spec_id: str, link: Link) -> str:
        """End earlier tries as what they came to; how the last one ended, in a word."""
        found, status = self._find(spec_id), ""
        for entry in link["ended"]:
            run = self._parent(entry, found) or self._create(entry, spec_id)
            status = entry["status"]
            self.client.set_tag(run.info.run_id, "mlflow.note.content", entry["note"])
            self.client.set_terminated(run.info.run_id, status, entry["at_ms"])
            with edit_link(self.lab, spec_id) as now:
                now["ended"] = [e for e in now["ended"] if e["attempt"] != entry["attempt"]]
        return str(status).lower()

    def _settle(self, spec_id: str, due: str) -> None:
        """Nothing is left to be written, unless someone asked again in the meantime."""
        with edit_link(self.lab, spec_id) as now:
            now["drivers"] = []
            now["due"] = "" if now["due"] == due else now["due"]

    def _log(self, spec_id: str, link: Link, record: Mapping[str, Any], wanted: str) -> None:
        """Log everything of a scored or stopped run, then say so in the store and in the link."""
        result = load_result(self.lab, spec_id)
        link = {**link, "project": record["project"], "name": record["name"]}
        with edit_link(self.lab, spec_id) as now:
            now["attempt"] = link["attempt"] = link["attempt"] or new_attempt()
        found = self._find(spec_id)
        start_ms = content.to_ms(record["created_at"])
        parent = self._parent(link, found) or self._create(link, spec_id, start_ms)
        run_id = str(parent.info.run_id)
        with edit_link(self.lab, spec_id) as now:
            now["parent"] = run_id
        self._log_parent(parent, result, record)
        children = {
            f"{content.fold_text(row['fold'])}-{row['seed']}": self._log_child(
                run_id, result, row, found
            )
            for row in (*result.cells.to_dict("records"), *record.get("full", ()))
        }
        self.client.set_terminated(run_id, "FINISHED", content.to_ms(record["updated_at"]))
        self.client.set_tag(run_id, LOGGED, wanted)
        with edit_link(self.lab, spec_id) as now:
            now["children"] = {**now["children"], **children}
            now["logged"] = wanted
        self._settle(spec_id, link["due"])

    def _log_parent(self, run: Any, result: RunResult, record: Mapping[str, Any]) -> None:
        beside, beside_tags = self.extras.beside(self.lab, record)
        metrics = {**content.parent_metrics(record), **beside}
        had = run.data.metrics
        gone = [k for k in had if k.startswith("lb/") and k not in metrics]
        metrics |= {k: math.nan for k in gone if not math.isnan(had[k])}
        tags = {**content.parent_tags(result, record), **beside_tags}
        self._log_values(run, metrics, content.parent_params(result, record), tags)
        for key in (k for k, v in tags.items() if not v and k in run.data.tags):
            self.client.delete_tag(run.info.run_id, key)
        log_inputs(self.client, run, record.get("data", ()))
        log_system(self.client, self.lab, run.info.run_id, result.spec_id)
        files = content.run_files(self.lab, result)
        for file, text in {**files, **self.extras.files(result)}.items():
            self.client.log_text(run.info.run_id, text, file)

    def _log_values(
        self,
        run: Any,
        metrics: Mapping[str, float],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Log what the run does not have yet, or has otherwise."""
        from mlflow.entities import Metric, Param, RunTag

        now, had = int(time.time() * 1000), run.data
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(k, v, now, 0) for k, v in metrics.items() if had.metrics.get(k) != v],
            params=[Param(k, v) for k, v in params.items() if k not in had.params],
            tags=[RunTag(k, v) for k, v in tags.items() if v and had.tags.get(k) != v],
        )

    def _log_child(
        self, parent: str, result: RunResult, row: Mapping[str, Any], found: Iterable[Any]
    ) -> str:
        """The id of the child run of a cell, logged once: a cell never changes."""
        tags = {"mlflow.parentRunId": parent, "cell_id": row["cell_id"]}
        run = next((r for r in found if tags.items() <= r.data.tags.items()), None)
        if run is not None and run.info.status == "FINISHED":
            return str(run.info.run_id)
        fold, seed = content.fold_text(row["fold"]), str(row["seed"])
        end_ms = self._made_ms(row["cell_id"])
        if run is None:
            tags |= {"birdlab.kind": "cell", "spec_id": result.spec_id}
            seconds = float(row.get("seconds") or 0)
            run = self.client.create_run(
                self.experiments[result.spec.project],
                start_time=end_ms - round(1000 * seconds),
                run_name=f"fold {fold}, seed {seed}",
                tags=tags,
            )
        run_id = str(run.info.run_id)
        curves = load_curves(self.lab, [row["cell_id"]])
        self._log_points(run_id, content.curve_points(curves, len(result.spec.stages)), end_ms)
        self._log_values(run, content.child_metrics(row), {"fold": fold, "seed": seed}, {})
        self.client.set_terminated(run_id, "FINISHED", end_ms)
        return run_id

    def _log_points(self, run_id: str, points: list[tuple[str, float, int]], at_ms: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, at_ms, step) for name, value, step in points]
        log_metrics(self.client, run_id, metrics)

    def _made_ms(self, cell_id: str) -> int:
        """When a cell was finished; now, where its folder is gone."""
        card = self.lab.cells / cell_id / CARD
        return int(1000 * (card.stat().st_mtime if card.is_file() else time.time()))


def _plain(value: Any) -> Any:
    """A record without numbers that JSON cannot say: NaN as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return "nan" if isinstance(value, float) and not math.isfinite(value) else value
