"""`birdlab why`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.files import write_file
from birdlab.cli.voice import print_json
from birdlab.errors import OutputsError, ResolveError

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.study.why import Why

NAME = 32
"""So much of the name of a recording is printed, characters."""
Records = Mapping[str, dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("why", context_settings={"ignore_unknown_options": True})(why)


def why(
    base: Annotated[str, typer.Argument(metavar="A", help="The base: a RUN, named as in `show`.")],
    arm: Annotated[str, typer.Argument(metavar="B", help="The RUN that is compared with it.")],
    metric: Annotated[str, typer.Option(help="padded_cmap or macro_auc.")] = "padded_cmap",
    species: Annotated[int, typer.Option(min=0, help="So many species, both ways.")] = 5,
    recordings: Annotated[int, typer.Option(min=1, help="So many recordings.")] = 20,
    html: Annotated[
        Path | None, typer.Option(help="The page; default: a file in mlruns/why of the lab.")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the page or not.")] = True,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the tables there, all digits.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say why B differs from A: species and recordings that make the difference, to see and hear.

    From stored outputs; nothing is trained. The page holds spectrograms, what both models say over
    time, and sound, and needs no network.

    Example: birdlab why baseline lr:best
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab

    lab = open_lab()
    found, records = _explain(lab, base, arm, metric, recordings)
    commands = _next_commands(found, base, arm)
    written = [] if csv is None else _write_tables(found, csv)
    if page:
        path = html or _page_path(lab, found)
        _write_page(lab, found, records, path, commands)
        written.append(path)
    if json_:
        print_json(_plain(found, records, written))
    else:
        print_lines("\n".join(_lines(found, species)))
        for file in written:
            print_lines(f"wrote {file}")
        print_lines(f"next: {commands[0]}")


def _explain(lab: Lab, base: str, arm: str, metric: str, n_recordings: int) -> tuple[Why, Records]:
    """The answer, and both records by their names in it, the base first."""
    from birdlab.cli.common import name_records
    from birdlab.recorded import list_networks, name_remarks
    from birdlab.runtables import load_fold_tables
    from birdlab.study.rescoring import build_estimator
    from birdlab.study.run_tables import RunTables
    from birdlab.study.splits import count_split_folds
    from birdlab.study.why import explain
    from birdlab.tracking.evidence import load_recordists
    from birdlab.tracking.resolve import resolve_run

    records = name_records([resolve_run(lab, text) for text in (base, arm)])
    if len(records) < 2:
        raise ResolveError("a difference needs two runs", got=f"{base}, {arm}")
    recordists: dict[str, str] = {}
    for record in records.values():
        recordists = load_recordists(lab, record) | recordists
    judges, judging = _load_judges(lab, records)
    one, two = (RunTables(name, load_fold_tables(lab, r)) for name, r in records.items())
    found = explain(
        (one, two),
        recordists,
        metric=build_estimator(metric),
        split_folds=count_split_folds(next(iter(records.values()))),
        judges=judges,
        networks={name: list_networks(r) for name, r in (records | judging).items()},
        n_recordings=n_recordings,
    )
    remarks = tuple(name_remarks(records))
    return replace(found, sentences=(*found.sentences, *remarks)), records


def _load_judges(lab: Lab, records: Records) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The tables of other runs of the lab on the same rows, the newest, by id; their records."""
    from birdlab.recorded import load_record
    from birdlab.runtables import load_fold_tables
    from birdlab.study.run_choice import list_judges
    from birdlab.tracking.index import load_runs

    judges, judging = {}, {}
    for run in list_judges(load_runs(lab), [r["spec_id"] for r in records.values()]):
        with suppress(ResolveError, OutputsError):  # a line of a ledger, or outputs that are gone
            judging[run] = load_record(lab, run)
            judges[run] = load_fold_tables(lab, judging[run])
    return judges, judging


def _lines(found: Why, n_species: int) -> list[str]:
    from birdlab.study.why_words import recordings_words, species_words

    table = species_words(found)
    shown = table
    if len(table) > 2 * n_species:
        import pandas as pd

        shown = pd.concat([table.head(n_species), table.tail(n_species)])
    lines = [found.answer, *(f"  {sentence}" for sentence in found.sentences)]
    if len(shown):
        lines += ["", f"Species, {len(shown)} of {len(table)} that differ:", *_table_lines(shown)]
    lines += ["", "Recordings that move most (whole names and more: the page, --csv, --json):"]
    return [*lines, *_table_lines(_narrow(recordings_words(found), found)), ""]


def _narrow(table: pd.DataFrame, found: Why) -> pd.DataFrame:
    """The recordings in what a terminal has room for: the ends of their names, which tell apart."""
    suspect = found.recordings["suspect"].ne("").map({True: "suspect", False: ""})
    said = {f"p, {found.base}": "p of A", f"p, {found.arm}": "p of B"}
    shown = table.drop(columns=["fold", "by chance (SD)", "label suspect"], errors="ignore")
    names = [name if len(name) <= NAME else f"…{name[1 - NAME :]}" for name in table["recording"]]
    return shown.assign(recording=names, label=suspect).rename(columns=said)


def _table_lines(table: pd.DataFrame) -> list[str]:
    text = table.to_string(index=False)
    return [f"  {line}".rstrip() for line in text.splitlines()]


def _page_path(lab: Lab, found: Why) -> Path:
    from birdlab.study.document import file_name

    return lab.stores / "why" / f"{file_name(found.arm)}-against-{file_name(found.base)}.html"


def _write_page(
    lab: Lab, found: Why, records: Records, path: Path, commands: Sequence[str]
) -> None:
    from birdlab.study.sounds import Sounds
    from birdlab.study.why_hearing import iter_heard_twice
    from birdlab.study.why_report import why_html

    sounds = Sounds(lab)
    heard = iter_heard_twice(lab, found, records, sounds)
    text = why_html(found, heard, sounds, next_commands=commands)
    write_file(path, text)


def _write_tables(found: Why, folder: Path) -> list[Path]:
    from birdlab.spreadsheets import csv_text

    written = []
    for name, table in found.tables().items():
        path = folder / f"{name}.csv"
        write_file(path, csv_text(table))
        written.append(path)
    return written


def _next_commands(found: Why, base: str, arm: str) -> list[str]:
    """What to type next, the runs named as they were typed and the further judges by id."""
    import shlex

    others = [run for run in found.judges if run not in (found.base, found.arm)]
    commands = [shlex.join(["birdlab", "compare", base, arm])]
    if (found.recordings["suspect"] != "").any():
        listed = ["birdlab", "suspects", base, arm, *others, "--csv", "suspects.csv"]
        commands.insert(0, shlex.join(listed))
    return commands


def _plain(found: Why, records: Records, written: list[Path]) -> dict[str, Any]:
    from birdlab.cli.common import table_rows

    return {
        "base": found.base,
        "arm": found.arm,
        "runs": {name: record["spec_id"] for name, record in records.items()},
        "metric": found.split.metric,
        "delta": found.split.delta,
        "remainder": None if math.isnan(found.split.remainder) else found.split.remainder,
        "shown": found.shown,
        "answer": found.answer,
        "sentences": list(found.sentences),
        **{name: table_rows(table) for name, table in found.tables().items()},
        "written": [str(path) for path in written],
    }
