"""`birdlab bets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption, table_rows
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.study.bets import BetScores


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("bets")(bets)


def bets(
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, a line per bet.")] = False,
) -> None:
    """Show what was bet on in `expect:`, how it came out, and whether people are as sure as right.

    Example: birdlab bets
    """

    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.spreadsheets import csv_text
    from birdlab.study.lab_bets import load_bets

    found = load_bets(open_lab(extensions=False))
    if json_:
        print_json(_as_json(found))
    elif csv:
        typer.echo(csv_text(found.table), nl=False)
    else:
        print_lines("\n".join(_lines(found)))


def _lines(found: BetScores) -> list[str]:
    from birdlab.study.bets import outcome_sentences

    lines: list[str] = []
    for sweep, table in found.table.groupby("sweep", sort=False):
        said = [*outcome_sentences(table), *_words(table)]
        lines += [f"{sweep}", *(f"  {sentence}" for sentence in said), ""]
    lines += found.sentences
    for row in found.reliability.to_dict("records"):
        lines.append(
            f"  sure {row['from']:.1f} to {row['to']:.1f}: {row['n']} bets, {row['sure']:.2f} on "
            f"average, true in {row['right']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        )
    return lines


def _words(table: pd.DataFrame) -> list[str]:
    return [f"in words: {text}" for text in table[table["outcome"] == "words"]["bet"]]


def _as_json(found: BetScores) -> dict[str, object]:
    from dataclasses import asdict

    calibration = found.calibration
    return {
        "bets": table_rows(found.table),
        "sentences": list(found.sentences),
        "brier": None if found.brier != found.brier else found.brier,
        "brier_base": None if found.brier_base != found.brier_base else found.brier_base,
        "calibration": None
        if calibration is None
        else {**asdict(calibration), "verdict": calibration.verdict},
        "reliability": table_rows(found.reliability),
    }
