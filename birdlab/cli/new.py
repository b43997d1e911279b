"""`birdlab new`: experiments, sweeps, labs and ablations to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdlab.lab import Lab

BaseOption = Annotated[
    Path | None,
    typer.Option(help="The experiment it stands on (default: experiments/baseline.yaml)."),
]


def register(app: typer.Typer) -> None:
    """Add the noun and its commands to the app."""
    group = typer.Typer(
        help="Files to start from: experiment, sweep, lab, ablation.", no_args_is_help=True
    )
    for command in (experiment, sweep, lab, ablation):
        group.command(command.__name__)(command)
    app.add_typer(group, name="new")


def experiment(
    name: Annotated[str, typer.Argument(help="What it is called: experiments/NAME.yaml.")],
    data: Annotated[
        str | None, typer.Option(help="The data set (default: the lab's only one, else the demo).")
    ] = None,
    competition: Annotated[
        str | None, typer.Option(help="Its profile (default: the one the data set is called).")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A backbone of timm.")] = None,
) -> None:
    """Write an experiment with every part of it and what it may say besides.

    Example: birdlab new experiment first --data birdclef-2023
    """
    from birdlab.lab import open_lab
    from birdlab.presets.starting import experiment_text, place_of, save_new

    home = open_lab()
    path = place_of(home, name)
    text = experiment_text(home, path.stem, data=data, competition=competition, backbone=backbone)
    save_new(path, text)
    _tell(home, path, f"birdlab run {_shown(home, path)} --dry-run")


def sweep(
    name: Annotated[str, typer.Argument(help="What it is called: experiments/NAME.yaml.")],
    base: BaseOption = None,
    grid: Annotated[
        list[str] | None, typer.Option(help="A field and its values: a.b=1,2 (repeatable).")
    ] = None,
) -> None:
    """Write a sweep over an experiment: a grid, or one change at a time.

    Example: birdlab new sweep rates --grid train.optimizer.lr=1e-3,3e-3
    """
    from birdlab.cli.sweeps import grid_values
    from birdlab.lab import open_lab
    from birdlab.presets.starting import path_from, place_of, save_new, sweep_text

    home = open_lab()
    path, below = place_of(home, name), _base(home, base)
    shown = path_from(path.parent, below)
    save_new(path, sweep_text(path.stem, below, shown, grid_values(grid or [])))
    _tell(home, path, f"birdlab sweep {_shown(home, path)} --dry-run")


def lab(
    folder: Annotated[Path, typer.Argument(help="The folder to make a lab of.")] = Path(),
) -> None:
    """Make a lab, as `birdlab init` does. Nothing is overwritten.

    Example: birdlab new lab ~/birdclef
    """
    from birdlab.cli.labs import make_lab

    make_lab(folder)


def ablation(
    name: Annotated[
        str | None, typer.Argument(help="Which one; without it they are listed.")
    ] = None,
    base: BaseOption = None,
    pretrain: Annotated[str | None, typer.Option(help="A data set to train on first.")] = None,
    extra: Annotated[
        str | None, typer.Option(help="A data set of more recordings of the scored species.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="A data set of everyday noise.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="A data set of soundscapes that nobody labelled.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A promoted model, or an entry of [teachers].")
    ] = None,
) -> None:
    """Write the sweeps that ask of your base what others reported, with your data sets.

    Above each arm stands what is expected, or was reported; arms that lack a name are comments.
    Example: birdlab new ablation reference --base experiments/first.yaml --pretrain other-years
    """
    from birdlab.lab import open_lab
    from birdlab.presets.ablation import list_ablations, load_preset, presets_of, write_ablation
    from birdlab.presets.starting import check_new, path_from, place_of, save_new

    if name is None:
        for known, line in list_ablations().items():
            typer.echo(f"{known:<11} {line}")
        typer.echo("next: birdlab new ablation NAME --base FILE")
        return
    home = open_lab()
    below, parts = _base(home, base), presets_of(name)
    named = {
        "pretrain": pretrain,
        "extra": extra,
        "environment": environment,
        "unlabelled": unlabelled,
        "teacher": teacher,
    }
    given = {key: value for key, value in named.items() if value is not None}
    for key, value in given.items():
        if key != "teacher":
            home.source(value)
    written = []
    for part in parts:
        path = check_new(place_of(home, f"{part}-{below.stem}"))
        shown = path_from(path.parent, below)
        found = write_ablation(load_preset(part), path.stem, below, shown, given)
        written.append((path, found))
    for path, found in written:
        save_new(path, found.text)
        _tell(home, path, f"birdlab sweep {_shown(home, path)} --dry-run", len(found.arms))
        for arm, why in found.left_out.items():
            typer.echo(f"  without {arm}: {why}")


def _base(home: Lab, base: Path | None) -> Path:
    from birdlab.errors import SpecError

    path = home.root / "experiments" / "baseline.yaml" if base is None else base
    if not path.is_file():
        raise SpecError(
            "there is no experiment to stand on",
            where=str(path),
            fix="--base FILE, or first: birdlab new experiment NAME",
        )
    return path


def _shown(home: Lab, path: Path) -> str:
    """A path as typed in the current folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _tell(home: Lab, path: Path, following: str, n_arms: int | None = None) -> None:
    """Say what was made and what comes next; the schema that it names is there too."""
    from birdlab.schemafiles import SCHEMA_FOLDER, write_schemas

    if not (home.root / SCHEMA_FOLDER).is_dir():
        write_schemas(home)
    arms = "" if n_arms is None else f", {n_arms} arms"
    typer.echo(f"made {path}{arms}")
    typer.echo(f"next: {following}")
