"""`birdlab schema`: what the files of a lab may say, for editors."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("schema")(schema)


def schema(
    kind: Annotated[
        str, typer.Argument(help="experiment, sweep, ensemble, steps, or lab.")
    ] = "experiment",
    write: Annotated[
        bool, typer.Option("--write", help="Write all of them into experiments/.schema/.")
    ] = False,
    lines: Annotated[
        bool,
        typer.Option("--lines", help="Also name them in the YAML files that lack the editor line."),
    ] = False,
) -> None:
    """Print the JSON Schema of a kind of file, with the kinds of this lab's extensions.

    Editors complete and check YAML by it (docs/editors.md). `--write` again after a change of the
    extensions.
    Example: birdlab schema --write
    """
    from birdlab.cli.voice import print_json
    from birdlab.lab import open_lab
    from birdlab.schemafiles import SCHEMA_FOLDER, add_editor_lines, schema_of, write_schemas

    lab = open_lab()
    if not write and not lines:
        print_json(schema_of(kind))
        return
    written = write_schemas(lab)
    for path in written:
        typer.echo(f"wrote {path.relative_to(lab.root)}")
    if not written:
        typer.echo(f"{SCHEMA_FOLDER} is up to date")
    for path in add_editor_lines(lab) if lines else ():
        typer.echo(f"added the editor line to {path.relative_to(lab.root)}")
