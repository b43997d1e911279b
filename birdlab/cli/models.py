"""`birdlab models`: what was promoted, what is in service, and back to what was before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.promote.history import AliasMove

models = typer.Typer(
    help="Promoted models: list, show, compare, roll back, set an alias.",
    invoke_without_command=True,
)
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="@alias, the start of its name, or name/version in MLflow."
    ),
]
WhyOption = Annotated[str, typer.Option(help="Why, for the history.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(models, name="models")


@models.callback()
def _list_unless_told(context: typer.Context, json_: JsonOption = False) -> None:
    if context.invoked_subcommand is None:
        list_(json_)
    elif json_:
        word = context.invoked_subcommand
        raise typer.BadParameter(f"it comes last: birdlab models {word} --json")


@models.command("list")
def list_(json_: JsonOption = False) -> None:
    """List promoted models, the newest last; `birdlab models` alone does the same.

    Example: birdlab models list
    """
    from dataclasses import asdict

    from birdlab.cli.model_words import list_words
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.promote.catalogue import list_lines, lost_aliases

    lab = open_lab(extensions=False)
    lines = list_lines(lab)
    if json_:
        print_json([asdict(line) for line in lines])
    else:
        print_lines("\n".join(list_words(lines, lost_aliases(lab))))


@models.command("show")
def show(model: ModelArgument = "@champion", json_: JsonOption = False) -> None:
    """Show one model: members, parity with torch, variants, cost, lineage, history.

    Example: birdlab models show @champion
    """

    from birdlab.cli.model_words import show_words
    from birdlab.cli.progress import print_lines
    from birdlab.infer.models import find_promoted
    from birdlab.lab import open_lab
    from birdlab.promote.catalogue import describe_model, table_members, table_parity
    from birdlab.promote.history import load_history

    lab = open_lab(extensions=False)
    found = find_promoted(lab.models, model)
    moves = [m for m in load_history(lab) if found.name in (m.model, m.before)]
    line = describe_model(lab, found)
    if json_:
        print_json({**found.card, "aliases": line.aliases, "file": found.path, "history": moves})
        return
    print_lines(
        "\n".join(show_words(found, line, table_members(found), table_parity(found), moves))
    )


@models.command("compare")
def compare(
    one: ModelArgument,
    other: ModelArgument,
    on: Annotated[
        Path | None, typer.Option(help="A folder of soundscapes that both predict.")
    ] = None,
    windows: Annotated[
        list[Path] | None,
        typer.Option(help="The .windows.parquet of each, the first one's first (twice)."),
    ] = None,
    classes: Annotated[int, typer.Option(min=0, help="So many classes, the least alike.")] = 10,
    json_: JsonOption = False,
) -> None:
    """Compare two models: members, scores, cost; and how alike they rank the same windows.

    Example: birdlab models compare @champion @candidate --on soundscapes/
    """
    from dataclasses import asdict

    from birdlab.cli.model_words import compare_words, likeness_words
    from birdlab.cli.progress import print_lines
    from birdlab.errors import PredictError
    from birdlab.infer.models import find_promoted
    from birdlab.lab import open_lab
    from birdlab.promote.catalogue import describe_model, table_members
    from birdlab.promote.likeness import correlate_predictions, load_windows

    if windows and (len(windows) != 2 or on is not None):
        raise PredictError(
            "--windows names one file for each of the two models, without --on",
            got=f"{len(windows)} files",
            fix="--windows A.windows.parquet --windows B.windows.parquet",
        )
    lab = open_lab(extensions=False)
    pair = [find_promoted(lab.models, name) for name in (one, other)]
    said = [(describe_model(lab, model), table_members(model), model.card) for model in pair]
    if not json_:
        print_lines("\n".join(compare_words(*said)))
    tables = [load_windows(path) for path in windows or ()]
    if on is not None:
        tables = [_predict(model.path, on, model.name) for model in pair]
    found = correlate_predictions(*tables) if tables else None
    if json_:
        lines = [asdict(line) | {"member_models": members} for line, members, _ in said]
        print_json({"models": lines, "rank_correlation": found})
    elif found is not None:
        print_lines("\n".join(likeness_words(found, min(map(len, tables)), classes)))


def _predict(model: Path, folder: Path, name: str) -> pd.DataFrame:
    from birdlab.cli.progress import CellProgress
    from birdlab.infer.soundscapes import predict_soundscapes

    with CellProgress() as shown:
        return predict_soundscapes(
            model, folder, progress=lambda n, of: shown.step(f"{name}: files", n, of)
        ).table


@models.command("rollback")
def rollback(
    alias: Annotated[str, typer.Option(help="The alias that goes back.")] = "champion",
    why: WhyOption = "",
    json_: JsonOption = False,
) -> None:
    """Put an alias back to the model that it was at before, in the lab and in MLflow.

    Where MLflow cannot be reached the lab goes ahead: prediction needs no MLflow. It follows with
    the next command that reaches it.

    Example: birdlab models rollback --why "public score fell"
    """
    from birdlab.lab import open_lab
    from birdlab.promote.rollback import roll_back

    lab = open_lab(extensions=False)
    _tell_move(lab, roll_back(lab, alias, why=why, tell=print_note), json_)


@models.command("alias")
def alias(
    model: ModelArgument,
    alias: Annotated[str, typer.Argument(help="A letter, then letters, digits, - or _.")],
    why: WhyOption = "",
    json_: JsonOption = False,
) -> None:
    """Put a promoted model under an alias, in MLflow and in the lab.

    Example: birdlab models alias 3f2a @champion
    """
    from birdlab.infer.models import find_promoted
    from birdlab.lab import open_lab
    from birdlab.promote.aliases import move_alias

    lab = open_lab(extensions=False)
    found = find_promoted(lab.models, model)
    name = alias.removeprefix("@")
    move = move_alias(lab, name, found.name, why=why, without_mlflow=True, tell=print_note)
    _tell_move(lab, move, json_)


def _tell_move(lab: Lab, move: AliasMove, json_: bool) -> None:
    from birdlab.cli.model_words import move_words
    from birdlab.cli.progress import print_lines

    if json_:
        print_json(move)
    else:
        print_lines("\n".join(move_words(move)))
