"""`birdlab post`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.files import write_file, writing
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.spec.postprocess import PostStep
    from birdlab.study.post_sources import PostEvidence
    from birdlab.study.postprocessing import PostScore, PostScores


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("post")(post)


def post(
    source: Annotated[
        str,
        typer.Argument(
            metavar="WINDOWS|RUN",
            help="The .windows.parquet of `birdlab predict`, or a run, named as in `show`.",
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            help="A data set of labelled soundscapes; of a run also soundscapes (all it was "
            "scored on, the default where there are some) or folds (what it held out)."
        ),
    ] = "",
    step: Annotated[
        list[str] | None,
        typer.Option(help="A step: smooth, boost:0.2, smooth:weights=[1,2,1] (repeatable)."),
    ] = None,
    steps: Annotated[
        Path | None, typer.Option(help="A YAML file with `steps`, or a JSON list of steps.")
    ] = None,
    metric: Annotated[str, typer.Option(help="padded_cmap, macro_auc, or cmap_min5.")] = (
        "padded_cmap"
    ),
    draws: Annotated[
        int, typer.Option(min=100, help="How often files are drawn for an interval.")
    ] = 500,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the whole chain as JSON, for predict --post."),
    ] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Write the CSV of WINDOWS after the whole chain.")
    ] = None,
    sample: Annotated[
        Path | None, typer.Option(help="With --submission: rows and columns must be its.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Score steps of post-processing on labelled windows: each alone, and all in a row.

    Nothing is trained and nothing is predicted again: the windows are stored. Without --on,
    --submission alone applies the steps.

    Example: birdlab post sub.windows.parquet --on validators --step smooth --step file_scale:0.5
    """
    from birdlab.cli.common import check_choice
    from birdlab.cli.progress import print_lines
    from birdlab.evaluate.postprocess import RANKED_WITHIN_CLASS
    from birdlab.evaluate.steps import steps_text
    from birdlab.lab import open_lab

    check_choice("--metric", metric, RANKED_WITHIN_CLASS)
    lab = open_lab()
    chain = _chain(step or [], steps)
    _check_files(source, output, submission, sample)
    wrote = [] if submission is None else [_write_submission(source, chain, submission, sample)]
    scores: dict[str, Any] = {}
    lines: list[str] = []
    if submission is None or on:
        scores, lines = _score(lab, source, on, chain, metric, draws)
    if output is not None:
        write_file(output, steps_text(chain))
        wrote.append(f"wrote {output}: birdlab predict ... --post {output}")
    if json_:
        print_json({**scores, "wrote": wrote})
        return
    print_lines("\n".join([*lines, *wrote]))


def _score(
    lab: Lab, source: str, on: str, chain: tuple[PostStep, ...], metric: str, draws: int
) -> tuple[dict[str, Any], list[str]]:
    """The scores as plain data and as lines."""
    from dataclasses import asdict

    from birdlab.study.post_words import describe_post
    from birdlab.study.postprocessing import score_steps

    evidence = _evidence(lab, source, on)
    scores = score_steps(evidence.cells, chain, metric, n_draws=draws)
    said = [*describe_post(scores, evidence.group), *evidence.notes]
    return {**asdict(scores), "said": said}, _lines(scores, evidence.group, said)


def _check_files(
    source: str, output: Path | None, submission: Path | None, sample: Path | None
) -> None:
    """SpecError for files that cannot be what they are named as, before anything is computed."""
    from birdlab.errors import SpecError

    if submission is None:
        if sample is not None:
            raise SpecError("--sample orders a submission", fix="name it: --submission FILE")
    elif not source.endswith(".parquet"):
        raise SpecError(
            "a submission is made of windows",
            got=source,
            expected="the .windows.parquet of `birdlab predict`",
        )
    if output is not None and output.suffix.lower() != ".json":
        raise SpecError("a chain is written as JSON", got=output, fix="let its name end in .json")
    read = {path.resolve() for path in (Path(source), sample) if path is not None}
    for path in (output, submission):
        if path is not None and (path.is_dir() or path.resolve() in read):
            raise SpecError(
                "a file would be written over a folder or what is read from",
                got=path,
                fix="name another file",
            )


def _chain(typed: list[str], file: Path | None) -> tuple[PostStep, ...]:
    from birdlab.errors import SpecError
    from birdlab.evaluate.steps import load_steps, parse_steps

    if bool(typed) == (file is not None):
        raise SpecError(
            "it is not clear which steps are meant", expected="--step STEP ..., or --steps FILE"
        )
    return parse_steps(typed) if file is None else load_steps(file)


def _write_submission(
    source: str, chain: tuple[PostStep, ...], path: Path, sample: Path | None
) -> str:
    """What was written, in words."""
    from birdlab.infer.submission import write_submission
    from birdlab.study.post_sources import apply_chain, read_windows
    from birdlab.words import count_words

    table = apply_chain(read_windows(Path(source)), chain)
    with writing(path):
        write_submission(table, [c for c in table.columns if c != "row_id"], path, sample)
    return f"wrote {path}: {len(table)} rows after {count_words(len(chain), 'step')}"


def _evidence(lab: Lab, source: str, on: str) -> PostEvidence:
    from birdlab.errors import SpecError
    from birdlab.study.post_sources import heard_windows, held_out_windows, predicted_windows
    from birdlab.tracking.resolve import resolve_run

    if source.endswith(".parquet"):
        if not on:
            raise SpecError(
                "it is not clear which soundscapes these windows are of",
                where=source,
                fix="name the data set that has their labels: --on NAME",
            )
        return predicted_windows(lab, Path(source), on)
    if source.endswith(".csv") and Path(source).is_file():
        raise SpecError(
            "this file does not hold windows",
            got=source,
            expected="the .windows.parquet that `birdlab predict` writes beside its CSV, or a run",
        )
    record = resolve_run(lab, source)
    heard = bool(record["evaluation"].get("soundscapes_hash"))
    if on == "folds" or (not on and not heard):
        return held_out_windows(lab, record)
    return heard_windows(lab, record, "" if on == "soundscapes" else on)


def _lines(scores: PostScores, group: str, said: list[str]) -> list[str]:
    width = max(len("step"), *(len(step.title) for step in scores.steps))
    models = "" if scores.n_models == 1 else f", mean of {scores.n_models} models"
    return [
        f"{scores.metric} on {scores.n_rows:,} rows of {scores.n_groups:,} {group}s{models}",
        f"  {'step':<{width}}  {'score':>7}  {'delta':>7}  95 % interval",
        f"  {'none':<{width}}  {scores.base:7.4f}",
        *(
            f"  {step.title:<{width}}  {step.score:7.4f}  {step.delta:+7.4f}  {_remark(step)}"
            for step in scores.steps
        ),
        *([""] if said else []),
        *said,
    ]


def _remark(step: PostScore) -> str:
    if step.interval is None:
        return "cannot change it" if step.unchanged else ""
    return f"{step.interval.low:+.4f} to {step.interval.high:+.4f}"
