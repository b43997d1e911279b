"""The page docs/reference/commands.md: every command as its own help tells it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from birdlab.cli.commands import argument_name, argument_usage, first_sentence, split_example

SAYS_NO = {
    "data audit": "with `--strict`, leaks were found",
    "data build": "a file cannot be used, and the experiment does not say `on_bad_file: skip`",
    "data nocall": "no stretch is quiet enough, nothing was written",
    "data xenocanto": "a file could not be fetched",
    "doctor": "something is bad",
    "mlflow sync": "MLflow refused something",
    "promote": "a gate is not met; never with `--dry-run`, which only lists the gates",
    "stop": "it still saves its cells when the wait is over",
    "sweep": "an arm has no score; with `--dry-run`, an arm does not hold",
    "verify": "a score or a window does not come back",
}
"""What exit code 1 means beside an error, by command."""

HEAD = """\
# Commands

Made by `python docs/generate.py` from the commands themselves; `birdlab COMMAND --help` says the
same. RUN is the start of a spec id, a run name, an MLflow run id, `SWEEP:best`, `SWEEP:ARM`,
`@champion`, or `-1` for the newest.

## For all commands

| option | |
|---|---|
"""

EXITS = """
`-q` and `-v` are taken before and after the command: `birdlab -q run x.yaml` is
`birdlab run x.yaml -q`. All other options come after it.

### What goes where

A result goes to standard output. Progress, notes, times and errors go to standard error, so a
result can be piped while the progress is still seen. Bars and colours are drawn on a terminal only;
without one, with `NO_COLOR`, or with `TERM=dumb`, progress is a line every few seconds.

With `--json` a command prints one JSON value and nothing else to standard output: an array or an
object, also where there is nothing to tell; `null` where there is no number. Key names stay as they
are; new ones may come. A command that fails prints no JSON. These take it: COMMANDS.

### Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | an error, told as `error: ...` with what to do; or the "no" a script asks for, named below |
| 2 | wrong usage: an unknown command or option, a missing argument, a value out of range |
| 130 | stopped by Ctrl-C (SIGINT); what is finished is kept, the same command goes on |

SIGTERM is taken as Ctrl-C while cells are trained: they save where they are, and the code is 130.
Elsewhere it ends a command at once; shells show that as 143.

### Completion in the shell

`birdlab --install-completion` adds it to bash, zsh or fish, for shells that are opened afterwards;
`birdlab --show-completion` prints it. Runs, `SWEEP:ARM`, specs, the dotted fields of `--set` and
`--grid`, aliases of models and names of data sets are completed from the lab of the folder.
"""


def commands_page() -> str:
    """The page as Markdown: options of all commands, exit codes, then a section per command."""
    root = _root()
    rows = [_option_row(p) for p in root.params if _is_shown(p)]
    takers = ", ".join(f"`{name}`" for name, command in list_commands() if has_json(command))
    parts = [HEAD + "\n".join(rows) + "\n" + EXITS.replace("COMMANDS", takers)]
    last = ""
    for name, command in list_commands():
        noun = name.split(" ")[0] if " " in name else ""
        if noun and noun != last:
            parts.append(f"## birdlab {noun}\n\n{first_sentence(root.commands[noun].help)}\n")
        last = noun
        parts.append(_section(name, command))
    return "\n".join(parts)


def list_commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words, those of a noun together, in the order of the help."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield words, command
            return
        for name in command.list_commands(None):
            yield from walk(f"{words} {name}".strip(), command.commands[name])

    yield from walk("", _root())


def has_json(command: Any) -> bool:
    """Whether a command takes --json."""
    return any("--json" in param.opts for param in command.params)


def _root() -> Any:
    from birdlab.cli.app import _register, app

    _register()
    return typer.main.get_command(app)


def _section(name: str, command: Any) -> str:
    said, example = split_example(command.help or "")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and _is_own(p)]
    lines = [f"{'###' if ' ' in name else '##'} birdlab {name}", "", said, ""]
    lines += [
        "```",
        " ".join(["birdlab", name, "[OPTIONS]", *map(argument_usage, arguments)]),
        "```",
        "",
    ]
    if arguments:
        lines += ["| argument | |", "|---|---|", *map(_argument_row, arguments), ""]
    if options:
        lines += ["| option | |", "|---|---|", *map(_option_row, options), ""]
    if name in SAYS_NO:
        lines += [f"Exits with 1 also when {SAYS_NO[name]}.", ""]
    return "\n".join([*lines, f"Example: `{example}`", ""])


def _argument_row(argument: Any) -> str:
    return f"| `{_cell(argument_name(argument))}` | {_told(argument)} |"


def _option_row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag else f" {_cell(option.metavar or _type(option))}"
    return f"| {names}{kind} | {_told(option)} |"


def _type(option: Any) -> str:
    """What kind of value an option takes."""
    kind = option.type_descriptor
    if kind.is_path:
        return "PATH"
    names = {int: "NUMBER", float: "NUMBER"}
    text = str(kind.annotation)
    return names.get(kind.annotation, "NUMBER" if "int" in text or "float" in text else "TEXT")


def _told(param: Any) -> str:
    """The explanation, then default and bounds where there are some."""
    facts = []
    default = param.default
    if isinstance(default, bool):
        default = param.opts[0] if default and param.secondary_opts else None
    if default not in (None, "", (), []) and not callable(default):
        facts.append(f"default `{default}`")
    bounds = [f"at least {param.min:g}"] if getattr(param, "min", None) is not None else []
    bounds += [f"at most {param.max:g}"] if getattr(param, "max", None) is not None else []
    return _cell(
        " ".join([param.help or "", *([f"({'; '.join(facts + bounds)})"] * bool(facts + bounds))])
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _is_shown(param: Any) -> bool:
    return param.param_type_name == "option" and not param.hidden


def _is_own(param: Any) -> bool:
    """Whether an option is the command's own, not one of those that all have."""
    return _is_shown(param) and not {"--quiet", "--verbose", "--help"} & set(param.opts)
