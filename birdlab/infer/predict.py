"""From soundscapes to a submission that is there whatever happens: `predict_to_file`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from birdlab.errors import PredictError
from birdlab.evaluate.postprocess import check_overlap, check_steps
from birdlab.infer.card import ModelCard
from birdlab.infer.deadline import MemberEnd, Race, Timer, order_members
from birdlab.infer.job import (
    Job,
    Plan,
    copy_sample,
    describe_job,
    name_model,
    plan_course,
    plan_rows,
)
from birdlab.infer.passes import Engine, ModelChoice, run_pass
from birdlab.infer.progress import Progress
from birdlab.infer.reading import find_soundscapes, list_soundscapes, undecodable
from birdlab.infer.rows import Filler, count_heard, read_steps, write_windows
from birdlab.infer.soundscapes import predict_soundscapes as predict_soundscapes
from birdlab.infer.store import WorkStore
from birdlab.infer.submission import Sample, check_columns, read_sample
from birdlab.infer.summary import PredictSummary, summarise, summarise_nothing
from birdlab.infer.tuning import arrange_engine, count_cores
from birdlab.timing import timed

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
    Parquet. hop_s: seconds from one window to the next, a whole part of a window; None for that of
    the model's card. batch: inputs that go through the network together, each of one window or of
    the windows of a pass.
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
    readers: int = 2

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
            if number is not None and not 0 < number < math.inf:
                raise PredictError(f"{name} must be a number above 0", got=number)


def predict_to_file(request: PredictRequest, *, stream: TextIO | None = None) -> PredictSummary:
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
    find = list_soundscapes if sample is None else find_soundscapes
    files = find(request.soundscapes)
    with ExitStack() as opened:
        model = ModelChoice(request.model, request.variant, request.force)
        with timed("load the model"):
            engine = Engine(model, *_arrangement(request))
        opened.callback(engine.close)
        card = engine.predictor.card
        steps = read_steps(card) if request.post is None else request.post
        if request.hop_s is None:
            request = replace(request, hop_s=card.hop_s)
        check_steps(steps, card.classes)
        check_overlap(steps, request.hop_s is not None and request.hop_s < card.window_s)
        if sample is not None:
            check_columns(card.classes, sample)
            if not files:
                copy_sample(sample, request.output)
                return summarise_nothing(request.output, sample, engine.predictor.settings)
        with timed("plan the windows"):
            plan = _plan(request, files, card, sample)
            store = _open_store(request, engine, plan)
        opened.callback(store.close)
        if store.resumed:
            progress.say(store.resumed)
        job = Job(plan, request.output, card, store, steps,
                  _filler(request.missing), _filler(request.on_bad_file))  # fmt: skip
        write_s = job.publish(job.whole_members())
        with timed("choose sessions and threads"):
            engine = arrange_engine(engine, plan.course, store, plan.n_windows, progress.say)
        opened.callback(engine.close)
        progress.counted = "windows" if card.windows_per_pass == 1 else "passes"
        n_before = count_heard(store, min(store.members[m].n_rows for m in order_members(card)))
        ends: list[MemberEnd] = []
        with timed("hear the soundscapes"):
            if request.deadline_s is None:
                _hear_together(job, engine, progress)
            else:
                timer = Timer(request.deadline_s, began, writes=4 if request.windows else 2)
                timer.hold_back(write_s)
                ends = Race(plan, engine, store, card, timer, progress).run(job.publish)
        with timed("post-process and write"):
            warnings = _publish_end(job)
            windows_file = _write_windows(request, job, warnings)
        summary = summarise(job, engine, ends, windows_file, warnings)
        if not request.keep:
            store.remove()
    n_now = max(0, summary.n_windows - n_before)
    return replace(summary, seconds=time.monotonic() - began, n_heard_now=n_now)


def _filler(policy: OnTrouble) -> Filler:
    """What a row gets all the same where the policy was to fail before it came to that."""
    return "zeros" if policy == "zeros" else "prior"


def _arrangement(request: PredictRequest) -> tuple[int, int]:
    """Sessions and threads as asked for; else a session of one thread on every core."""
    cores = count_cores()
    if request.sessions is None:
        return (cores, 1) if request.threads is None else (1, request.threads)
    return request.sessions, request.threads or max(1, cores // request.sessions)


def _plan(
    request: PredictRequest, files: Sequence[Path], card: ModelCard, sample: Sample | None
) -> Plan:
    course = plan_course(
        files,
        card.windowing,
        hop_s=request.hop_s,
        batch=request.batch,
        readers=request.readers,
        refuse_bad=request.on_bad_file == "fail",
    )
    return plan_rows(course, card.classes, sample, request.rows, request.missing)


def _open_store(request: PredictRequest, engine: Engine, plan: Plan) -> WorkStore:
    """The work folder of a request; PredictError where an earlier run found what it refuses."""
    said = describe_job(name_model(engine.model.file), engine.predictor, plan)
    if request.sessions is not None or request.threads is not None:
        said |= {"sessions": engine.sessions, "threads": engine.threads}
    folder = request.output.with_name(f"{request.output.stem}.work")
    store = WorkStore(folder, said, len(engine.predictor.card.members))
    for entry in store.known.values():
        if plan.course.refuse_bad and entry.reason is not None:
            store.close()
            raise undecodable(plan.course.files[entry.place], entry.reason)
    return store


def _hear_together(job: Job, engine: Engine, progress: Progress) -> None:
    """All members in one pass; after a run with a deadline, in one for each that came as far."""
    course, store, n_inputs = job.plan.course, job.store, job.plan.n_inputs

    def go_on(done: int) -> bool:
        progress.update("predicting", done, n_inputs)
        return True

    whole = job.whole_members()
    left = [m for m in order_members(job.card) if m not in whole]
    while left:
        farthest = max(store.members[m].n_rows for m in left)
        together = sorted(m for m in left if store.members[m].n_rows == farthest)
        progress.begin(farthest)
        run_pass(course, engine, store, together, go_on)
        left = [m for m in left if m not in together]


def _publish_end(job: Job) -> list[str]:
    """Write what there is in the end; what the reader of the summary must be warned of."""
    warnings, card, members = [], job.card, job.whole_members()
    if not members:
        nearest = max(order_members(card), key=lambda m: job.store.members[m].n_rows)
        n = count_heard(job.store, job.store.members[nearest].n_rows)
        members = [nearest] if n else []
        warnings.append(
            f"no member heard every window in time; {card.members[nearest].name} heard {n} of "
            f"about {job.plan.n_windows}, and every other row is "
            + ("the mean of those" if n else "the prior or zeros")
        )
    job.publish(members)
    unknown = int((card.shares(members).sum(axis=0) == 0).sum())
    if unknown and members:
        warnings.append(f"{unknown} classes are known only to members that were dropped: all 0")
    if job.plan.course.files and len(job.lost_places()) == len(job.plan.course.files):
        warnings.append("no soundscape could be decoded")
    return warnings


def _write_windows(request: PredictRequest, job: Job, warnings: list[str]) -> Path | None:
    """The Parquet of all windows, where one is wanted and can be written."""
    if not request.windows or job.heard is None:
        return None
    path = request.output.with_name(f"{request.output.stem}.windows.parquet")
    why = "pyarrow is not installed"
    try:
        if write_windows(path, job.heard, job.plan.course, job.card):
            return path
    except PredictError as error:  # the submission is there, and worth more
        why = str(error.got)
    warnings.append(f"the probabilities of all windows are not written: {why}")
    return None
