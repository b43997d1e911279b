"""`birdlab lb validators`."""

from __future__ import annotations

from typing import Annotated

import typer

from birdlab.cli.common import JsonOption, table_rows
from birdlab.cli.voice import print_json


def validators(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN ...]", help="Runs, named as in `show`; default: all."),
    ] = None,
    board: Annotated[
        str, typer.Option(help="The leaderboard score they are to predict: a column of the ledger.")
    ] = "private",
    json_: JsonOption = False,
) -> None:
    """Say which CV estimate predicted the order on a leaderboard, over runs that have both.

    Choosing one by this table is itself a fit to the leaderboard.

    Example: birdlab lb validators --board private
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.study.cvlb_tables import estimators_words
    from birdlab.study.cvlb_view import compare_validators
    from birdlab.study.ledger import load_ledger
    from birdlab.study.tables import StudyTables
    from birdlab.tracking.index import load_cells, load_runs
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab(extensions=False)
    chosen = [str(resolve_run(lab, text)["spec_id"]) for text in runs or []]
    tables = StudyTables(load_runs(lab), load_cells(lab), load_ledger(lab.ledger))
    found = compare_validators(tables, board, chosen)
    if json_:
        rows = table_rows(found.table)
        said = {"board": board, "n_runs": found.n, "validators": rows}
        said |= {"sentences": found.sentences, "left_out": found.left_out}
        print_json(said)
        return
    shown = estimators_words(found).rename(columns={"estimator": "validator"})
    head = f"validators against the {board} leaderboard, over {found.n} runs that all of them score"
    table = [] if shown.empty else [shown.to_string(index=False), ""]
    print_lines("\n".join([head, *table, *found.sentences, *found.left_out]))
