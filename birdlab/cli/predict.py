"""`birdlab predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdlab.infer.predict import SoundscapePrediction


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("predict")(predict)


def predict(
    soundscapes: Annotated[Path, typer.Argument(help="A folder of soundscapes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV to write.")] = Path(
        "submission.csv"
    ),
    model: Annotated[
        str, typer.Option(help="A promoted model: @alias, its name, or the path of an ONNX file.")
    ] = "@champion",
    sample: Annotated[
        Path | None, typer.Option(help="A sample submission: rows and columns must be its.")
    ] = None,
    on_bad_file: Annotated[
        str, typer.Option(help="A file that cannot be decoded: fail, zeros, or prior.")
    ] = "fail",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of ONNX Runtime.")] = None,
) -> None:
    """Write the submission for a folder of soundscapes with a promoted model. Needs no torch.

    Example: birdlab predict soundscapes/ -o submission.csv
    """
    import time

    from birdlab.cli.common import check_choice
    from birdlab.infer.models import find_model
    from birdlab.infer.predict import OnBadFile, predict_soundscapes
    from birdlab.infer.submission import write_submission

    policy: OnBadFile = check_choice("--on-bad-file", on_bad_file, ("fail", "zeros", "prior"))
    path = find_model(_models_folder(), model) if not model.endswith(".onnx") else Path(model)
    began, said = time.perf_counter(), [0.0]

    def progress(done: int, total: int) -> None:
        passed = time.perf_counter() - began
        if done < total and passed - said[0] < 5:
            return
        said[0] = passed
        left = passed / done * (total - done)
        typer.echo(f"{done}/{total} files, {passed:.0f} s, {left:.0f} s left", err=True)

    prediction = predict_soundscapes(
        path, soundscapes, on_bad_file=policy, threads=threads, progress=progress
    )
    seconds = time.perf_counter() - began
    write_submission(prediction.table, prediction.card.classes, output, sample)
    typer.echo(_prediction_summary(prediction, output, seconds))


def _models_folder() -> Path:
    from birdlab.lab import open_lab

    return open_lab(extensions=False).models


def _prediction_summary(p: SoundscapePrediction, output: Path, seconds: float) -> str:
    values = p.table[list(p.card.classes)]
    top = values.max(axis=1)
    bins = [int(((top >= i / 5) & (top < (i + 1) / 5)).sum()) for i in range(5)]
    often = (values > 0.5).sum().sort_values(ascending=False)
    named = [f"{code} {n}" for code, n in often.head(5).items() if n]
    lines = [
        f"wrote {output}: {len(p.table)} windows of {p.n_files} files, "
        f"{len(p.card.classes)} classes",
        f"  {seconds / p.n_files:.3f} s a file, {1000 * seconds / len(p.table):.1f} ms a window "
        f"({', '.join(f'{k} {v}' for k, v in p.settings.items())})",
        f"  highest probability of each window, in fifths from 0 to 1: {bins}",
        f"  most often above 0.5: {', '.join(named) or 'none'}",
    ]
    lines += [f"  not decoded: {bad.path.name}: {bad.reason}" for bad in p.bad_files]
    return "\n".join(lines)
