"""`birdlab promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdlab.promote.promote import Promotion


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("promote", context_settings={"ignore_unknown_options": True})(promote)


def promote(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="The runs to promote.")],
    alias: Annotated[str, typer.Option(help="The alias that moves to the model.")] = "champion",
    register_: Annotated[
        bool, typer.Option("--register/--no-register", help="Into MLflow's Model Registry or not.")
    ] = True,
) -> None:
    """Export the fold models of runs as one ONNX file, prove it equals torch, register it.

    Example: birdlab promote lr:best
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.promote.promote import promote_runs
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    records = [resolve_run(lab, run) for run in runs]
    promotion = promote_runs(
        lab,
        records,
        alias=alias,
        register=register_,
        progress=lambda text: print_lines(f"{text} ..."),
    )
    print_lines(_promotion_summary(promotion))


def _promotion_summary(p: Promotion) -> str:
    cases = p.parity.by_case
    worst = max(cases, key=lambda case: cases[case])
    place = (
        "not registered"
        if p.registered is None
        else f"{p.registered[0]}, version {p.registered[1]}"
    )
    fits = "fits" if p.predicted_minutes <= p.limit_minutes else "does NOT fit"
    return "\n".join(
        [
            f"promoted {p.name} as @{p.alias}",
            f"  file      {p.path}  ({p.export.size_bytes / 1e6:.1f} MB, "
            f"{p.export.n_members} models, {p.export.n_frontends} shared front-end(s))",
            f"  parity    {cases[worst]:.1e} at most, on {worst} ({len(cases)} cases); "
            f"alone against in a batch {p.parity.batch_invariance:.1e}",
            f"  registry  {place}",
            f"  cost      {1000 * p.seconds_per_window:.1f} ms a window on one thread: "
            f"{p.predicted_minutes:.1f} min for the competition's soundscapes, "
            f"limit {p.limit_minutes:g} ({fits}; decoding comes on top)",
            "",
            f"next: birdlab predict SOUNDSCAPES -o submission.csv --model @{p.alias}",
        ]
    )
