"""`birdlab data xenocanto`."""

from __future__ import annotations

import math
import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.voice import print_note
from birdlab.durations import in_time

if TYPE_CHECKING:
    from birdlab.data.xenocanto.download import Outcome
    from birdlab.data.xenocanto.plan import DownloadPlan, Known
    from birdlab.data.xenocanto.species import SpeciesList
    from birdlab.lab import Lab

URL_VARIABLE = "BIRDLAB_XENO_CANTO_URL"
"""Another address of the API: a mirror, or the server of the tests."""


def register(group: typer.Typer) -> None:
    """Add the commands to the noun."""
    group.command("xenocanto")(xenocanto)


def xenocanto(
    out: Annotated[Path, typer.Option(help="The folder to download to; it may hold some already.")],
    species: Annotated[
        Path | None,
        typer.Option(help="A table of the species: columns primary_label, scientific_name."),
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="A query of Xeno-canto's tags: 'gen:turdus cnt:spain q:A'.")
    ] = None,
    quality: Annotated[str, typer.Option(help="Qualities to take: A,B (A best, E worst).")] = "",
    min_length: Annotated[float, typer.Option(help="The shortest recording, in seconds.")] = 0.0,
    max_length: Annotated[
        float | None, typer.Option(help="The longest recording, in seconds.")
    ] = None,
    license_: Annotated[
        list[str] | None,
        typer.Option("--license", help="A part of the licence's address, as /by-nc/ (repeatable)."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A data set of the lab: what it has is not fetched.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fetch no more files than this.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask what there is and what would be fetched.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.0, hidden=True, help="Seconds between requests to a test server.")
    ] = 1.0,
) -> None:
    """Fetch recordings from Xeno-canto with a ledger of their licences; needs XENO_CANTO_KEY.

    At most one request a second. Stop it at any time: the same command goes on where it was.

    Example: birdlab data xenocanto --species species.csv --out data/xc --against birdclef-2023
    """
    from birdlab.cli.interrupt import INTERRUPTED
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.data.xenocanto.client import load_key
    from birdlab.data.xenocanto.download import download
    from birdlab.data.xenocanto.plan import plan_download
    from birdlab.data.xenocanto.selection import Filters
    from birdlab.data.xenocanto.web import API_URL, Web
    from birdlab.lab import open_lab

    wish = _wish(species, query)
    letters = tuple(part.strip().upper() for part in quality.split(",") if part.strip())
    longest_s = math.inf if max_length is None else max_length
    filters = Filters(letters, min_length, longest_s, tuple(license_ or ()))
    address = os.environ.get(URL_VARIABLE, "").strip() or API_URL
    web = Web(load_key(), address, interval_s=interval, on_wait=_say_wait)
    lab = open_lab()
    known = _load_known(lab, against) if against else None
    with web, CellProgress() as shown:
        pages, files = partial(shown.step, "asking Xeno-canto"), partial(shown.step, "downloading")
        try:
            plan = plan_download(web, out, wish, filters, known=known, limit=limit, on_page=pages)
            print_lines(_plan_text(plan, out, interval))
            if dry_run:
                print_lines(f"\n{_table_text(plan, None)}\n\nnothing was fetched (--dry-run)")
                return
            outcome = download(web, plan.selection, out, limit=limit, on_file=files)
        except KeyboardInterrupt:
            print_note(f"stopped; what is in {out} is listed there, the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    print_lines(_end_text(lab, plan, out, outcome))
    if outcome.failed or outcome.stopped:
        raise typer.Exit(1)


def _wish(species: Path | None, query: str | None) -> SpeciesList | str:
    from birdlab.data.xenocanto.species import load_species
    from birdlab.errors import SpecError

    if species is not None and query is None:
        return load_species(species)
    if query is not None and query.strip() and species is None:
        return query.strip()
    raise SpecError(
        "the recordings to fetch are not named",
        got="both --species and --query" if species and query else "neither",
        expected="--species FILE or --query Q",
    )


def _load_known(lab: Lab, name: str) -> Known:
    from birdlab.data.sources import load_source
    from birdlab.data.xenocanto.plan import known_recordings

    return known_recordings(load_source(lab.source(name), name, lab.dataset_root(name), lab.root))


def _plan_text(plan: DownloadPlan, out: Path, interval_s: float) -> str:
    chosen = plan.selection
    lines = [f"found {len(plan.answer.recordings)} recordings of {len(chosen.found)} species"]
    if plan.answer.unusable:
        lines.append(f"  {len(plan.answer.unusable):>6}  left out: rows without a usable number")
    for reason, count in chosen.reasons.items():
        examples = [f"XC{skip.xc_id}" for skip in chosen.skipped if skip.reason == reason][:3]
        more = ", ..." if count > 3 else ""
        lines.append(f"  {count:>6}  left out: {reason} ({', '.join(examples)}{more})")
    if chosen.dropped_names:
        lines.append(
            f"  {sum(chosen.dropped_names.values()):>6}  mentions of {len(chosen.dropped_names)} "
            "background species dropped: the list has no label for them"
        )
    absent = [name for name in plan.species.names if not chosen.found[_label(plan, name)]]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        lines.append(f"  none of: {', '.join(absent[:5])}{more} (a synonym may have some)")
    if plan.known and not any(plan.known.counts.get(label) for label in chosen.found):
        lines.append(f"  no label of these occurs in {plan.known.name}: its counts are 0")
    lines.append(
        f"{len(chosen.wanted)} passed: {plan.n_here} here already, {len(plan.to_fetch)} to fetch"
        + (_take_words(plan, out, interval_s) if plan.to_fetch else "")
    )
    return "\n".join(lines)


def _take_words(plan: DownloadPlan, out: Path, interval_s: float) -> str:
    """The least time and the most room that the files to fetch take, beside the room there is."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(there).free
    unknown = f", less {plan.n_unknown} of unknown size" if plan.n_unknown else ""
    short = "; they may not fit" if plan.most_bytes > free_bytes else ""
    return (
        f" in {in_time(len(plan.to_fetch) * interval_s)} or more; at most "
        f"{plan.most_bytes / 1e9:.2f} GB{unknown}, {free_bytes / 1e9:.2f} GB free{short}"
    )


def _label(plan: DownloadPlan, name: str) -> str:
    return plan.species.label_of(name) or ""


def _table_text(plan: DownloadPlan, outcome: Outcome | None) -> str:
    table = plan.table(outcome.finished if outcome else plan.before)
    if plan.known:
        table = table.rename(columns={"in data set": f"in {plan.known.name}"})
    if outcome is None:
        table = table.drop(columns=[c for c in table.columns if c.endswith("after")])
    return str(table.to_string(index=False))


def _end_text(lab: Lab, plan: DownloadPlan, out: Path, outcome: Outcome) -> str:
    lines = [f"fetched {outcome.n_fetched} files, {outcome.n_bytes / 1e6:.1f} MB", ""]
    lines += [_table_text(plan, outcome), ""]
    for skip in outcome.failed[:10]:
        lines.append(f"failed: XC{skip.xc_id}: {skip.reason}  {skip.detail}")
    if len(outcome.failed) > 10:
        lines.append(f"failed: {len(outcome.failed) - 10} more")
    if outcome.stopped:
        lines.append(f"stopped: {outcome.stopped}; {outcome.left} files were not tried")
    if outcome.failed or outcome.stopped:
        lines.append("the same command tries again")
    lines.append(f"{out}: recordings.csv, ledger.csv (licences), skipped.csv (left out, and why)")
    if outcome.finished:
        lines += ["", "next: add this to birdlab.toml, and the name to data.extra of a spec"]
        lines += _toml_entry(lab, out)
    return "\n".join(lines)


def _toml_entry(lab: Lab, out: Path) -> list[str]:
    """The lines that make a download a data set of the lab."""
    import json
    import re

    place = out.resolve()
    path = lab.name_path(place)
    name = re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-") or "xenocanto"
    quoted = json.dumps(path.as_posix(), ensure_ascii=False)
    return [f"  [data.{name}]", f"  path = {quoted}", '  kind = "xenocanto"']


def _say_wait(why: str, seconds: float) -> None:
    if seconds >= 1:
        print_note(f"{why}; trying again in {seconds:.0f} s")
