"""`birdlab verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from birdlab.promote.verify import Verification


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("verify")(verify)


def verify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="@alias, the start of its name, or name/version in MLflow."
        ),
    ] = "@champion",
    tolerance: Annotated[
        float, typer.Option(min=0, help="How far probabilities and scores may lie apart.")
    ] = 1e-4,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of ONNX Runtime.")] = None,
    json_: JsonOption = False,
) -> None:
    """Predict the validation recordings of every fold model from file to score, and compare.

    Each window must be what validation stored, and each score too; else the exit code is 1.
    Models of all data have no such recordings: their fold models are exported anew for it.

    Example: birdlab verify @champion
    """

    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.infer.models import find_promoted
    from birdlab.lab import open_lab

    lab = open_lab()
    found = find_promoted(lab.models, model)
    from birdlab.promote.verify import verify_model

    with CellProgress() as shown:
        result = verify_model(lab, found, tolerance=tolerance, threads=threads, progress=shown.step)
    if json_:
        print_json(_plain(result))
    else:
        print_lines("\n".join(_words(result, tolerance)))
    if not result.passed:
        raise typer.Exit(1)


def _plain(result: Verification) -> dict[str, object]:
    return {
        "model": result.model,
        "passed": result.passed,
        "is_intact": result.is_intact,
        "exported_anew": list(result.anew),
        "runs": {name: run.table().to_dict(orient="records") for name, run in result.runs.items()},
    }


def _words(result: Verification, tolerance: float) -> list[str]:
    lines = [f"model {result.model}"]
    for name, run in result.runs.items():
        road = "its fold models, exported anew" if name in result.anew else "members of the file"
        lines += [
            "",
            f"{name} ({road})",
            f"  {'fold':>4} {'seed':>4} {'recordings':>10} {'windows':>8} {'largest':>8} "
            f"{'score stored':>13} {'score ONNX':>11}",
        ]
        for cell in run.cells:
            lines.append(
                f"  {cell.fold:>4} {cell.seed:>4} {cell.n_recordings:>10} {cell.n_windows:>8} "
                f"{cell.largest:>8.1e} {cell.score_torch:>13.6f} {cell.score_onnx:>11.6f}"
                + ("" if cell.largest <= tolerance else f"  at {cell.worst}")
            )
        lines.append(
            f"  out-of-fold padded cmAP: stored {run.score_torch:.6f}, ONNX {run.score_onnx:.6f} "
            f"({run.difference:+.1e})"
        )
    if not result.is_intact:
        lines += ["", "the file is not the one that was promoted: its SHA-256 is another"]
    n_windows = sum(run.n_windows for run in result.runs.values())
    verdict = "equal to what validation stored" if result.passed else "NOT what was promoted"
    return [*lines, "", f"{verdict}: {n_windows} windows, at most {tolerance:g} apart allowed"]
