"""`birdlab lb`: leaderboard scores beside the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.board_import import import_
from birdlab.cli.board_options import (
    CheckpointOption,
    PostprocessingOption,
    PrecisionOption,
    doubt_of_metric,
    submission_fields,
)
from birdlab.cli.board_pick import next_, pick
from birdlab.cli.board_score import enter_row, entered_words, score
from birdlab.cli.board_validators import validators
from birdlab.cli.columns import Column, column_lines, terminal_width
from birdlab.cli.common import JsonOption, copy_to_mlflow, load_result_spec
from birdlab.cli.voice import print_json, print_note
from birdlab.errors import LedgerError

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.infer.models import PromotedModel

board = typer.Typer(
    help="Leaderboard scores: add, score, list, select, remove, import, validators, pick, next.",
    no_args_is_help=True,
)
board.command("import")(import_)
board.command("validators", context_settings={"ignore_unknown_options": True})(validators)
board.command("pick", context_settings={"ignore_unknown_options": True})(pick)
board.command("score", context_settings={"ignore_unknown_options": True})(score)
board.command("next", context_settings={"ignore_unknown_options": True})(next_)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(board, name="lb")


@board.command("add", context_settings={"ignore_unknown_options": True})
def add(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="What was submitted; several for an ensemble."),
    ] = None,
    public: Annotated[float | None, typer.Option(help="The public score, 0 to 1.")] = None,
    private: Annotated[float | None, typer.Option(help="The private score, 0 to 1.")] = None,
    metric: Annotated[str, typer.Option(help="Its metric; default: the competition's.")] = "",
    date: Annotated[str, typer.Option(help="When it was submitted; default: now.")] = "",
    name: Annotated[str, typer.Option(help="What it is called; default: the run's name.")] = "",
    note: Annotated[str, typer.Option(help="Anything worth remembering.")] = "",
    weights: Annotated[
        str, typer.Option(help="folds: the models of the folds; full: models of all data.")
    ] = "folds",
    checkpoint: CheckpointOption = "",
    postprocessing: PostprocessingOption = "",
    precision: PrecisionOption = "",
    bundle: Annotated[
        str,
        typer.Option(help="The promoted model: its id, or @champion. Then RUN may be left out."),
    ] = "",
    selected: Annotated[
        bool, typer.Option("--selected", help="It is one of the final submissions.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Enter a submission: the leaderboard scores of a run, or of several runs together.

    Example: birdlab lb add lr:best --public 0.844 --private 0.764
    """
    from birdlab.infer.models import find_promoted
    from birdlab.lab import open_lab
    from birdlab.study.ledger_csv import JOINER
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    said = submission_fields(weights, checkpoint, postprocessing, precision)
    promoted = find_promoted(lab.models, bundle) if bundle else None
    records = [resolve_run(lab, run) for run in runs or (promoted.runs if promoted else ())]
    members = [record["spec_id"] for record in records]
    _check_members(members, promoted)
    row = {
        "run": members[0],
        "members": members,
        "name": name or JOINER.join(record["name"] for record in records),
        "public": public,
        "private": private,
        "metric": metric or _metric_of(records[0]),
        "source": "add",
        "note": note,
        "bundle": promoted.name if promoted else "",
        "selected": selected,
        **said,
        **({"date": date} if date else {}),
    }
    doubt = doubt_of_metric(lab, metric)
    stored = enter_row(lab, row)
    print_note(doubt)
    if json_:
        print_json(stored)
    else:
        typer.echo(entered_words(stored))


def _check_members(members: list[str], promoted: PromotedModel | None) -> None:
    if not members:
        raise LedgerError("name the run that was submitted", fix="birdlab lb add RUN --public 0.84")
    if promoted and set(members) != set(promoted.runs):
        raise LedgerError(
            f"the model {promoted.name} is not made of these runs",
            got=", ".join(members),
            expected=", ".join(promoted.runs),
        )


