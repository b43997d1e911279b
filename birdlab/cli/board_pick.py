"""`birdlab lb pick` and `birdlab lb next`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption, table_rows
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.study.pick_rows import BoardRows

SHOWN = 20
NAME_WIDTH = 22
"""Characters of a name, so that the table stays within 100 columns."""

RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN ...]", help="The candidates, runs or blends; default: all."),
]
SeenOption = Annotated[str, typer.Option(help="The leaderboard that is seen before the pick.")]
BoardOption = Annotated[str, typer.Option(help="The leaderboard that decides.")]
ShareOption = Annotated[
    float, typer.Option(help="The part of the files that the seen leaderboard scores.")
]
NoiseOption = Annotated[
    float | None,
    typer.Option(help="SD of a seen score over other draws of as many files, if you know it."),
]
CvOption = Annotated[str, typer.Option(help="The CV score; default: cv/ and the metric.")]
MetricOption = Annotated[str, typer.Option(help="The metric; default: that of most submissions.")]
LearnOption = Annotated[
    bool,
    typer.Option("--learn-private", help="Learn the noise from private scores of candidates too."),
]
OutputsOption = Annotated[
    bool,
    typer.Option(
        "--outputs/--lineages",
        help="Which runs are alike: by their stored outputs, or by their lineages.",
    ),
]


def pick(
    runs: RunsArgument = None,
    n: Annotated[int, typer.Option("--n", min=1, max=5, help="How many to pick.")] = 2,
    unsubmitted: Annotated[
        bool, typer.Option("--unsubmitted", help="Pick also among runs without a score.")
    ] = False,
    seen: SeenOption = "public",
    board: BoardOption = "private",
    public_share: ShareOption = 0.3,
    public_noise: NoiseOption = None,
    cv: CvOption = "",
    metric: MetricOption = "",
    learn: LearnOption = False,
    outputs: OutputsOption = True,
    json_: JsonOption = False,
) -> None:
    """Say which final submissions have the highest expected best private score.

    Private scores of the candidates are not looked at; those of other runs tell the noise.

    Example: birdlab lb pick --public-share 0.34
    """
    from birdlab.lab import open_lab
    from birdlab.study.pick_view import build_pick
    from birdlab.study.pick_words import PICK_COLUMNS

    rows = _list_rows(open_lab(extensions=False), runs, seen, board, metric, cv, learn, outputs)
    view = build_pick(
        rows, n=n, unsubmitted=unsubmitted, public_share=public_share, public_noise=public_noise
    )
    told = [*view.sentences, *(f"Left out: {text}" for text in rows.left_out)]
    if json_:
        parts: dict[str, object] = {
            "picked": view.pick.pair,
            "submissions": view.submissions,
            "expected_best": view.pick.expected_best,
        }
        tables = {"candidates": view.pick.table, "compared": view.pick.compared}
        _print_json(parts, tables | {"judged": view.judged}, told)
        return
    waiting = [run for run in view.pick.pair if run not in rows.submitted]
    first = f"birdlab lb add {waiting[0]} --{seen} SCORE" if waiting else ""
    follow = f"submit {' and '.join(waiting)}, then {first}" if waiting else ""
    ends = ["", f"next: {follow or 'birdlab lb select ' + ' '.join(view.submissions)}"]
    table = view.pick.table
    shown = table[(table.index < SHOWN) | table["picked"]]
    _print_table(shown, PICK_COLUMNS, told + ends)


def next_(
    runs: RunsArgument = None,
    seen: SeenOption = "public",
    board: BoardOption = "private",
    public_share: ShareOption = 0.3,
    public_noise: NoiseOption = None,
    cv: CvOption = "",
    metric: MetricOption = "",
    learn: LearnOption = False,
    outputs: OutputsOption = True,
    json_: JsonOption = False,
) -> None:
    """Say which run without a leaderboard score is worth submitting next, and why.

    Example: birdlab lb next --public-share 0.34
    """
    from birdlab.lab import open_lab
    from birdlab.study.pick_view import build_next
    from birdlab.study.pick_words import NEXT_COLUMNS

    rows = _list_rows(open_lab(extensions=False), runs, seen, board, metric, cv, learn, outputs)
    view = build_next(rows, public_share=public_share, public_noise=public_noise)
    told = [*view.sentences, *(f"Left out: {text}" for text in rows.left_out)]
    if json_:
        _print_json({}, {"candidates": view.table}, told)
        return
    _print_table(view.table[:SHOWN], NEXT_COLUMNS, told)


def _list_rows(
    lab: Lab,
    runs: list[str] | None,
    seen: str,
    board: str,
    metric: str,
    cv: str,
    learn: bool,
    outputs: bool,
) -> BoardRows:
    from birdlab.study.blend_tables import load_blends, stored_reader
    from birdlab.study.ledger import load_ledger
    from birdlab.study.output_likeness import measure_likeness
    from birdlab.study.pick_rows import add_likeness, list_board
    from birdlab.study.tables import StudyTables
    from birdlab.tracking.index import load_cells, load_runs
    from birdlab.tracking.resolve import resolve_run

    tables = StudyTables(load_runs(lab), load_cells(lab), load_ledger(lab.ledger))
    read = stored_reader(lab)
    blended = load_blends(lab, tables, read)
    chosen = dict.fromkeys(
        blended.find(text) or str(resolve_run(lab, text)["spec_id"]) for text in runs or []
    )
    rows = list_board(
        blended, runs=list(chosen), seen=seen, board=board, metric=metric, cv=cv, learn=learn
    )
    if not outputs:
        return rows
    return add_likeness(rows, lambda runs: measure_likeness(runs, blended.reader(read)))


def _print_json(
    parts: dict[str, object], tables: dict[str, pd.DataFrame], sentences: list[str]
) -> None:
    said = {name: table_rows(table) for name, table in tables.items()}
    print_json({**parts, **said, "sentences": sentences})


def _print_table(table: pd.DataFrame, columns: tuple[str, ...], sentences: list[str]) -> None:
    from birdlab.cli.progress import print_lines
    from birdlab.study.pick_words import candidates_words
    from birdlab.words import cut_text

    names = table["name"].map(lambda name: cut_text(name, NAME_WIDTH))
    words = candidates_words(table.assign(name=names), columns)
    lines = [words.to_string(index=False)] if len(table) else []
    print_lines("\n".join([*lines, *([""] if lines else []), *sentences]))
