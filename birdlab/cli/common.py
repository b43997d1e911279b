"""Options that several commands share, and what they open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.runresult import RunResult
    from birdlab.tasks import Executor
    from birdlab.tracking.mlflow_sink import MlflowSink
    from birdlab.tracking.runextras import Beside, Extras

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field: --set train.optimizer.lr=3e-4 (repeatable)."),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="At most so many cells at once.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run cells on a Dask cluster: tls://host:8786."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Let --scheduler go without TLS, in a network you trust.")
]
SlurmOption = Annotated[
    bool, typer.Option("--slurm", help="Run cells as SLURM jobs; [slurm] in the lab file.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, train nothing.")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Go on in the background; see `birdlab status`.")
]
RestartOption = Annotated[
    bool,
    typer.Option("--restart", help="Take over from the process that runs this already."),
]
TrackOption = Annotated[
    bool, typer.Option("--mlflow/--no-mlflow", help="Log to MLflow (default) or not.")
]
SystemOption = Annotated[
    bool,
    typer.Option("--system-metrics", help="Log what processor, memory and GPUs do meanwhile."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A spec id's start, a name, an MLflow run id, SWEEP:best, @champion, or -1 (newest).",
    ),
]


@dataclass(frozen=True)
class Place:
    """Where cells run, as the options of a command say."""

    jobs: int | None = None
    scheduler: str | None = None
    slurm: bool = False
    insecure: bool = False

    @property
    def is_here(self) -> bool:
        """Whether cells run on this machine."""
        return self.scheduler is None and not self.slurm

    def open(self, lab: Lab, *, apart: bool = True) -> Executor:
        """The executor; see `open_executor`."""
        from birdlab.sweep.executors import open_executor

        return open_executor(
            lab,
            self.jobs,
            scheduler=self.scheduler,
            slurm=self.slurm,
            insecure=self.insecure,
            apart=apart,
        )


def check_choice(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    """`value` when it is one of `allowed`; SpecError that lists them otherwise."""
    if value not in allowed:
        from birdlab.errors import SpecError

        raise SpecError(f"unknown value of {option}", got=value, expected=", ".join(allowed))
    return value


def name_records(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records, each once, by name, or by spec id where the name is empty or not their own."""
    found = {record["spec_id"]: record for record in records}
    names = [record["name"] for record in found.values()]
    return {
        r["name"] if r["name"] and names.count(r["name"]) == 1 else r["spec_id"]: r
        for r in found.values()
    }


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON takes them; null where there is no number."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows


@contextmanager
def tracked(lab: Lab, track: bool, *, watch: bool = False) -> Iterator[list[MlflowSink]]:
    """The trackers of a command, MLflow or none; at its end MLflow gets what it still lacks.

    watch: log what the machine does, where the lab file does not say so already.
    """
    if not track:
        yield []
        return
    from birdlab.cli.voice import print_note
    from birdlab.tracking.mlflow_sink import MlflowSink

    watch = watch or lab.file.system_metrics
    with MlflowSink(lab, mlflow_extras(), tell=print_note, watch=watch) as sink:
        yield [sink]


def settle_dead_runs() -> None:
    """Tell MLflow how runs ended whose driver died; takes no time where there are none.

    What is said goes to standard error, so that what a command prints stays its own.
    """
    import sys

    from birdlab.lab import open_lab

    lab = open_lab(extensions=False)
    if not lab.open_runs.is_dir() or not any(lab.open_runs.iterdir()):
        return
    from birdlab.errors import TrackingError
    from birdlab.tracking.links import abandoned_links

    try:
        if not abandoned_links(lab):  # what is open belongs to drivers that live
            return
        from birdlab.tracking.sync import reconcile

        for sentence in reconcile(lab, mlflow_extras()):
            print(sentence, file=sys.stderr)
    except TrackingError as error:
        print(f"note: {error}", file=sys.stderr)


def settle_aliases() -> None:
    """Bring MLflow to the lab's aliases where a move was cut short; no time where none was."""
    import sys

    from birdlab.lab import open_lab

    lab = open_lab(extensions=False)
    if (lab.models / "moving.json").is_file():
        from birdlab.promote.aliases import settle_aliases as settle

        settle(lab, lambda sentence: print(sentence, file=sys.stderr))


def mlflow_extras() -> Extras:
    """What goes with runs into MLflow: reports, and the scores of the ledger."""
    from birdlab.tracking.runextras import Extras

    return Extras(report_artifacts, ledger_scores)


def report_artifacts(result: RunResult) -> dict[str, str]:
    """The files that go with a run in MLflow: its report as a page, and how its rows came about."""
    from birdlab.cli.reports import result_document
    from birdlab.spreadsheets import csv_text
    from birdlab.study.document_html import document_html

    files = {"report.html": document_html(result_document(result))}
    tables = {"waterfall.csv": result.waterfall, "dropped.csv": result.dropped}
    return files | {k: csv_text(v) for k, v in tables.items() if len(v.columns)}


def ledger_scores(lab: Lab) -> Mapping[str, Beside]:
    """The newest leaderboard scores of every run, as metrics and tags; a blend is no run."""
    at = lab.ledger.stat() if lab.ledger.is_file() else None
    return {} if at is None else _ledger_scores(lab.ledger, (at.st_mtime_ns, at.st_size))


@lru_cache(maxsize=1)
def _ledger_scores(ledger: Path, _written: tuple[int, int]) -> dict[str, Beside]:
    from birdlab.study.ledger import load_ledger, score_columns, sort_by_date

    table = sort_by_date(load_ledger(ledger))
    columns = score_columns(table)
    found: dict[str, Beside] = {}
    for row in table[table["members"].map(len) == 1].to_dict("records"):
        metrics = dict(found.get(row["run"], ({}, {}))[0])
        metrics |= {f"lb/{c}": float(row[c]) for c in columns if row[c] == row[c]}
        found[row["run"]] = (metrics, {"lb/metric": row["metric"]})
    return found


def copy_to_mlflow(lab: Lab, runs: Iterable[str]) -> None:
    """Put the scores of the ledger beside the CV scores of runs that MLflow has."""
    from birdlab.tracking.index import load_link

    known = [run for run in dict.fromkeys(runs) if load_link(lab, run).get("parent")]
    with tracked(lab, bool(known)) as sinks:
        for sink in sinks:
            for run in known:
                sink.update(run)


def load_result_spec(record: dict[str, Any]) -> Any:
    """The experiment spec that a record stores; ResolveError for a foreign run."""
    from birdlab.recorded import spec_of

    return spec_of(record)
