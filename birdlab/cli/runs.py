"""`birdlab runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("runs")(runs)


def runs(
    where: Annotated[
        list[str] | None,
        typer.Option(help="'cv/padded_cmap>0.7', train.loss.kind=focal, name~lr (repeatable)."),
    ] = None,
    project: Annotated[str, typer.Option(help="Only runs of this project.")] = "",
    sweep: Annotated[str, typer.Option(help="Only the arms of this sweep.")] = "",
    name: Annotated[str, typer.Option(help="Only names of this pattern: 'lr-*'.")] = "",
    sort: Annotated[
        str, typer.Option(help="date (default), score, train_hours, cpu_ms, a column, a field.")
    ] = "date",
    desc: Annotated[bool, typer.Option("--desc", help="The highest first, not last.")] = False,
    group: Annotated[str, typer.Option(help="sweep, project, or a column.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The N newest, or highest.")] = None,
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, every column.")] = False,
) -> None:
    """List runs with their deltas and scores, the newest or highest last.

    Example: birdlab runs --where 'score>0.7' --where train.loss.kind=focal --sort score
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.spreadsheets import csv_text
    from birdlab.tracking.index import load_runs
    from birdlab.tracking.query import RunQuery, group_runs, select_runs

    query = RunQuery(tuple(where or ()), project, sweep, name, sort, desc, limit)
    named = [*query.columns, *([group] if group and group != "sweep" else [])]
    lab = open_lab(extensions=False)
    everything = load_runs(lab, [name for name in named if name not in COSTS])
    if set(named) & set(COSTS):
        everything = _with_costs(lab, everything)
    table = everything if everything.empty else select_runs(everything, query)
    if json_:
        print_json(table)
        return
    if csv:
        sweeps = [";".join(names) for names in table["sweeps"]]
        typer.echo(csv_text(table.assign(sweeps=sweeps)), nl=False)
        return
    if table.empty:
        print_lines(
            "no runs yet; begin with: birdlab run experiments/baseline.yaml"
            if everything.empty
            else f"none of {len(everything)} runs fits"
        )
        return
    more = [column for column in named if column not in _IN_TABLE]
    lines: list[str] = []
    for title, part in group_runs(table, group) if group else [("", table)]:
        lines += [*([f"{'' if not lines else chr(10)}{group} {title}"] if group else [])]
        lines += _table_lines(part, more)
    lines += [*_remarks(table), *_luck(table, sort), *_drivers(lab)]
    print_lines("\n".join(lines))


COSTS = ("train_hours", "model_hours", "cpu_ms", "cpu_minutes", "size_mb")
"""Columns that a query may name, from what the cells and architectures of runs cost."""


def _with_costs(lab: Lab, table: pd.DataFrame) -> pd.DataFrame:
    """The runs with the columns COSTS; NaN where they are not known or hours are of two kinds."""
    from birdlab.study.cost_records import load_arm_costs
    from birdlab.tracking.index import load_records

    records = {record["spec_id"]: record for record in load_records(lab)}
    costs = load_arm_costs(lab, records).table.set_index("run")[list(COSTS)]
    return table.join(costs, on="run")


_IN_TABLE = (
    *("run", "name", "delta", "updated_at", "status", "floor", "n_folds", "n_seeds", "n_rows"),
    *("n_classes", "cv/padded_cmap", "cv/padded_cmap_sd", "cv/macro_auc", "project", "sweeps"),
)
"""Columns that need no place of their own when a query names them."""


