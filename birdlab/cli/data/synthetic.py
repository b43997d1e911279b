"""`birdlab data synthetic`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdlab.cli.common import SetOption
from birdlab.cli.files import write_file, writing


def register(group: typer.Typer) -> None:
    """Add the command to the noun."""
    group.command("synthetic")(synthetic)


def synthetic(
    spec: Annotated[Path, typer.Argument(help="An experiment file with evaluate.synthetic.")],
    set_: SetOption = None,
    fold: Annotated[int, typer.Option(min=0, help="The fold whose recordings are mixed.")] = 0,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="How many of them, the first ones.")
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder; default: synthetic/ in the lab's stores."),
    ] = None,
) -> None:
    """Write synthetic soundscapes of a fold: sound, truth, and a page to look and listen.

    truth.csv has the columns of annotations, so that the folder can be a data set of soundscapes.

    Example: birdlab data synthetic experiments/baseline.yaml --set
    'evaluate.synthetic={backgrounds: [demo]}' -o heard/
    """
    import pandas as pd
    import soundfile

    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.lab import open_lab
    from birdlab.spec.experiment import load_spec
    from birdlab.study.synthetic_report import ShownSoundscape, synthetic_report_html
    from birdlab.synthshow import open_fold

    lab = open_lab()
    experiment = load_spec(spec, set_ or [])
    name = experiment.name or spec.stem
    with CellProgress() as shown:
        source = open_fold(experiment, lab, fold, progress=shown.step)
    folder = output or lab.stores / "synthetic" / f"{name}-fold{fold}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    soundscapes = []
    for i, title in enumerate(source.names[:number]):
        wave, truth = source.render(i)
        file = f"{title}.flac"
        with writing(folder / file):
            soundfile.write(folder / file, wave.samples, wave.sample_rate_hz)
        soundscapes.append(ShownSoundscape(file, wave, truth))
        sung_s, n_species = (truth["end_s"] - truth["start_s"]).sum(), truth["label"].nunique()
        print_lines(f"{file}  {wave.duration_s:g} s, {n_species} species, {sung_s:.1f} s of song")
    table = pd.concat([one.truth.assign(filename=one.file) for one in soundscapes])
    table = table[["filename", "start_s", "end_s", "label"]].round(3)
    write_file(folder / "truth.csv", table.to_csv(index=False))
    write_file(folder / "index.html", synthetic_report_html(name, fold, soundscapes))
    print_lines(f"wrote {folder / 'index.html'}")
