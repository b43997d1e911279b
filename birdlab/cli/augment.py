"""`birdlab augment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import SetOption
from birdlab.cli.files import write_file

if TYPE_CHECKING:
    from birdlab.clipshow import ClipShow


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("augment")(augment)


def augment(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    set_: SetOption = None,
    show: Annotated[
        bool, typer.Option("--show", help="Write a page to look at and to listen to.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; default: augment/ in the lab's stores."),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, max=64, help="How many clips.")] = 6,
    stage: Annotated[
        str | None, typer.Option(help="The stage whose augmentations; default: the last.")
    ] = None,
    epoch: Annotated[int, typer.Option(min=0, help="The epoch whose first clips.")] = 0,
) -> None:
    """Show what the augmentations of an experiment do to its clips, step by step.

    The clips are the first ones that training draws. Audio is decoded into the store first, as for
    training. Example: birdlab augment experiments/baseline.yaml --show -o augment.html
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.clipshow import open_show
    from birdlab.lab import open_lab
    from birdlab.spec.experiment import load_spec
    from birdlab.study.augment_report import augment_report_html

    lab = open_lab()
    experiment = load_spec(spec, set_ or [])
    name = experiment.name or spec.stem
    with CellProgress() as shown:
        found = open_show(
            experiment, lab, stage=stage, n_clips=clips, epoch=epoch, progress=shown.step
        )
    if not (show or output):
        print_lines("\n".join(_lines(found, name)))
        return
    page = output or lab.stores / "augment" / f"augment-{name}.html"
    write_file(page, augment_report_html(found, name))
    print_lines(f"wrote {page}")


def _lines(found: ClipShow, name: str) -> list[str]:
    """The numbers of every look as a table, a block for each clip."""
    from birdlab.study.augment_numbers import list_numbers

    table = list_numbers(found)
    width = max(len("step"), *(len(step) for step in table["step"]))
    lines = [f"{name}: {found.title}"]
    for clip, rows in table.groupby("clip"):
        lines += ["", f"{clip}  {rows['recording'].iloc[0]}"]
        lines.append(f"  {'step':<{width}}  {'RMS dB':>7}  {'peak':>6}  {'centroid Hz':>11}  ")
        for row in rows.to_dict("records"):
            what = "; ".join(filter(None, (row["drawn"], row["labels"])))
            quiet = "" if row["changed"] or row["step"] == rows["step"].iloc[0] else "left alone"
            lines.append(
                f"  {row['step']:<{width}}  {row['rms_db']:7.1f}  {row['peak']:6.3f}  "
                f"{row['centroid_hz']:11.0f}  {quiet or what}".rstrip()
            )
    return lines
