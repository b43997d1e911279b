"""How every command is parsed and explained: -q and -v, its example at the end, its summary."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any

import typer
from typer._click.exceptions import NoSuchOption, UsageError
from typer._click.shell_completion import CompletionItem
from typer._completion_classes import BashComplete
from typer.core import TyperCommand, TyperGroup

from birdlab.cli.completion import offers_for
from birdlab.cli.interrupt import INTERRUPTED
from birdlab.cli.purposes import PURPOSES
from birdlab.cli.voice import be_quiet, be_verbose, print_note

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


@lru_cache(maxsize=1)
def _voice_options() -> list[Any]:
    """-q and -v as parameters; all commands share them, since making them takes a while."""
    donor = typer.Typer(add_completion=False)
    donor.command()(_voices)
    return list(typer.main.get_command(donor).params)


def split_example(text: str) -> tuple[str, str]:
    """What a command does, and its example as one line; the latter empty where there is none."""
    said, _, example = text.partition(EXAMPLE)
    return said.strip(), " ".join(example.split())


class WholeWords(BashComplete):
    """Completion of bash, which cuts `lr:best`, `a.b=1` and `@champion` into several words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and what is typed of the last one."""
        before, incomplete = super().get_completion_args()
        words: list[str] = []
        for word in [*before, incomplete]:
            joins = words and word and (word in (":", "=") or words[-1][-1:] in (":", "=", "@"))
            if joins and words[-1]:
                words[-1] += word
            else:
                words.append(word)
        self.cut = len(words[-1]) - len(incomplete.lstrip(":=@"))
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """What bash puts in place of the part that it takes for the last word."""
        return str(item.value)[self.cut :]


class LabCommand(TyperCommand):
    """A command that also takes -q and -v, and whose help ends with its example."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **more: Any) -> None:
        super().__init__(name, params=[*(params or []), *_voice_options()], **more)
        for param in self.params:
            offers = offers_for(param)
            if offers is not None:
                param.shell_complete = _completer(offers)  # type: ignore[assignment, method-assign]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is left of the words; NoSuchOption for an option that a run would be named after.

        Commands that take `-1` for the newest run let unknown options pass as arguments: all
        but numbers, and what follows `--`, are options that are not there.
        """
        given = args[: args.index("--")] if "--" in args else list(args)
        checked = ctx.ignore_unknown_options and not ctx.resilient_parsing
        try:
            left = super().parse_args(ctx, args)
        except UsageError:
            if checked:  # a word too many, or one that is missing, for an option that is mistyped
                self._refuse_unknown(ctx, _words_alone(given, self.params))
            raise
        if checked:
            words = _argument_words(ctx, self.params)
            self._refuse_unknown(ctx, [word for word in words if word in given])
        return left

    def _refuse_unknown(self, ctx: Any, words: list[str]) -> None:
        """NoSuchOption for the first word that is like an option and none of this command."""
        for word in words:
            if re.match(r"-(?!\d+$).", word):
                name = word.partition("=")[0]
                options = [o for p in self.params for o in p.opts if o.startswith("--")]
                near = get_close_matches(name, options)
                raise NoSuchOption(name, possibilities=near, ctx=ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line after the command's own."""
        arguments = [p for p in self.params if p.param_type_name == "argument"]
        return [*filter(None, [self.options_metavar]), *map(argument_usage, arguments)]

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


def argument_usage(argument: Any) -> str:
    """How an argument stands in a usage line: in brackets where it may be left out."""
    name = argument_name(argument)
    return name if argument.required or name.startswith("[") else f"[{name}]"


def argument_name(argument: Any) -> str:
    """What an argument is called, with points where it may come several times."""
    name = argument.metavar or argument.name.upper()
    several = argument.nargs == -1 and "..." not in name
    return f"{name}..." if several else name


def _words_alone(given: list[str], params: list[Any]) -> list[str]:
    """The words that are neither an option of the command nor the value of one."""
    takes_value = {
        name: not param.is_flag
        for param in params
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    }
    alone, is_value = [], False
    for word in given:
        name = word.partition("=")[0]
        known = name in takes_value or (word[1:2] != "-" and word[:2] in takes_value)
        if not (is_value or known):
            alone.append(word)
        is_value = not is_value and takes_value.get(word, False)
    return alone


def _argument_words(ctx: Any, params: list[Any]) -> list[str]:
    """The words that were taken for arguments."""
    values = [ctx.params.get(p.name) for p in params if p.param_type_name == "argument"]
    lists = [v if isinstance(v, list | tuple) else [v] for v in values]
    return [str(word) for words in lists for word in words if word is not None]


def _completer(offers: Callable[[str], list[str]]) -> Callable[[Any, str], list[CompletionItem]]:
    return lambda _, incomplete: [CompletionItem(text) for text in offers(incomplete)]


class LabGroup(TyperGroup):
    """A noun: its commands with the whole first sentence of each."""

    def _main_shell_completion(
        self, ctx_args: Any, prog_name: str, complete_var: str | None = None
    ) -> None:
        """Complete for bash as for others, whose words do not end at : = and @."""
        variable = complete_var or f"_{prog_name}_COMPLETE".replace("-", "_").upper()
        if variable in os.environ:  # pydantic's plugins take a tenth of the time of a completion
            os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
        if os.environ.get(variable) == "complete_bash":
            print(WholeWords(self, ctx_args, prog_name, variable).complete())
            sys.exit(0)
        super()._main_shell_completion(ctx_args, prog_name, complete_var)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a line or two for each command."""
        self._write_section(formatter, "Commands", self.list_commands(ctx))

    def _write_section(self, formatter: Any, title: str, names: Sequence[str]) -> None:
        width = max(map(len, self.commands))  # so that texts of all sections begin in one column
        rows = [
            (f"{name:<{width}}", first_sentence(self.commands[name].help or ""))
            for name in names
            if not self.commands[name].hidden
        ]
        with formatter.section(title):
            formatter.write_dl(rows)


class Program(LabGroup):
    """The whole program: its commands by what they are for."""

    def invoke(self, ctx: Any) -> Any:
        """What the command gives back; Ctrl-C that no command took is told, and ends with 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_note("stopped")
            raise typer.Exit(INTERRUPTED) from None

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, those for one purpose together."""
        return [name for names in PURPOSES.values() for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each purpose, a line or two for each command."""
        for title, names in PURPOSES.items():
            self._write_section(formatter, title, names)


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
