"""`birdlab lb`: leaderboard scores beside the runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import RunArgument, load_result_spec
from birdlab.errors import LedgerError

if TYPE_CHECKING:
    from birdlab.heldout import HeldOutScore
    from birdlab.lab import Lab

board = typer.Typer(
    help="Leaderboard scores: add, score, list, remove, import.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(board, name="lb")


@board.command("add", context_settings={"ignore_unknown_options": True})
def add(
    run: RunArgument,
    public: Annotated[float | None, typer.Option(help="The public score, 0 to 1.")] = None,
    private: Annotated[float | None, typer.Option(help="The private score, 0 to 1.")] = None,
    metric: Annotated[str, typer.Option(help="Its metric; default: the competition's.")] = "",
    note: Annotated[str, typer.Option(help="Anything worth remembering.")] = "",
) -> None:
    """Enter the leaderboard scores of a run.

    Example: birdlab lb add lr:best --public 0.844 --private 0.764
    """
    from birdlab.lab import open_lab
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    metric = metric or load_result_spec(record).competition.metric
    _enter(lab, record, metric, public, private, source="add", note=note)


@board.command("score", context_settings={"ignore_unknown_options": True})
def score(
    run: RunArgument,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="A data set with labelled soundscapes (repeatable)."),
    ] = None,
) -> None:
    """Score the mean of a run's fold models on the labelled public and private soundscapes.

    They are those of --on, else of `data.soundscapes` of the spec, else the base's own.

    Example: birdlab lb score lr:best
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.heldout import score_soundscapes
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    spec = load_result_spec(record)
    if on:
        data = spec.data.model_copy(update={"soundscapes": tuple(on)})
        spec = spec.model_copy(update={"data": data})
    with CellProgress() as shown:
        plan = plan_experiment(spec, lab, progress=shown.step)
        scores = score_soundscapes(plan, lab, progress=shown.step)
    for s in scores:
        print_lines(
            f"{s.name:<8} {s.metric} {s.score:.4f}  (floor {s.floor:.4f}, {s.n_files} files, "
            f"{s.n_windows} windows, mean of {s.n_models} models)"
        )
    for dataset, unknown in {s.dataset: s.unknown for s in scores if s.unknown}.items():
        counted = ", ".join(f"{label} {n}" for label, n in list(unknown.items())[:8])
        more = ", ..." if len(unknown) > 8 else ""
        print_lines(f"labels of {dataset} that are no class: {counted}{more}")
    named = _ledger_columns(scores)
    try:
        _enter(
            lab,
            record,
            spec.competition.metric,
            named.pop("public", None),
            named.pop("private", None),
            other=named,
            source="score",
            note=f"{scores[0].n_models} fold models",
        )
    except LedgerError as error:
        if "already" not in str(error):
            raise
        print_lines("the ledger has these scores already")


def _ledger_columns(scores: Sequence[HeldOutScore]) -> dict[str, float]:
    """Each score under its ledger column; LedgerError when two would share one."""
    columns: dict[str, float] = {}
    for s in scores:
        column = re.sub(r"[^a-z0-9_]", "_", s.name.lower())
        column = column if column[0].isalpha() else f"at_{column}"
        if column in columns:
            raise LedgerError(
                "two data sets would share a column of the ledger", got=f"{s.name}: {column}"
            )
        columns[column] = s.score
    return columns


@board.command("list")
def list_(json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the ledger, oldest first.

    Example: birdlab lb list
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.study.ledger import load_ledger

    table = load_ledger(open_lab(extensions=False).ledger)
    if json_:
        typer.echo(table.to_json(orient="records", indent=1))
    elif table.empty:
        print_lines("no leaderboard scores yet: birdlab lb add RUN --public 0.84")
    else:
        columns = [c for c in table if c not in ("source", "weights")]
        print_lines(table[columns].to_string(index=False))


@board.command("remove")
def remove(row: Annotated[str, typer.Argument(help="The id of a row, from `lb list`.")]) -> None:
    """Withdraw a row; the ledger keeps it, marked as withdrawn.

    Example: birdlab lb remove 3f2a91bc
    """
    from birdlab.lab import open_lab
    from birdlab.study.ledger import load_ledger, retract_row

    lab = open_lab()
    before = load_ledger(lab.ledger)
    retract_row(lab.ledger, row)
    typer.echo(f"withdrawn: {row}")
    _copy_to_mlflow(lab, before.loc[before["id"] == row, "run"])


@board.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The CSV that the Kaggle command line prints.")],
    metric: Annotated[str, typer.Option(help="The leaderboard's metric.")],
) -> None:
    """Import submissions, matched by a run's id in their description.

    Example: birdlab lb import submissions.csv --metric padded_cmap
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.study.submissions import import_submissions
    from birdlab.tracking.index import load_runs

    lab = open_lab()
    report = import_submissions(file, lab.ledger, load_runs(lab), metric=metric)
    if report.added:
        _copy_to_mlflow(lab, [row["run"] for row in report.added])
    lines = [f"{len(report.added)} entered, {len(report.known)} known already"]
    lines += [f"  entered    {row['name']}: {row['note']}" for row in report.added]
    lines += [f"  unmatched  {text}" for text in report.unmatched]
    if report.unmatched:
        lines.append("put a run's id into the description of a submission, or use birdlab lb add")
    print_lines("\n".join(lines))


def _enter(
    lab: Lab,
    record: dict[str, Any],
    metric: str,
    public: float | None,
    private: float | None,
    *,
    source: str,
    note: str,
    other: Mapping[str, float] | None = None,
) -> None:
    from birdlab.study.ledger import append_row

    row = {
        "run": record["spec_id"],
        "name": record["name"],
        "public": public,
        "private": private,
        "metric": metric,
        "source": source,
        "note": note,
        "weights": "folds",
        **({"other": dict(other)} if other else {}),
    }
    stored = append_row(lab.ledger, row)
    _copy_to_mlflow(lab, [record["spec_id"]])
    typer.echo(f"entered as {stored['id']}; next: birdlab dashboard")


def _copy_to_mlflow(lab: Lab, runs: Iterable[str]) -> None:
    """Put the scores of the ledger beside the CV scores of runs that MLflow has."""
    from birdlab.cli.common import tracked
    from birdlab.tracking.index import load_link

    known = [run for run in dict.fromkeys(runs) if load_link(lab, run).get("parent")]
    with tracked(lab, bool(known)) as sinks:
        for sink in sinks:
            for run in known:
                sink.update(run)
