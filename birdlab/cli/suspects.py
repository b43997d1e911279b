"""`birdlab suspects`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.files import write_file
from birdlab.cli.voice import print_json
from birdlab.errors import OutputsError, ResolveError, SpecError

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.study.suspects import Suspects

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("suspects", context_settings={"ignore_unknown_options": True})(suspects)


def suspects(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Runs on the same data.")
    ] = None,
    sweep: Annotated[str, typer.Option(help="Every scored arm of this sweep.")] = "",
    csv: Annotated[
        Path | None, typer.Option(help="Write the list as a file that `exclude` reads.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Only so many, the most suspicious first.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to listen to them.")] = None,
    json_: JsonOption = False,
) -> None:
    """List recordings that every arm and seed gets wrong: perhaps their label is.

    Only models that did not train on a recording speak of it. Nothing is trained and nothing is
    excluded: listen, then name the list in `clean`.

    Example: birdlab suspects --sweep augmentations --csv lists/suspects.csv --html suspects.html
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.spreadsheets import csv_text

    lab = open_lab()
    records = _records(lab, runs or [], sweep)
    found = _find(lab, records)
    cut = found if most is None else replace(found, table=found.table.head(most))
    if csv is not None:
        write_file(csv, csv_text(cut.table))
    if html is not None:
        write_file(html, _page(lab, records, cut, sweep))
    if json_:
        print_json(_plain(cut, records))
        return
    print_lines("\n".join([*_lines(cut, len(found.table)), *_next(lab, cut, csv, html)]))


def _records(lab: Lab, named: list[str], sweep: str) -> dict[str, Mapping[str, Any]]:
    """The record of each run by what it is called; SpecError for none."""
    from birdlab.cli.common import name_records
    from birdlab.study.sweep_records import load_sweep
    from birdlab.tracking.resolve import resolve_run

    records: dict[str, Mapping[str, Any]] = {}
    if sweep:
        stored = load_sweep(lab, sweep)
        records = {title: stored.runs[title] for title in stored.scored}
    known = {record["spec_id"] for record in records.values()}
    more = name_records(resolve_run(lab, text) for text in named)
    for name, record in more.items():
        if record["spec_id"] not in known:
            records[record["spec_id"] if name in records else name] = record
    if not records:
        raise SpecError(
            "label suspects need runs",
            got=f"the sweep {sweep}, no arm of which is scored" if sweep else "none",
            fix="birdlab suspects RUN RUN, or birdlab suspects --sweep NAME",
        )
    return records


def _find(lab: Lab, records: Mapping[str, Mapping[str, Any]]) -> Suspects:
    """What the runs say; arms whose stored outputs are gone are named. Raises where all are."""
    from birdlab.recorded import list_networks
    from birdlab.runtables import load_fold_tables
    from birdlab.study.suspects import find_suspects

    tables, gone = {}, list[str]()
    for name, record in records.items():
        try:
            tables[name] = load_fold_tables(lab, record)
        except (OutputsError, ResolveError) as error:
            if len(gone) + 1 == len(records):
                raise
            gone.append(f"{name} does not judge: {error.what}.")
    found = find_suspects(tables, {name: list_networks(r) for name, r in records.items()})
    return replace(found, sentences=(*found.sentences, *gone))


def _page(lab: Lab, records: Mapping[str, Mapping[str, Any]], found: Suspects, sweep: str) -> str:
    """The page to listen; audio is looked for in the base of each run, then in all data sets."""
    from birdlab.lab import BUILT_IN_DATA
    from birdlab.study.sounds import Sounds
    from birdlab.study.suspect_report import suspects_html

    specs = [record.get("spec") or {} for record in records.values()]
    bases = [str(spec["data"]["base"]) for spec in specs if spec.get("data")]
    names = dict.fromkeys([*bases, *lab.file.data, *BUILT_IN_DATA])
    title = f"Label suspects of {sweep or ', '.join(records)}"
    return suspects_html(found, Sounds(lab), names, title=title, most=len(found.table))


def _lines(found: Suspects, n_all: int) -> list[str]:
    """The sentences and the table, the first rows of it."""
    from birdlab.study.suspect_report import suspect_table
    from birdlab.words import count_words

    lines = list(found.sentences)
    if found.table.empty:
        return lines
    shown = suspect_table(found).head(SHOWN).to_string(index=False)
    lines += ["", *(f"  {line}".rstrip() for line in shown.splitlines())]
    hidden = n_all - min(SHOWN, len(found.table))
    return [*lines, *([f"  and {count_words(hidden, 'recording')} more"] if hidden else [])]


def _next(lab: Lab, found: Suspects, csv: Path | None, html: Path | None) -> list[str]:
    """What was written, and how a list is used."""
    lines = [f"wrote {path}" for path in (csv, html) if path is not None]
    if csv is not None and not found.table.empty:
        inside = csv.resolve().is_relative_to(lab.root.resolve())
        name = csv.resolve().relative_to(lab.root.resolve()) if inside else csv.name
        if not inside:
            lines.append(f"A list is read from the lab only: copy it below {lab.root}.")
        lines.append(
            "next: listen, delete the lines of recordings that are right, then in the experiment "
            f"data: {{clean: [{{exclude: {name}}}]}}"
        )
    return ["", *lines] if lines else []


def _plain(found: Suspects, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The list as JSON takes it."""
    from birdlab.cli.common import table_rows

    return {
        "enough": found.enough,
        "runs": {name: record["spec_id"] for name, record in records.items()},
        "judges": [{"run": run, "seed": seed} for run, seed in found.models],
        "near_chance": [{"run": run, "seed": seed} for run, seed in found.poor],
        "judged": len(found.ranked),
        "wrong_share": None if found.wrong_share != found.wrong_share else found.wrong_share,
        "suspects": table_rows(found.table),
        "unjudged": table_rows(found.unjudged),
        "sentences": list(found.sentences),
    }
