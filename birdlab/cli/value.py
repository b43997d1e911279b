"""`birdlab value`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.study.arm_costs import ArmCosts
    from birdlab.study.cost_values import CostValues
    from birdlab.study.savings import Savings


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("value", context_settings={"ignore_unknown_options": True})(value)


def value(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP | RUN RUN...", help="A sweep, or runs of which the first is the base."
        ),
    ],
    html: Annotated[
        Path | None, typer.Option(help="Write table and Pareto figures to this .html or .md.")
    ] = None,
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, every column.")] = False,
) -> None:
    """Read a ranking as gain per hour of training and per CPU millisecond of a window.

    A price is told where the verdict is better or worse; else the interval. Nothing is trained.

    Example: birdlab value one_factor --html value.html
    """
    from birdlab.cli.progress import print_lines
    from birdlab.cli.reports import check_ending, write_report
    from birdlab.cli.value_words import value_json, value_lines
    from birdlab.lab import open_lab
    from birdlab.spreadsheets import csv_text
    from birdlab.study.cost_report import build_value_document

    if html is not None:
        check_ending(html)
    lab = open_lab(extensions=False)
    values, costs, savings = _read(lab, names)
    if json_:
        print_json(value_json(values, costs, savings))
    elif csv:
        typer.echo(csv_text(values.table), nl=False)
    else:
        print_lines("\n".join(value_lines(values, costs, savings)))
    if html is not None:
        document = build_value_document(", ".join(names), values, costs, savings, "padded cmAP")
        for path in write_report(document, html):
            typer.echo(f"wrote {path}", err=json_ or csv)


def _read(lab: Lab, names: list[str]) -> tuple[CostValues, ArmCosts, Savings | None]:
    """What gains cost, and what the cache and the race of a sweep saved.

    Raises ResolveError for a name that is neither, and for a sweep with fewer than two scored arms.
    """
    from birdlab.errors import ResolveError
    from birdlab.study.other_effects import load_judged_sweep
    from birdlab.tracking.resolve import resolve_sweep_or_run

    if len(names) > 1:
        return (*_of_runs(lab, names), None)
    if resolve_sweep_or_run(lab, names[0]) is not None:
        raise ResolveError(
            "a gain needs two runs", got=names[0], expected="a sweep that ended, or RUN RUN"
        )
    sweep = load_judged_sweep(lab, names[0])
    if sweep.values is None:
        raise ResolveError(
            "nothing to weigh: a gain needs two scored arms",
            where=names[0],
            got=f"{len(sweep.scored)} scored",
            fix="birdlab sweep its file: what is in the cache is not trained again",
        )
    return sweep.values, sweep.costs, sweep.savings


def _of_runs(lab: Lab, names: list[str]) -> tuple[CostValues, ArmCosts]:
    """The same of runs, re-scored on what they share with the first."""
    from birdlab.cli.compare import compare_named
    from birdlab.cli.value_words import weigh_runs
    from birdlab.study.compare import HEADLINE

    found, called = compare_named(lab, names, HEADLINE, 0.005, 0)
    return weigh_runs(lab, found, called)
