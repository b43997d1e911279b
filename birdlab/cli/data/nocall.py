"""`birdlab data nocall`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.files import write_file
from birdlab.cli.voice import print_note

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.data.catalog import Dataset
    from birdlab.lab import Lab
    from birdlab.plan import Progress

TABLES = "tables"


def register(group: typer.Typer) -> None:
    """Add the commands to the noun."""
    group.command("nocall")(nocall)


def nocall(
    dataset: Annotated[str, typer.Argument(help="The data set that holds the soundscapes.")],
    out: Annotated[str, typer.Option("--out", help="The name of the background data set.")],
    model: Annotated[
        str | None,
        typer.Option(help="Score unlabelled soundscapes: @alias, a promoted model, an ONNX file."),
    ] = None,
    below: Annotated[
        float, typer.Option(min=0, max=1, help="With --model: no class may reach this score.")
    ] = 0.1,
    margin_s: Annotated[
        float, typer.Option("--margin-s", min=0, help="Seconds kept away from every label.")
    ] = 0.5,
    min_s: Annotated[
        float, typer.Option("--min-s", min=0, help="The shortest stretch to keep, in seconds.")
    ] = 5.0,
    window_s: Annotated[
        float, typer.Option("--window-s", min=0.1, help="Windows of a table of window labels.")
    ] = 5.0,
    on_bad_file: Annotated[
        str, typer.Option(help="With --model, a file that cannot be decoded: fail or skip.")
    ] = "fail",
) -> None:
    """Make background noise of what nobody sings in: a table of stretches without any label.

    Without a model it looks at the soundscapes that have labels; with one at those without, and
    keeps what scores low. A label or a high score of a window counts for all of the window.

    Example: birdlab data nocall demo --out demo-nocall
    """
    from birdlab.cli.common import check_choice
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.data.nocall import free_stretches
    from birdlab.lab import open_lab
    from birdlab.plan import open_dataset

    check_choice("--on-bad-file", on_bad_file, ("fail", "skip"))
    lab = open_lab(extensions=False)
    table = _table_path(lab, out)
    with CellProgress() as shown:
        data = open_dataset(lab, dataset, shown.step)
        if model is None:
            soundscapes, labels = _labelled(data, window_s)
        else:
            soundscapes, labels = _scored(data, lab, model, below, on_bad_file, shown.step)
    folder = _common_folder(soundscapes)
    found = free_stretches(labels, soundscapes, margin_s=margin_s, min_s=min_s)
    loud = "label" if model is None else f"window that scores {below:g} or more"
    print_lines(_counts(found, soundscapes, labels, margin_s, min_s, loud))
    if found.empty:
        print_lines("nothing was written; try a smaller --min-s or --margin-s, or a higher --below")
        raise typer.Exit(1)
    paths = dict(zip(soundscapes["filename"], soundscapes["path"], strict=True))
    names = [Path(paths[name]).relative_to(folder).as_posix() for name in found["filename"]]
    write_file(table, found.assign(filename=names).round(6).to_csv(index=False))
    print_lines(_next_steps(lab, dataset, out, folder, table))


def _table_path(lab: Lab, out: str) -> Path:
    """Where the table goes; SpecError for a name that is none or means another data set."""
    import re

    from birdlab.errors import SpecError
    from birdlab.lab import BUILT_IN_DATA
    from birdlab.spec.sources import BackgroundSource

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", out):
        raise SpecError(
            "--out is not the name of a data set",
            got=repr(out),
            expected="letters, digits, and _ . - after the first of them",
        )
    taken = lab.file.data.get(out)
    if out in BUILT_IN_DATA or (taken is not None and not isinstance(taken, BackgroundSource)):
        raise SpecError(
            "--out is the name of another data set", got=out, fix="choose a name of its own"
        )
    return lab.root / TABLES / f"{out}.csv"


def _labelled(data: Dataset, window_s: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The soundscapes that have labels, with durations, and every label in time."""
    from birdlab.data.nocall import busy_windows, unlabelled_windows
    from birdlab.data.windows_truth import read_lacking_durations
    from birdlab.errors import DataError

    scapes = data.soundscapes[data.soundscapes["split"] != "unlabelled"].reset_index(drop=True)
    if scapes.empty or (data.annotations.empty and data.soundscape_labels.empty):
        raise DataError(
            f"the data set {data.name} has no labelled soundscapes",
            where=str(data.root),
            expected="labels of windows (soundscape_labels.csv), or annotations in time",
            fix="let a promoted model find quiet windows: --model @champion",
        )
    scapes = read_lacking_durations(scapes)
    if not data.annotations.empty:
        return scapes, data.annotations[["filename", "start_s", "end_s"]]
    return scapes, busy_windows(unlabelled_windows(data.soundscape_labels), scapes, window_s)


