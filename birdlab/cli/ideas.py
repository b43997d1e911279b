"""`birdlab ideas`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json
from birdlab.words import cut_text

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.study.ideas import By, IdeaLedger
    from birdlab.study.lab_ideas import LabIdeas
    from birdlab.study.reopen import Reopening
    from birdlab.study.stale import Today

TITLE_WIDTH, WIDTH = 26, 100
SHOWN_REOPENED = 10


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("ideas")(ideas)


def ideas(
    idea: Annotated[
        str, typer.Argument(help="One idea in detail: the start of its id, or part of its title.")
    ] = "",
    family: Annotated[
        bool, typer.Option("--family", help="Count alike fields as one idea, whatever the values.")
    ] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="List the verdicts whose base is not today's.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(help="Today's base as a file; default: the champion, else the newest run."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", help="Read the sweeps of this lab too (repeatable)."),
    ] = None,
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="The table as CSV.")] = False,
) -> None:
    """Show what all sweeps say of each idea, apart from its base, and what to try again.

    Example: birdlab ideas or_mixup --base experiments/baseline.yaml
    """

    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.spreadsheets import csv_text
    from birdlab.study.ideas import find_idea
    from birdlab.study.lab_ideas import load_ideas

    by: By = "family" if family else "idea"
    labs = [open_lab(path, extensions=False) for path in also or []]
    lab = open_lab(extensions=base is not None)
    found = load_ideas(lab, also=labs, by=by, today=None if base is None else _read_base(base))
    one = find_idea(found.ledger, idea) if idea else None
    if json_:
        print_json(_as_json(found, one, stale))
    elif csv:
        typer.echo(csv_text(_table(found, one, stale)), nl=False)
    elif one is not None:
        print_lines("\n".join(_detail_lines(found.ledger, one)))
    else:
        print_lines("\n".join(_lines(found, stale)))


def _read_base(path: Path) -> Today:
    from birdlab.spec.experiment import load_spec
    from birdlab.study.stale import Today

    return Today(load_spec(path).model_dump(mode="json"), str(path), str(path))


def _table(found: LabIdeas, one: dict[str, Any] | None, stale: bool) -> pd.DataFrame:
    if stale:
        return found.stale
    if one is None:
        return found.ledger.ideas
    own = found.ledger.of(str(one["idea"]))
    return own.drop(columns=["cells", "base_cells"])


def _as_json(found: LabIdeas, one: dict[str, Any] | None, stale: bool) -> dict[str, Any]:
    from birdlab.cli.common import table_rows

    said: dict[str, Any] = {"by": found.ledger.by, "sentences": list(found.sentences)}
    if one is not None:
        rows = found.ledger.ideas
        said["idea"] = table_rows(rows[rows["idea"] == one["idea"]])[0]
        return said | {"verdicts": table_rows(_table(found, one, stale))}
    said["ideas"] = table_rows(found.ledger.ideas)
    said["stale"] = table_rows(found.stale)
    if found.reopening is not None:
        said["reopening"] = table_rows(found.reopening.table)
        said["reopening_sentences"] = list(found.reopening.sentences)
    return said


def _lines(found: LabIdeas, stale: bool) -> list[str]:
    if stale:
        return [*_stale_lines(found), "", *_wrap(found.sentences)]
    by_id = found.ledger.by == "idea"
    name, width = (f"{'id':<8}  ", TITLE_WIDTH) if by_id else ("", TITLE_WIDTH + 10)
    lines = [
        f"{name}{found.ledger.by:<{width}} {'tried':>5} {'bases':>5} {'data':>4} {'mean':>7}  "
        f"{'interval':<16}  says"
    ]
    for row in found.ledger.ideas.to_dict("records"):
        name = f"{str(row['idea'])[:8]:<8}  " if by_id else ""
        lines.append(
            f"{name}{cut_text(row['title'], width):<{width}} "
            f"{row['n_verdicts']:>5} {row['n_bases']:>5} {row['n_data']:>4} "
            f"{_signed(row['mean']):>7}  {_interval(row['low'], row['high']):<16}  {row['says']}"
        )
    lines = lines if len(found.ledger.ideas) else []
    lines += ["", *_wrap(found.sentences)]
    return lines if found.reopening is None else [*lines, "", *_reopen_lines(found.reopening)]


def _stale_lines(found: LabIdeas) -> list[str]:
    lines: list[str] = []
    for row in found.stale.to_dict("records"):
        lines += [
            f"{row['sweep']}: {row['arm']}  {row['verdict']}  {_signed(row['gain'])}  "
            f"{row['decided_at']}  today's base: {row['today']}",
            f"    {cut_text(row['title'], WIDTH)}",
            *_wrap([f"changed since: {row['changed_since']}"], "    "),
        ]
    none = "no verdict is stale" if found.today is not None else "nothing to hold verdicts against"
    return lines or [none]


def _reopen_lines(found: Reopening) -> list[str]:
    lines = ["what is worth a new try on today's base"]
    table = found.table.head(SHOWN_REOPENED)
    known = found.spread is not None
    if known and len(table):
        lines.append(
            f"  {'worth':>6} {'chance':>6} {'expected':>8} {'seen':>8} {'changed':>7} {'cells':>5} "
            f"{'hours':>6}  try"
        )
    for row in table.to_dict("records") if known else ():
        lines += [
            f"  {row['worth']:6.4f} {100 * row['chance']:4.0f} % {row['expected']:+8.4f} "
            f"{row['observed']:+8.4f} {row['n_changed']:>7} {row['cells']:>5} "
            f"{row['hours']:6.2f}  {row['try']} {cut_text(row['title'], WIDTH - 66)}",
            f"      {row['command']}",
        ]
    return [*lines, *_wrap(found.sentences, "  ")]


def _detail_lines(ledger: IdeaLedger, one: dict[str, Any]) -> list[str]:
    from birdlab.study.ideas import over_data

    name = str(one["idea"])
    lines = [*_wrap([f"{name}  {one['title']}"]), f"family {one['family']}", ""]
    lines.append(
        f"  {'effect':>8} {'error':>7} {'folds':>5}  {'sweep: arm':<38} {'data':<12} verdict"
    )
    for row in ledger.of(name).to_dict("records"):
        arm = cut_text(f"{row['sweep']}: {row['arm']}", 38)
        why = f"; does not count: {row['left_out']}" if row["left_out"] else ""
        taken = " (taken back)" if row["sign"] < 0 else ""
        se = "" if row["se"] != row["se"] else f"{row['se']:.4f}"
        lines.append(
            f"  {row['gain']:+8.4f} {se:>7} {row['n_folds']:>5}  {arm:<38} {row['data']:<12} "
            f"{row['verdict']}{taken}{why}"
        )
    bases = ledger.bases(name)
    lines += ["", *_wrap([str(one["note"])])]
    data = over_data(bases) if len(bases) else None
    if data is not None:
        said = f"{data.mean:+.4f} ({data.low:+.4f} to {data.high:+.4f}) over {data.n} data sets"
        lines += _wrap([f"Each data set as one: {said}."])
    return lines


def _wrap(sentences: Any, indent: str = "") -> list[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            sentence, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
        )
    ]


def _signed(value: float) -> str:
    return "" if value != value else f"{value:+.4f}"


def _interval(low: float, high: float) -> str:
    return "" if low != low else f"{low:+.4f}..{high:+.4f}"