@board.command("list")
def list_(json_: JsonOption = False) -> None:
    """List the ledger, oldest first.

    Example: birdlab lb list
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.study.ledger import load_ledger

    table = load_ledger(open_lab(extensions=False).ledger)
    if json_:
        print_json(table)
    elif table.empty:
        print_lines("no leaderboard scores yet: birdlab lb add RUN --public 0.84")
    else:
        width, shown = terminal_width(), _shown(table)
        text = shown.to_string(index=False, na_rep="")
        lines = text.splitlines() if width is None else _fitted(shown, width)
        print_lines("\n".join(lines))


def _fitted(shown: pd.DataFrame, width: int) -> list[str]:
    """The ledger within `width` characters: scores to four places, the name last and cut."""
    scores = [column for column in shown if shown[column].dtype == "float64"]
    texts = {
        column: tuple("" if x != x else f"{x:.4f}" if column in scores else str(x) for x in values)
        for column, values in shown.items()
    }
    rest = [column for column in shown if column not in ("id", "name", *scores)]
    columns = [Column("id", texts["id"], gap=0)]
    columns += [Column(column, texts[column], to_right=True) for column in scores]
    columns += [Column(column, texts[column], 1 + place) for place, column in enumerate(rest)]
    return column_lines([*columns, Column("name", texts["name"])], width, "birdlab lb list --json")


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The ledger as it is printed: columns in which any row says something, short."""
    from birdlab.study.ledger_row import COLUMNS

    selected = ["yes" if final else "" for final in table["selected"]]
    several = [" + ".join(runs) if len(runs) > 1 else "" for runs in table["members"]]
    shown = table.assign(
        date=table["date"].str.slice(0, 16).str.replace("T", " "),
        selected=selected,
        members=several,
    )
    first, others = list(COLUMNS[:6]), [c for c in table if c not in COLUMNS]
    rest = [c for c in COLUMNS[6:] if c not in ("source", "note")]
    order = [*first, *others, *rest, "note"]
    return shown[[c for c in order if shown[c].notna().any() and (shown[c] != "").any()]]


@board.command("select")
def select(
    rows: Annotated[
        list[str], typer.Argument(metavar="ROW...", help="Ids, from `lb list`, or their starts.")
    ],
    undo: Annotated[bool, typer.Option("--undo", help="They are not, after all.")] = False,
    json_: JsonOption = False,
) -> None:
    """Say which submissions were chosen as final ones.

    Example: birdlab lb select 3f2a91bc 77d99d5a
    """
    from birdlab.lab import open_lab
    from birdlab.study.ledger import select_rows

    stored = select_rows(open_lab(extensions=False).ledger, rows, selected=not undo)
    ids = [row["selects"] for row in stored]
    if json_:
        print_json({"rows": ids, "selected": not undo})
    else:
        typer.echo(f"{'no longer ' if undo else ''}final: {', '.join(ids)}")


@board.command("remove")
def remove(
    row: Annotated[str, typer.Argument(help="The id of a row, from `lb list`, or its start.")],
    json_: JsonOption = False,
) -> None:
    """Withdraw a row; the ledger keeps it, marked as withdrawn.

    Example: birdlab lb remove 3f2a91bc
    """
    from birdlab.lab import open_lab
    from birdlab.study.ledger import load_ledger, retract_row

    lab = open_lab()
    before = load_ledger(lab.ledger)
    gone = retract_row(lab.ledger, row)["tombstone_of"]
    if json_:
        print_json({"withdrawn": gone})
    else:
        typer.echo(f"withdrawn: {gone}")
    copy_to_mlflow(lab, before.loc[before["id"] == gone, "run"])


def _metric_of(record: dict[str, Any]) -> str:
    """The metric of a run's competition, or that of the ledger which it is a line of."""
    from birdlab.recorded import is_ledger_line

    if is_ledger_line(record):
        return str(record["evaluation"]["metric"])
    return str(load_result_spec(record).competition.metric)
