"""`birdlab gc`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birdlab.cli.voice import print_json


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("gc")(gc)


def gc(
    keep_days: Annotated[
        float, typer.Option(min=0, help="What nothing refers to stays for so many days.")
    ] = 14.0,
    waveforms: Annotated[
        bool, typer.Option("--waveforms", help="Also decoded audio of no data set of the lab.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Free it without asking.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON; frees nothing.")] = False,
) -> None:
    """List what the lab can do without, with sizes, and free it when told to.

    Cells of no run, checkpoints nobody went on with, leftovers of killed processes, old
    failures, old drivers, pages that a command writes again. What a run, a start of one or a
    running driver needs is never touched.
    Example: birdlab gc --keep-days 30 --yes
    """

    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.upkeep.garbage import find_garbage, free_garbage

    lab = open_lab(extensions=False)
    found = find_garbage(lab, keep_days, waveforms=waveforms)
    if json_:
        rows = [{**vars(item), "path": str(item.path)} for item in found]
        print_json(rows)
        return
    if not found:
        print_lines("nothing to free")
        return
    lines = [f"{in_bytes(i.n_bytes):>10}  {i.kind:<10}  {i.path.name}  ({i.reason})" for i in found]
    print_lines("\n".join([*lines, f"{in_bytes(sum(i.n_bytes for i in found)):>10}  in all"]))
    if not yes and not (sys.stdin.isatty() and typer.confirm("free it?")):
        print_lines("nothing was freed; free it with: birdlab gc --yes")
        return
    gone = free_garbage(lab, found)
    held = len(found) - len(gone)
    left = f"; {held} in use by now, left alone" if held else ""
    print_lines(f"freed {in_bytes(sum(i.n_bytes for i in gone))}{left}")


def in_bytes(n: int) -> str:
    """A size in words: "12 B", "3.4 MB"."""
    size, units = float(n), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.1f} {units[0]}"
