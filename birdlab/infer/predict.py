"""From soundscapes to a submission that is there whatever happens: `predict_to_file`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from birdlab.errors import PredictError
from birdlab.evaluate.postprocess import check_steps
from birdlab.infer.card import ModelCard
from birdlab.infer.deadline import MemberEnd, Race, Timer, order_members
from birdlab.infer.job import Job, choose_rows, copy_sample, describe_job, plan_course
from birdlab.infer.passes import Engine, run_pass
from birdlab.infer.progress import Progress
from birdlab.infer.reading import find_soundscapes, list_soundscapes
from birdlab.infer.rows import Filler, read_steps
from birdlab.infer.soundscapes import predict_soundscapes as predict_soundscapes
from birdlab.infer.soundscapes import undecodable
from birdlab.infer.store import WorkStore
from birdlab.infer.submission import check_columns, read_sample
from birdlab.infer.summary import PredictSummary
from birdlab.infer.tuning import arrange_engine, count_cores

OnTrouble = Literal["fail", "prior", "zeros"]


@dataclass(frozen=True)
class PredictRequest:
    """What to predict, with what, and where to.

    model: the ONNX file; soundscapes: a folder or files; output: the CSV. sample: a sample
    submission, whose columns count, and whose rows as well unless `rows` is "files". post: steps of
    post-processing; None for those of the model's card, () for none. sessions, threads: None to
    choose the fastest. missing: what becomes of rows of the sample without a file, and of files
    without a row: "fail" before anything is computed, or filled and left out. on_bad_file: what
    becomes of a file that cannot be decoded. keep: the work folder stays. windows: write the
    Parquet. hop_s: seconds from one window to the next, a whole part of a window. batch: windows
    that go through the network together.
    """

    model: Path
    soundscapes: Path | tuple[Path, ...]
    output: Path
    sample: Path | None = None
    variant: str | None = None
    force: bool = False
    deadline_s: float | None = None
    post: tuple[Mapping[str, Any], ...] | None = None
    sessions: int | None = None
    threads: int | None = None
    missing: OnTrouble = "fail"
    on_bad_file: OnTrouble = "prior"
    rows: Literal["sample", "files"] = "sample"
    keep: bool = False
    windows: bool = True
    hop_s: float | None = None
    batch: int = 8
    readers: int = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("missing", self.missing, get_args(OnTrouble)),
            ("on_bad_file", self.on_bad_file, get_args(OnTrouble)),
            ("rows", self.rows, ("sample", "files")),
        ):
            if value not in allowed:
                expected = f"one of {', '.join(allowed)}"
                raise PredictError(f"unknown {name}", got=value, expected=expected)
        for name in ("sessions", "threads", "deadline_s", "hop_s", "batch", "readers"):
            number = getattr(self, name)
            if number is not None and not number > 0:
                raise PredictError(f"{name} must be above 0", got=number)


def predict_to_file(
    request: PredictRequest, *, stream: TextIO | None = None
) -> PredictSummary:
    """What was done to write `request.output`; how far it is goes to `stream`.

    The CSV is valid from the start (the prior or zeros), is replaced whole, and follows the sample
    in rows and columns. The probabilities of every member are kept in `<stem>.work` beside it
    while they are made: after a crash the same request goes on, and gives the same bits. With a
    deadline the members are heard one after the other, and those that do not hear every window in
    time are left out. A folder without soundscapes gives the sample as it is. Raises PredictError
    for what makes no submission: no model, other columns, and by `missing` other rows.
    """
    began, progress = time.monotonic(), Progress(stream)
    sample = None if request.sample is None else read_sample(request.sample)
    if sample is None:
        files = list_soundscapes(request.soundscapes)
    else:
        files = find_soundscapes(request.soundscapes)
    sessions, threads = _arrangement(request)
    engine = Engine(
        request.model, sessions, threads, variant=request.variant, force=request.force
    )
    try:
        card = engine.predictor.card
        steps = read_steps(card) if request.post is None else request.post
        check_steps(steps, card.classes)
        if sample is not None:
            check_columns(card.classes, sample)
            if not files:
                return copy_sample(sample, request.output, engine)
        course, headers = plan_course(
            files, card.windowing, request.hop_s, request.batch, request.readers
        )
        course, headers, dropped = choose_rows(
            course, headers, sample if request.rows == "sample" else None, request.missing
        )
        fillers = [_filler(request.missing), _filler(request.on_bad_file)]
        manifest = describe_job(request.model, engine, request.variant, course, headers)
        if request.sessions is not None or request.threads is not None:
            manifest |= {"sessions": sessions, "threads": threads}
        folder = request.output.with_name(f"{request.output.stem}.work")
        store = WorkStore(folder, manifest, len(card.members))
        done = False
        try:
            if store.resumed:
                progress.say(store.resumed)
            n_windows = sum(header.n_windows or 0 for header in headers)
            engine = arrange_engine(
                engine, request.model, store, course, n_windows, order_members(card), progress,
                variant=request.variant, force=request.force,
            )  # fmt: skip
            job = Job(request.output, course, headers, store, card, sample,
                      request.rows == "sample", steps, fillers[0], fillers[1])  # fmt: skip
            summary = _hear_and_write(request, job, engine, progress, began, n_windows)
            done = True
            return summary
        finally:
            engine.close()
            store.close(remove=done and not request.keep)
    finally:
        engine.close()
