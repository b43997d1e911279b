"""`birdlab init` and `birdlab ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birdlab.errors import LabError


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("init")(init)
    app.command("ui")(ui)


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make a lab of.")] = Path(),
) -> None:
    """Make a lab: birdlab.toml, experiments to start from, .gitignore. Nothing is overwritten.

    Example: birdlab init ~/birdclef && cd ~/birdclef && birdlab sweep experiments/lr.yaml
    """
    make_lab(folder)


def make_lab(folder: Path) -> None:
    """Make a lab of a folder, and say what was made and what comes next."""
    from birdlab.lab import open_lab
    from birdlab.scaffold import init_lab
    from birdlab.schemafiles import SCHEMA_FOLDER, write_schemas

    made = [path.relative_to(folder) for path in init_lab(folder)]
    below = sum(len(path.parts) > 1 for path in made)
    for path in (path for path in made if len(path.parts) == 1):
        typer.echo(f"made {folder / path}")
    if below:
        typer.echo(
            f"made {below} files in {folder / 'experiments'}: each says at its top what it is for"
        )
    if not (folder / SCHEMA_FOLDER).is_dir():
        write_schemas(open_lab(folder, extensions=False))
        typer.echo(f"made {folder / SCHEMA_FOLDER}: by it editors complete and check these files")
    elif not made:
        typer.echo("everything is there already")
    inside = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"next: {inside}birdlab sweep experiments/lr.yaml")
    typer.echo(
        "  or, with recordings of your own: name their folder under [data] in "
        f"{folder / 'birdlab.toml'}, then birdlab new experiment first --data NAME"
    )


def ui(
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Open MLflow's own UI on this lab's store, until Ctrl-C.

    Example: birdlab ui --port 5001
    """
    import os
    import signal
    import subprocess
    import sys

    from birdlab.cli.hosts import allowed_hosts, warn_of_host
    from birdlab.lab import hide_password, open_lab
    from birdlab.tracking.client import connect

    lab = open_lab(extensions=False)
    if lab.tracking_uri.startswith("http"):
        typer.echo(f"this lab logs to a server; its UI is at {hide_password(lab.tracking_uri)}")
        return
    experiments = connect(lab).search_experiments()
    command = [
        *(sys.executable, "-m", "mlflow", "ui"),
        *("--default-artifact-root", lab.artifacts.resolve().as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", ",".join(allowed_hosts(host, port))),
    ]
    warn_of_host(host)
    typer.echo(f"MLflow UI on http://{host}:{port}  (Ctrl-C ends it)")
    for experiment in experiments:  # the start page shows traces, which birdlab does not write
        place = f"http://{host}:{port}/#/experiments/{experiment.experiment_id}/runs"
        typer.echo(f"  runs of {experiment.name:<20} {place}")
    # Everyone sees arguments of processes, so the address goes with the environment.
    # Its background jobs serve features that birdlab does not use, and do not end quietly.
    told = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    told |= {"MLFLOW_BACKEND_STORE_URI": lab.tracking_uri}
    # Ctrl-C reaches both: MLflow would print tracebacks while it starts, so it does not hear it
    # there, and is ended from here. Once it serves it takes signals by itself.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command, env={**os.environ, **told}) as served:
        signal.signal(signal.SIGINT, heard)
        signal.signal(signal.SIGTERM, lambda *_: served.terminate())
        try:
            ended = served.wait()
        except KeyboardInterrupt:
            served.terminate()
            raise
    if ended not in (0, 130, -2, -15, 143):
        raise LabError(
            "the MLflow UI did not start",
            got=f"exit code {ended}",
            fix="choose another port: birdlab ui --port 5001",
        )
