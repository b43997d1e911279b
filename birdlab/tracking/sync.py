"""MLflow made to agree with the lab: what a dead driver left, and a whole store that was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from birdlab.errors import TrackingError
from birdlab.lab import Lab
from birdlab.processes import is_gone
from birdlab.recorded import is_foreign
from birdlab.tracking import summaries
from birdlab.tracking.client import (
    Experiments,
    connect,
    first_line,
    may_pass,
    open_client,
    unreachable,
)
from birdlab.tracking.index import load_records
from birdlab.tracking.links import abandoned_links, current_link
from birdlab.tracking.outbox import Item, Outbox, not_logged
from birdlab.tracking.runextras import Extras
from birdlab.tracking.runwriter import LOGGED, RunWriter

RECONCILE_S = 5.0
"""How long a command waits for MLflow before it begins, where a driver died."""


@dataclass
class SyncReport:
    """What a sync wrote: run and sweep names; and what it left alone."""

    runs: list[str] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    deleted: int = 0
    unchanged: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report in sentences, shortest first."""
        lines = [f"logged      {name}" for name in self.runs]
        lines += [f"logged      summary of sweep {name}" for name in self.sweeps]
        lines += [f"ended       {text}" for text in self.ended]
        lines += [f"not logged  {name}: {why}" for name, why in self.refused.items()]
        n = len(self.runs), len(self.sweeps), len(self.ended)
        lines.append(
            f"{n[0]} runs and {n[1]} summaries logged, {n[2]} runs ended, "
            f"{self.unchanged} in MLflow already"
            + (f", {self.deleted} deleted there and left alone" if self.deleted else "")
        )
        return lines


def reconcile(lab: Lab, extras: Extras) -> list[str]:
    """What was written of runs whose driver died, in sentences; quick when there are none.

    A run with a record becomes FINISHED with its numbers, one without KILLED, one that had failed
    FAILED. What a living driver trains or writes is left to it. A store that does not answer within
    RECONCILE_S is left to the next command. Raises TrackingError for a link that cannot be read.
    """
    lost = abandoned_links(lab)
    if not lost:
        return []
    unreachable()  # imports MLflow before the clock runs
    writer, done = RunWriter(lab, lambda: open_client(lab), extras), {}

    def write(item: Item) -> None:
        done[item[1]] = writer.write(item[1])

    outbox = Outbox(write)
    for spec_id in lost:
        outbox.put(("run", spec_id))
    left = outbox.close(RECONCILE_S)
    said = [
        f"the driver of run {s} died: it is {w.upper()} in MLflow" for s, w in done.items() if w
    ]
    return said + ([not_logged(outbox, left)] if left else [])


def sync(
    lab: Lab, extras: Extras, progress: Callable[[str, int, int], None] = lambda *_: None
) -> SyncReport:
    """Writes all that MLflow lacks of the lab's runs, scores and sweeps, and says what that was.

    Runs whose driver died are ended. A run that someone deleted in MLflow stays deleted. A second
    sync writes nothing. Raises TrackingError when the store cannot be used.
    """
    client = connect(lab)
    report, writer = SyncReport(), RunWriter(lab, lambda: client, extras)
    for spec_id in abandoned_links(lab):
        _attempt(report, spec_id, partial(_write_lost, writer, spec_id, report))
    records = [record for record in load_records(lab) if not is_foreign(record)]
    stored = _stored(client, Experiments(lab, client), {r["project"] for r in records})
    for done, record in enumerate(records, 1):
        _attempt(report, record["spec_id"], partial(_sync_run, writer, stored, record, report))
        progress("writing to MLflow", done, len(records))
    for name in summaries.summarised(lab):
        _attempt(report, name, partial(_sync_sweep, lab, client, name, report))
    _end_strangers(client, report)
    return report


def _attempt(report: SyncReport, name: str, write: Callable[[], None]) -> None:
    """Write one thing; what the store refuses is noted, and a store that is away ends it all."""
    try:
        write()
    except TrackingError as error:
        report.refused[name] = first_line(error)
    except Exception as error:
        if may_pass(error):
            raise TrackingError(
                "MLflow went away while it was written to",
                where=name,
                got=first_line(error),
                fix="nothing is lost: the same command goes on",
            ) from None
        report.refused[name] = f"{type(error).__name__}: {first_line(error)}"


def _write_lost(writer: RunWriter, spec_id: str, report: SyncReport) -> None:
    _note(report, spec_id, writer.write(spec_id))


def _note(report: SyncReport, spec_id: str, done: str) -> None:
    if done == "finished":
        report.runs.append(spec_id)
    elif done:
        report.ended.append(f"{spec_id}: {done.upper()}")


def _stored(client: Any, experiments: Experiments, projects: set[str]) -> dict[str, Any]:
    """Every parent run in the store by id, deleted ones too."""
    from mlflow.entities import ViewType

    places = [experiments[project] for project in sorted(projects)]
    runs = _search(client, places, "tags.`birdlab.kind` = 'run'", ViewType.ALL)
    return {run.info.run_id: run for run in runs}


def _search(client: Any, experiments: list[str], condition: str, view: int) -> list[Any]:
    """Every run that fulfils a condition, page by page."""
    found: list[Any] = []
    token = None
    while experiments:
        page = client.search_runs(experiments, condition, view, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def _sync_run(
    writer: RunWriter, stored: Mapping[str, Any], record: Mapping[str, Any], report: SyncReport
) -> None:
    spec_id = record["spec_id"]
    run = stored.get(current_link(writer.lab, spec_id)["parent"])
    if run is not None and run.info.lifecycle_stage != "active":
        report.deleted += 1
    elif (
        run is not None
        and run.info.status == "FINISHED"
        and run.data.tags.get(LOGGED) == writer.digest(record)
    ):
        report.unchanged += 1
    elif spec_id not in report.runs:
        _note(report, spec_id, writer.write(spec_id, anew=True))


def _sync_sweep(lab: Lab, client: Any, name: str, report: SyncReport) -> None:
    run_id = summaries.load_summary_link(lab, name).get("parent", "")
    if summaries.is_due(lab, name) or not _exists(client, run_id):
        summaries.write_summary(lab, client, name)
        report.sweeps.append(name)
    else:
        report.unchanged += 1


def _exists(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _end_strangers(client: Any, report: SyncReport) -> None:
    """End what a dead driver of this machine left RUNNING and no link of the lab knows."""
    from mlflow.entities import ViewType

    experiments = [e.experiment_id for e in client.search_experiments()]
    condition = "attributes.status = 'RUNNING' and tags.`birdlab.driver` != ''"
    for run in _search(client, experiments, condition, ViewType.ACTIVE_ONLY):
        if is_gone(run.data.tags["birdlab.driver"]):
            client.set_terminated(run.info.run_id, "KILLED")
            report.ended.append(f"{run.info.run_name}: KILLED")
