"""The entry point: one Typer app, its options for all commands, and how errors are shown."""

from __future__ import annotations

# ruff: noqa: E402
# isort: off
import sys

from birdlab.cli.interrupt import INTERRUPTED, end_when_interrupted, heed_no_more

sys.excepthook = end_when_interrupted  # from here on, also while the rest is imported
# isort: on

import os
from pathlib import Path
from typing import Annotated

import typer

from birdlab.cli.commands import Program, QuietOption, VerboseOption, dress
from birdlab.cli.terminal import visible_output
from birdlab.cli.voice import print_error, print_note, speak_normally
from birdlab.errors import BirdlabError

EXIT_CODES = """\
Exit codes: 0 done; 1 an error, or a `no` that scripts ask for; 2 wrong usage; 130 stopped by
Ctrl-C. docs/reference/commands.md tells more."""

app = typer.Typer(
    name="birdlab",
    cls=Program,
    epilog=EXIT_CODES,
    help="Experiments and ablations for bird-sound detection: run, sweep, study, promote, predict.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_ASIDE = ("init", "new", "schema", "predict", "bundle", "cell", "doctor", "augment")
"""Commands that leave MLflow alone: they need none, or may change nothing."""


@app.callback()
def _options(
    context: typer.Context,
    lab: Annotated[
        Path | None,
        typer.Option(help="The lab folder; else BIRDLAB_HOME, else the nearest birdlab.toml."),
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    if lab is not None:
        os.environ["BIRDLAB_HOME"] = str(lab)
    if context.invoked_subcommand not in _ASIDE and "--help" not in sys.argv:
        from birdlab.cli.common import settle_aliases, settle_dead_runs

        settle_dead_runs()
        settle_aliases()


def _register() -> None:
    """Add the commands of every noun, once; their heavy imports happen when they are called."""
    if app.registered_commands:
        return
    from birdlab.cli import (
        augment,
        bets,
        board,
        budget,
        bundle,
        cell,
        compare,
        data,
        doctor,
        drivers,
        ensemble,
        exchange,
        extend,
        gc,
        ideas,
        labs,
        mlflow,
        models,
        new,
        noise,
        post,
        predict,
        promote,
        pseudo,
        report,
        rerun,
        rescore,
        runs,
        schema,
        show,
        studies,
        suspects,
        sweeps,
        training,
        value,
        verify,
        why,
    )

    modules = (
        *(labs, new, schema, data, training, sweeps, cell, drivers, extend, rerun, noise, augment),
        *(runs, show, compare, rescore, pseudo, ensemble, post, board, report, studies),
        *(value, why, suspects, bets, ideas, mlflow),
        *(promote, models, verify, budget, bundle, predict, gc, exchange, doctor),
    )
    for module in modules:
        module.register(app)
    dress(app)


@visible_output()
def main() -> None:
    """Run the command line; errors are printed without a traceback, exit code 1.

    Wrong usage exits with 2, Ctrl-C with 130.
    """
    try:
        _register()
        app(prog_name="birdlab")
    except BirdlabError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        print_note("stopped")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (OSError, MemoryError) as error:
        from birdlab.lacks import of_the_machine

        told = of_the_machine(error)
        if told is None:
            raise
        told.__cause__ = error
        print_error(told)
        sys.exit(1)
    finally:
        speak_normally()  # -q and -v are this call's: another may follow in the process


def start() -> None:
    """Run the command line as a program: once it is decided how it ends, Ctrl-C changes nothing."""
    try:
        main()
    finally:
        heed_no_more()


if __name__ == "__main__":
    start()
