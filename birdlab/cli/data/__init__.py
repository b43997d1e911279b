"""`birdlab data`: look at tables and audio, build the waveform store, fetch more recordings."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the noun and its commands to the app."""
    from birdlab.cli.data import audit, build, nocall, synthetic, xenocanto

    group = typer.Typer(
        help="Data: audit, build, table, xenocanto, nocall, synthetic.", no_args_is_help=True
    )
    for module in (audit, build, xenocanto, nocall, synthetic):
        module.register(group)
    app.add_typer(group, name="data")