def _table_lines(table: pd.DataFrame, more: list[str]) -> list[str]:
    """A line a run; scores of soundscapes where any run has them, chosen scores with a star.

    `more` are further columns to show.
    """
    from birdlab.spec.diff import NO_CHANGE

    scapes = [n for n in ("soundscapes", "synthetic") if table[f"cv/{n}_padded_cmap"].notna().any()]
    heard = "".join(f"{name:>11} {'AUC':>6}  " for name in scapes)
    shown = {column: [_cell_text(value) for value in table[column]] for column in more}
    widths = {column: max(map(len, [column, *texts])) for column, texts in shown.items()}
    lines = [
        f"{'run':<12}  {'padded cmAP':>11}  {'sd':>6} {'floor':>6} {'AUC':>6}  {heard}"
        f"{'folds':>5} {'seeds':>5} {'rows':>6} {'classes':>7}  "
        + "".join(f"{column:>{width}}  " for column, width in widths.items())
        + "status    name"
    ]
    for place, row in enumerate(table.to_dict("records")):
        delta = f"  [{row['delta']}]" if row["delta"] not in (NO_CHANGE, row["name"]) else ""
        heard = "".join(
            f"{_score(row[f'cv/{name}_{metric}'], width)}{end}"
            for name in scapes
            for metric, width, end in (("padded_cmap", 11, " "), ("macro_auc", 6, "  "))
        )
        lines.append(
            f"{row['run']:<12}  {_score(row['cv/padded_cmap'], 11)}{'*' if row['chosen'] else ' '} "
            f"{_score(row['cv/padded_cmap_sd'], 6)} {_score(row['floor'], 6)} "
            f"{_score(row['cv/macro_auc'], 6)}  "
            f"{heard}{row['n_folds']:>5} {row['n_seeds']:>5} {row['n_rows'] or '':>6} "
            f"{row['n_classes'] or '':>7}  "
            + "".join(f"{shown[c][place]:>{width}}  " for c, width in widths.items())
            + f"{row['status']:<8}  {row['name']}{delta}"
        )
    return lines


def _score(value: float, width: int) -> str:
    """A score to four places; blank where there is none."""
    return " " * width if value != value else f"{value:>{width}.4f}"


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:g}"
    return "" if value is None else str(value)


def _drivers(lab: Lab) -> list[str]:
    """What is under way or failed, and so has no record yet."""
    from birdlab.tracking.drivers import load_drivers

    lines = []
    for note in load_drivers(lab):
        if note.state != "finished":
            done = f"{note.count('done')} of {len(note.cells)} cells"
            said = f"  {note.said}" if note.said else ""
            lines.append(f"  {note.state:<8}  {note.name}: {done}{said}")
    return ["\nfor more: birdlab status", *lines] if lines else []


def _luck(table: pd.DataFrame, sort: str) -> list[str]:
    """That the first of a list by score had luck too, and which command says how much."""
    scored = table[table["cv/padded_cmap"].notna()]
    if sort not in ("score", "cv/padded_cmap") or len(scored) < 2:
        return []
    best = scored.loc[scored["cv/padded_cmap"].idxmax()]
    sweeps = sorted(best["sweeps"])
    told = f"birdlab report {sweeps[0]}" if sweeps else f"birdlab compare RUN {best['run']}"
    return [
        f"\nthe highest of {len(scored)} scores is high by luck too; what it is worth: {told}",
    ]


def _remarks(table: pd.DataFrame) -> list[str]:
    """What is to be known of scores side by side: chosen ones, stopped runs, other rows."""
    lines = []
    chosen = table[table["chosen"] != ""]
    if len(chosen):
        lines.append(
            "\n* the rows that are scored also picked the weights, which raises the score:"
        )
        lines += [f"  {row['run']}  {row['chosen']}" for row in chosen.to_dict("records")]
    stopped = table[table["stopped_at"] != ""]
    if len(stopped):
        lines.append("\nstopped by a race, so without a score:")
        lines += [f"  {row['run']}  {row['stopped_at']}" for row in stopped.to_dict("records")]
    groups = table[["rows_hash", "classes_hash", "n_folds"]].drop_duplicates()
    if len(groups) > 1:
        lines.append(
            f"\nthese runs were scored on {len(groups)} different sets of rows, classes or folds: "
            "scores compare within a set only"
        )
    return lines
