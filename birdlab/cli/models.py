"""`birdlab promote` and `birdlab predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdlab.infer.predict import SoundscapePrediction
    from birdlab.promote.promote import Promotion


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("promote", context_settings={"ignore_unknown_options": True})(promote)
    app.command("predict")(predict)


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
