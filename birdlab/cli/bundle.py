"""`birdlab bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.promote.bundle import Bundle
    from birdlab.spec.competition import CompetitionSpec


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("bundle")(bundle)


def bundle(
    model: Annotated[
        str, typer.Argument(help="A promoted model: @alias, its name, or the path of an ONNX file.")
    ] = "@champion",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write: new, or empty.")
    ] = Path("bundle"),
    variant: Annotated[str, typer.Option(help="A form of the model: fp32, int8, ...")] = "fp32",
    force: Annotated[
        bool, typer.Option("--force", help="Take a variant that did not pass its gate.")
    ] = False,
    competition: Annotated[
        str | None, typer.Option(help="A profile, or `none`; default: the model's own.")
    ] = None,
    python: Annotated[str, typer.Option(help="The Python that the wheels are for.")] = "3.11",
    platform: Annotated[
        str, typer.Option(help="The platform that the wheels are for.")
    ] = "manylinux_2_28_x86_64",
    wheels: Annotated[
        bool, typer.Option("--wheels/--no-wheels", help="Put the packages in, or rely on theirs.")
    ] = True,
    wheels_from: Annotated[
        Path | None, typer.Option(help="A folder that holds the wheels: nothing is downloaded.")
    ] = None,
    user: Annotated[str, typer.Option(help="Your user name at Kaggle.")] = "",
    name: Annotated[str, typer.Option(help="The name of the data set; default: the model's.")] = "",
    json_: JsonOption = False,
) -> None:
    """Write all that an offline notebook needs: model, predictor, wheels, notebook, checksums.

    Example: birdlab bundle @champion -o bundle --user me
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.promote.bundle import BundleRequest, write_bundle

    lab = open_lab()
    request = BundleRequest(
        model=model,
        folder=output,
        competition=_competition(lab, model, competition),
        variant=variant,
        force=force,
        python=python,
        platform=platform,
        wheels=wheels,
        wheels_from=wheels_from,
        user=user,
        name=name,
    )
    written = write_bundle(lab.models, request, progress=lambda text: print_note(f"{text} ..."))
    if json_:
        print_json(written)
    else:
        print_lines(_summary(written))


def _competition(lab: Lab, model: str, said: str | None) -> CompetitionSpec | None:
    from birdlab.infer.models import find_model
    from birdlab.promote.bundle import competition_of
    from birdlab.spec.competition import load_competition

    if said is None:
        return competition_of(lab, find_model(lab.models, model))
    return None if said == "none" else load_competition(said)


def _summary(written: Bundle) -> str:
    names, folder = written.names, written.folder
    lines = [
        f"wrote {folder}: {written.n_files} files, {written.n_wheels} of them wheels, "
        f"{written.size_bytes / 1e6:.1f} MB",
        f"  data set     {names.user}/{names.slug}",
        f"  notebook     {names.user}/{names.kernel}, "
        f"{names.competition or 'for no competition'}, "
        f"deadline {written.deadline_minutes} min",
    ]
    if written.has_placeholder:
        lines.append("  put your user name into dataset-metadata.json and kernel-metadata.json")
    return "\n".join(
        [
            *lines,
            "",
            f"next: kaggle datasets create -p {folder}; kaggle kernels push -p {folder}/kernel",
        ]
    )
