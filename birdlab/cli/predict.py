"""`birdlab predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.interrupt import INTERRUPTED
from birdlab.cli.voice import is_quiet, print_json, print_note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


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
    variant: Annotated[
        str | None, typer.Option(help="A variant of the model, such as int8 or openvino.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take a variant that did not pass its gate.")
    ] = False,
    sample: Annotated[
        Path | None, typer.Option(help="A sample submission: rows and columns must be its.")
    ] = None,
    rows: Annotated[
        str, typer.Option(help="Whose rows are written: of the sample, or of the files.")
    ] = "sample",
    deadline: Annotated[
        str | None, typer.Option(help="Be done in 110m, 1h50m or 6600s, with fewer members.")
    ] = None,
    post: Annotated[
        str | None, typer.Option(help="A file of post-processing steps, or none (default: card).")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="Rows without a file, files without a row: fail, prior or zeros.")
    ] = "fail",
    on_bad_file: Annotated[
        str, typer.Option(help="A file that cannot be decoded: prior, zeros or fail.")
    ] = "prior",
    hop: Annotated[
        float | None,
        typer.Option(help="Seconds between windows, for overlapping ones (default: card)."),
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Batches at a time (default: the fastest).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each batch.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the work folder.")] = False,
    windows: Annotated[bool, typer.Option(help="Write all windows as Parquet too.")] = True,
    json_: JsonOption = False,
) -> None:
    """Write the submission for a folder of soundscapes with a promoted model. Needs no torch.

    A run that broke off goes on with the same command.

    Example: birdlab predict soundscapes/ -o submission.csv
    """
    import sys

    from birdlab.infer.deadline import read_seconds
    from birdlab.infer.predict import PredictRequest, predict_to_file

    request = PredictRequest(
        model=_find_model(model),
        soundscapes=soundscapes,
        output=output,
        sample=sample,
        variant=variant,
        force=force,
        deadline_s=None if deadline is None else read_seconds(deadline),
        post=_read_post(post),
        sessions=sessions,
        threads=threads,
        missing=missing,  # type: ignore[arg-type]  # the request refuses other words
        on_bad_file=on_bad_file,  # type: ignore[arg-type]
        rows=rows,  # type: ignore[arg-type]
        keep=keep,
        windows=windows,
        hop_s=hop,
    )
    try:
        summary = predict_to_file(request, stream=None if is_quiet() else sys.stderr)
    except KeyboardInterrupt:
        print_note("\nstopped; what was heard is kept, the same command goes on")
        raise typer.Exit(INTERRUPTED) from None
    if json_:
        print_json(summary.to_json())
    else:
        typer.echo(summary)


def _find_model(model: str) -> Path:
    """The ONNX file that is meant; a path needs no lab."""
    from birdlab.infer.models import find_model
    from birdlab.lab import open_lab

    return (
        Path(model)
        if model.endswith(".onnx")
        else find_model(open_lab(extensions=False).models, model)
    )


def _read_post(post: str | None) -> tuple[Mapping[str, Any], ...] | None:
    """The steps of a file, () for `none`, None where the model's card decides."""
    if post is None or post == "none":
        return None if post is None else ()
    from birdlab.evaluate.steps import load_steps, to_mappings
    from birdlab.lab import open_lab

    open_lab()  # so that the steps of its extensions are known
    return tuple(to_mappings(load_steps(Path(post))))
