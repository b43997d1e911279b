"""`birdlab data audit` and `birdlab data table`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption, SetOption, table_rows
from birdlab.cli.files import write_file
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from birdlab.data.audit.audit import Audit
    from birdlab.data.facts import Facts
    from birdlab.data.table import DataTable
    from birdlab.lab import Lab
    from birdlab.plan import Plan
    from birdlab.spec.experiment import ExperimentSpec

    Step = Callable[[str, int, int], None]

HEADERS_AT_ONCE = 256


def register(group: typer.Typer) -> None:
    """Add the commands to the noun."""
    group.command("audit")(audit)
    group.command("table")(table)


def audit(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    set_: SetOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; default: audits/ in the lab's stores."),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Look at the files too, not only the table.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there are leaks.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Find leaks, thin classes and bad files of an experiment's tables; write a page of them.

    Example: birdlab data audit experiments/baseline.yaml
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.lab import open_lab
    from birdlab.study.audit_report import audit_report_html
    from birdlab.study.audit_summary import audit_lines

    lab = open_lab()
    experiment = _load(spec, set_)
    with CellProgress() as shown:
        plan, found = _audit(experiment, lab, audio, shown.step)
    name = experiment.name
    kind = getattr(experiment.data.folds, "kind", "")
    about = [f"Spec {plan.spec_id}, {kind} folds.", *plan.missing, *plan.notes]
    page = output or lab.stores / "audits" / f"audit-{name}.html"
    write_file(page, audit_report_html(found, name, about))
    if json_:
        said: dict[str, Any] = {
            "n_base": found.n_base,
            "n_extra": found.n_extra,
            "n_classes": found.n_classes,
        }
        said |= {"has_leaks": found.has_leaks, "findings": table_rows(found.findings)}
        print_json({"run": plan.spec_id, **said, "missing": plan.missing, "page": page})
    else:
        print_lines("\n".join([*audit_lines(found, name), "", f"wrote {page}"]))
    if strict and found.has_leaks:
        raise typer.Exit(1)


def table(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file to write.")],
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Write every row with its data set, role and fold, and dropped ones with the rule that did it.

    Example: birdlab data table experiments/baseline.yaml -o rows.csv
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.data.audit.trace import DROPPED, trace_rows
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment
    from birdlab.spreadsheets import csv_text

    lab = open_lab()
    experiment = _load(spec, set_)
    with CellProgress() as shown:
        plan = plan_experiment(experiment, lab, strict=False, progress=shown.step)
        entered = _entered(plan, lab, shown.step)
    rows = trace_rows(_decodable(plan), experiment.data.clean, entered)
    write_file(output, csv_text(rows))
    n_dropped = int((rows["status"] == DROPPED).sum())
    if json_:
        counts = {"kept": len(rows) - n_dropped, "dropped": n_dropped}
        print_json({"file": output, **counts, "missing": plan.missing})
        return
    print_lines("\n".join(f"missing {text}" for text in plan.missing))
    print_lines(f"wrote {output}: {len(rows) - n_dropped:,} rows kept, {n_dropped:,} dropped")


def _load(spec: Path, set_: list[str] | None) -> ExperimentSpec:
    from birdlab.spec.experiment import load_spec

    experiment = load_spec(spec, set_ or [])
    return experiment if experiment.name else experiment.model_copy(update={"name": spec.stem})


def _audit(spec: ExperimentSpec, lab: Lab, audio: bool, step: Step) -> tuple[Plan, Audit]:
    from birdlab.data.audit.audit import audit_table
    from birdlab.plan import plan_experiment

    plan = plan_experiment(spec, lab, strict=False, progress=step)
    known = _look_at_files(plan, lab, step) if audio else {}
    return plan, audit_table(
        plan.data,
        tables=_entered(plan, lab, step),
        sample_rate_hz=plan.sample_rate_hz,
        skips_bad=plan.spec.data.on_bad_file == "skip",
        **known,
    )


def _entered(plan: Plan, lab: Lab, step: Step) -> dict[str, pd.DataFrame]:
    """The data sets of an experiment as they were loaded, before any rule."""
    from birdlab.plan import open_dataset

    unknown = {stage.data for stage in plan.unknown_stages}
    loaded = (
        set(plan.data.rows["dataset"]) | set(plan.data.stages) | set(plan.data.dropped["dataset"])
    )
    named = [*plan.spec.data.extra, *(s.data for s in plan.spec.stages if s.data is not None)]
    tables = {plan.base.name: plan.base.recordings}
    for name in named:
        if name not in tables and name in loaded and name not in unknown:
            tables[name] = open_dataset(lab, name, step).recordings
    return tables


def _decodable(plan: Plan) -> DataTable:
    """The tables without the rows that are skipped since their files cannot be decoded."""
    stages = {cell.stage.data: cell.rows.table for cell in plan.cells if cell.stage.data}
    return replace(plan.data, rows=plan.rows.table, stages={**plan.data.stages, **stages})


def _look_at_files(plan: Plan, lab: Lab, step: Step) -> dict[str, Any]:
    """The headers and keys of the files that are there, and the signals of those in the store."""
    from birdlab.data.facts import Facts
    from birdlab.data.hashes import hash_files
    from birdlab.data.waves import open_waves

    store, hashes = open_waves(lab, plan.sample_rate_hz), lab.waves / "hashes.sqlite"
    facts = Facts(
        store,
        hashes,
        build=False,
        jobs=lab.jobs,
        progress=lambda done, total: step("listening to audio", done, total),
    )
    tables = (plan.data.rows, *plan.data.stages.values())
    named = dict.fromkeys(str(path) for table in tables for path in table["path"])
    paths = [path for path in map(Path, named) if path.exists()]
    digests = zip(paths, hash_files(paths, hashes), strict=True)
    keys = {str(path): store.key(digest) for path, digest in digests if digest is not None}
    return {
        "headers": _read_headers(facts, paths, step),
        "signals": _listen(facts, keys, set(store.missing(keys.values())), lab),
        "file_keys": keys,
    }


def _read_headers(facts: Facts, paths: list[Path], step: Step) -> pd.DataFrame:
    """The header of each file, indexed by its path."""
    import pandas as pd

    headers = [pd.DataFrame()]
    for start in range(0, len(paths), HEADERS_AT_ONCE):
        part = paths[start : start + HEADERS_AT_ONCE]
        headers.append(facts.headers(part).set_axis([str(path) for path in part]))
        step("reading headers", start + len(part), len(paths))
    return pd.concat(headers[1:] or headers)


def _listen(facts: Facts, keys: dict[str, str], missing: set[str], lab: Lab) -> pd.DataFrame:
    """The signals of files in the store, and the reasons of those on the quarantine list."""
    import pandas as pd

    from birdlab.data.quarantine import load_listed

    listed = {key: file.reason for key, file in load_listed(lab.waves).items() if not file.used}
    refused = {path: listed[key] for path, key in keys.items() if key in listed}
    stored = [path for path, key in keys.items() if key not in missing and key not in listed]
    signals = facts.signals([Path(path) for path in stored]).set_axis(stored)
    bad = pd.DataFrame({"reason": refused, "content": ""}, index=list(refused))
    return pd.concat([part for part in (signals, bad) if len(part)] or [signals])
