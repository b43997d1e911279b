"""`birdlab runs`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.columns import Column, column_lines, terminal_width
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
    lines, width = list[str](), terminal_width()
    for title, part in group_runs(table, group) if group else [("", table)]:
        lines += [*([f"{'' if not lines else chr(10)}{group} {title}"] if group else [])]
        lines += column_lines(_columns(part, more), width, "birdlab runs --csv")
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


def _columns(table: pd.DataFrame, more: list[str]) -> list[Column]:
    """The columns of the list: scores of soundscapes where any run has them, `more` that are asked
    for; chosen scores have a star.
    """
    stars = ["*" if chosen else " " for chosen in table["chosen"]]
    cmap = [
        f"{text}{star}" for text, star in zip(_scores(table["cv/padded_cmap"]), stars, strict=True)
    ]
    columns = [
        Column("run", tuple(table["run"]), gap=0, width=12),
        Column("padded cmAP ", tuple(cmap), to_right=True),
        _number("sd", _scores(table["cv/padded_cmap_sd"]), 2, 6),
        _number("floor", _scores(table["floor"]), 5, 6),
        _number("AUC", _scores(table["cv/macro_auc"]), 3, 6),
    ]
    for heard in ("soundscapes", "synthetic"):
        if table[f"cv/{heard}_padded_cmap"].notna().any():
            auc = _number("AUC", _scores(table[f"cv/{heard}_macro_auc"]), 8, 6)
            cmap = _scores(table[f"cv/{heard}_padded_cmap"])
            columns += [_number(heard, cmap, 4, 11, gap=2), replace(auc, called=f"{heard} AUC")]
    columns += [
        _number("folds", table["n_folds"], 6, 5, gap=2),
        _number("seeds", table["n_seeds"], 6, 5),
        _number("rows", [n or "" for n in table["n_rows"]], 7, 6),
        _number("classes", [n or "" for n in table["n_classes"]], 7, 7),
    ]
    columns += [_number(name, map(_cell_text, table[name]), 0, 0, gap=2) for name in more]
    columns.append(Column("status", tuple(table["status"]), 1, width=8))
    return [*columns, Column("name", tuple(map(_title, table.to_dict("records"))))]


def _number(head: str, values: Iterable[object], need: int, width: int, gap: int = 1) -> Column:
    return Column(head, tuple(map(str, values)), need, gap, width, to_right=True)


def _title(row: dict[str, Any]) -> str:
    """The name of a run, and what it changes where the name does not say it."""
    from birdlab.spec.diff import NO_CHANGE

    told = row["delta"] not in (NO_CHANGE, row["name"])
    return f"{row['name']}  [{row['delta']}]" if told else str(row["name"])


def _scores(values: Iterable[float]) -> list[str]:
    """Scores to four places; empty where there is none."""
    return ["" if value != value else f"{value:.4f}" for value in values]


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:g}"
    return "" if value is None else str(value)


def _drivers(lab: Lab) -> list[str]:
    """What is under way or failed, and so has no record yet."""
    from birdlab.tracking.drivernotes import load_drivers

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