def _scored(
    data: Dataset, lab: Lab, model: str, below: float, on_bad_file: str, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The unlabelled soundscapes, with durations, and every window that is not quiet."""
    from birdlab.data.nocall import busy_windows, quiet_windows
    from birdlab.data.windows_truth import read_lacking_durations
    from birdlab.infer.models import find_model
    from birdlab.infer.predict import predict_soundscapes

    scapes = _unlabelled(data)
    prediction = predict_soundscapes(
        find_model(lab.models, model),
        [Path(path) for path in scapes["path"]],
        on_bad_file="zeros" if on_bad_file == "skip" else "fail",
        progress=lambda done, total: progress("scoring soundscapes", done, total),
    )
    unheard = [str(bad.path) for bad in prediction.bad_files]
    for bad in prediction.bad_files:
        print_note(f"skipped {bad.path.name}: {bad.reason.splitlines()[0]}")
    scapes = read_lacking_durations(scapes[~scapes["path"].isin(unheard)].reset_index(drop=True))
    highest = prediction.table.drop(columns="row_id").max(axis=1)
    spread = ", ".join(f"{p:.0%} {highest.quantile(p):.3f}" for p in (0.01, 0.1, 0.25, 0.5))
    typer.echo(f"highest score of a window, by share of windows that lie below: {spread}")
    quiet = quiet_windows(prediction.table, below)
    return scapes, busy_windows(quiet, scapes, prediction.card.window_s)


def _unlabelled(data: Dataset) -> pd.DataFrame:
    """Filename, path and duration of the audio nobody labelled: soundscapes, else recordings."""
    from birdlab.errors import DataError

    scapes = data.soundscapes[data.soundscapes["split"] == "unlabelled"]
    if scapes.empty:
        rows = data.recordings[data.recordings["primary_label"] == ""]
        scapes = rows.rename(columns={"recording": "filename"})
    if scapes.empty:
        raise DataError(
            f"the data set {data.name} has no unlabelled soundscapes",
            where=str(data.root),
            expected="soundscapes without labels, or a folder of audio without a table",
            fix="leave out --model to use the soundscapes that have labels",
        )
    return scapes[["filename", "path", "duration_s"]].reset_index(drop=True)


def _common_folder(soundscapes: pd.DataFrame) -> Path:
    """The folder that the table's file names will be relative to."""
    return Path(os.path.commonpath([Path(path).parent for path in soundscapes["path"]]))


def _counts(
    found: pd.DataFrame,
    soundscapes: pd.DataFrame,
    labels: pd.DataFrame,
    margin_s: float,
    min_s: float,
    loud: str,
) -> str:
    lengths_s = found["end_s"] - found["start_s"]
    heard_s = soundscapes["duration_s"].sum()
    names = set(labels["filename"])
    without = sum(name not in names for name in soundscapes["filename"])
    lines = [
        f"{len(found)} stretches of {min_s:g} s or more, {margin_s:g} s away from every {loud}: "
        f"{lengths_s.sum() / 60:.1f} of {heard_s / 60:.1f} minutes, "
        f"in {found['filename'].nunique()} of {len(soundscapes)} soundscapes",
    ]
    if len(found):
        lines.append(
            f"  length {lengths_s.min():.1f} to {lengths_s.max():.1f} s, "
            f"median {lengths_s.median():.1f} s"
        )
    lines.append(f"  {without} soundscapes are free from start to end")
    return "\n".join(lines)


def _next_steps(lab: Lab, dataset: str, out: str, folder: Path, table: Path) -> str:
    import json

    given = Path(lab.source(dataset).path)
    path = folder if given.is_absolute() else Path(os.path.relpath(folder, lab.root))
    lines = [f"wrote {table}"]
    if out not in lab.file.data:
        lines += [
            "add to birdlab.toml:",
            f"  [data.{json.dumps(out) if '.' in out else out}]",
            '  kind = "background"',
            f"  path = {json.dumps(path.as_posix(), ensure_ascii=False)}",
            f'  table = "{TABLES}/{out}.csv"',
        ]
    lines += ["use it in a spec:", "  augment:", f"    - background: {{p: 0.5, noise: [{out}]}}"]
    return "\n".join(lines)
