"""How every command is parsed and explained: -q and -v, its example at the end, its summary."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from birdlab.cli.voice import be_quiet, be_verbose

EXAMPLE = "Example:"

QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print results and errors only.",
        callback=be_quiet,
        expose_value=False,
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print where time goes, and tracebacks with errors.",
        callback=be_verbose,
        expose_value=False,
    ),
]


def _voices(quiet: QuietOption = False, verbose: VerboseOption = False) -> None: ...


def split_example(text: str) -> tuple[str, str]:
    """What a command does, and its example as one line; the latter empty where there is none."""
    said, _, example = text.partition(EXAMPLE)
    return said.strip(), " ".join(example.split())


class LabCommand(TyperCommand):
    """A command that also takes -q and -v, and whose help ends with its example."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **more: Any) -> None:
        donor = typer.Typer(add_completion=False)
        donor.command()(_voices)
        super().__init__(
            name, params=[*(params or []), *typer.main.get_command(donor).params], **more
        )

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the command does, without the example."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(split_example(self.help or "")[0])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example as it is typed: not wrapped, so that it can be copied."""
        example = split_example(self.help or "")[1]
        if example:
            with formatter.section(EXAMPLE.rstrip(":")):
                formatter.write(f"  {example}\n")


class LabGroup(TyperGroup):
    """A noun or the whole program: its commands with the whole first sentence of each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line or two for each command."""
        rows = [
            (name, first_sentence(self.commands[name].help or ""))
            for name in self.list_commands(ctx)
            if not self.commands[name].hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    """The first sentence of a help text, on one line."""
    said = " ".join(split_example(text)[0].split())
    return re.split(r"(?<=[.]) (?=[A-Z])", said)[0]


def dress(app: typer.Typer) -> None:
    """Make every command of an app, and of its nouns, a LabCommand."""
    for info in app.registered_commands:
        info.cls = LabCommand
    for group in app.registered_groups:
        group.cls = LabGroup
        if group.typer_instance is not None:
            dress(group.typer_instance)
