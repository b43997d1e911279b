"""A prediction that is set up: which files and rows, what becomes of gaps, and what is written."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import OutputsError, PredictError
from birdlab.evaluate.passes import count_passes
from birdlab.evaluate.windows import Windowing, find_hop
from birdlab.infer.card import ModelCard
from birdlab.infer.checksums import file_sha256
from birdlab.infer.models import weights_beside
from birdlab.infer.passes import Course
from birdlab.infer.reading import Header, read_headers
from birdlab.infer.rows import (
    Filler,
    HeardWindows,
    Rows,
    collect_heard,
    fill_rows,
    finish_windows,
    list_rows,
    read_prior,
)
from birdlab.infer.session import SoundPredictor
from birdlab.infer.store import FORMAT, WorkStore
from birdlab.infer.submission import Sample, replace_whole, tell_difference, write_rows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which files are heard and which rows are asked for.

    headers: one per file of `course`; row_ids: those of the sample, None for those of the files;
    columns: the classes in the order to write; dropped: files that no row asks for.
    """

    course: Course
    headers: tuple[Header, ...]
    row_ids: tuple[str, ...] | None
    columns: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def n_windows(self) -> int:
        """How many windows there are by what the headers say."""
        return sum(header.n_windows or 0 for header in self.headers)

    @property
    def n_inputs(self) -> int:
        """How many passes it takes to hear them."""
        course = self.course
        per_pass, width = course.windowing.windows_per_pass, course.windowing.window_samples
        hops = width // course.hop_samples
        return sum(count_passes(h.n_windows or 0, per_pass, hops) for h in self.headers)


def plan_course(
    files: Sequence[Path],
    windowing: Windowing,
    *,
    hop_s: float | None,
    batch: int,
    readers: int,
    refuse_bad: bool,
) -> Course:
    """The way through the files; PredictError for a hop that does not divide a window."""
    try:
        hop_samples = find_hop(windowing, hop_s)
    except OutputsError as error:
        raise PredictError(
            "the hop is no whole part of a window", got=error.got, expected=error.expected
        ) from None
    return Course(tuple(files), windowing, hop_samples, batch, readers, refuse_bad)


def plan_rows(
    course: Course, classes: Sequence[str], sample: Sample | None, rows: str, missing: str
) -> Plan:
    """What is heard for the rows of `sample`, if `rows` says that they count.

    With `missing` "fail" they must be those that the files give by their headers; else files that
    no row asks for are left out. Raises PredictError that lists the difference.
    """
    headers = read_headers(course.files, course.windowing, course.hop_samples)
    columns = tuple(classes) if sample is None else sample.columns
    if sample is None or rows == "files":
        return Plan(course, tuple(headers), None, columns, ())
    silent = {header.path.stem for header in headers if header.n_windows is None}
    expected = [name for name in list_rows(course, headers, {}) if _stem(name) not in silent]
    asked = [name for name in sample.row_ids if _stem(name) not in silent]
    if missing == "fail" and set(expected) != set(asked):
        raise PredictError(
            "the row ids are not those of the sample submission",
            where=str(sample.path),
            got=tell_difference(expected, asked),
            expected=f"{len(sample.row_ids)} rows",
            fix="predict exactly the soundscapes that the sample names, or fill and leave out what "
            "does not fit: --missing prior (or zeros)",
        )
    stems = {_stem(name) for name in sample.row_ids}
    kept = tuple(header for header in headers if header.path.stem in stems)
    dropped = tuple(header.path.name for header in headers if header.path.stem not in stems)
    course = replace(course, files=tuple(header.path for header in kept))
    return Plan(course, kept, sample.row_ids, columns, dropped)


def describe_job(sha256: str, predictor: SoundPredictor, plan: Plan) -> dict[str, Any]:
    """Everything that the stored probabilities depend on, as JSON has it."""
    settings = {k: v for k, v in predictor.settings.items() if k != "threads"}
    course = plan.course
    return {
        "format": FORMAT,
        "model": sha256,
        "settings": settings,
        "classes": list(predictor.card.classes),
        "windowing": asdict(course.windowing),
        "hop_samples": course.hop_samples,
        "batch": course.batch,
        "files": [[h.path.name, h.size_bytes, h.modified_ns] for h in plan.headers],
        "sessions": None,
        "threads": None,
    }


def name_model(path: Path) -> str:
    """What work folders and measured tunings know an ONNX file and its weights by: a SHA-256.

    It is one of the SHA-256 of each file, so not what `models.hash_model` gives; another one would
    let go of all that is kept.
    """
    digest = hashlib.sha256()
    for part in (path, weights_beside(path)):
        if part == path or part.is_file():
            digest.update(bytes.fromhex(file_sha256(part)))
    return digest.hexdigest()


@dataclass(eq=False)
class Job:
    """A plan at work: what is stored becomes what is written.

    `others` fills rows that no file has, `bad` those of files that could not be heard. Where a
    member did not hear every window, the rows that it did not reach get the mean of those it did,
    which they rank with. After `publish`, `heard` and `rows` are what was written last.
    """

    plan: Plan
    output: Path
    card: ModelCard
    store: WorkStore
    steps: Sequence[Mapping[str, Any]]
    others: Filler
    bad: Filler
    heard: HeardWindows | None = None
    rows: Rows | None = None

    def publish(self, members: Sequence[int]) -> float:
        """Write the blend of these members, or of none of them the fillers; the seconds it took."""
        began, course = time.monotonic(), self.plan.course
        row_ids: list[str] = []
        values = np.empty((0, len(self.card.classes)), np.float32)
        self.heard = None
        if members:
            self.heard = collect_heard(course, self.store, self.card, members)
            row_ids, values = finish_windows(self.heard, course, self.card, self.steps)
        wanted = self.plan.row_ids or list_rows(course, self.plan.headers, self.store.known)
        part = bool(members) and not set(members) <= set(self.whole_members())
        lost: dict[str, Filler] = {path.stem: "mean" for path in course.files} if part else {}
        lost |= {course.files[place].stem: self.bad for place in self.lost_places()}
        prior = read_prior(self.card)
        self.rows = fill_rows(wanted, row_ids, values, lost, self.others, prior)
        place = {code: i for i, code in enumerate(self.card.classes)}
        order = [place[code] for code in self.plan.columns]
        same = order == list(range(len(order)))
        ordered = self.rows.values if same else self.rows.values[:, order]
        write_rows(self.output, self.rows.row_ids, self.plan.columns, ordered)
        return time.monotonic() - began

    def lost_places(self) -> list[int]:
        """The files that could not be heard."""
        known = self.store.known.values()
        return sorted(entry.place for entry in known if entry.reason is not None)

    def whole_members(self) -> list[int]:
        """The members with a weight that heard every window of every file."""
        n_files = len(self.plan.course.files)
        return [
            i
            for i, member in enumerate(self.card.members)
            if member.weight > 0 and self.store.is_whole(i, n_files)
        ]


def copy_sample(sample: Sample, output: Path) -> None:
    """Write the sample as it is, for a folder without soundscapes."""
    with replace_whole(output) as temporary:
        shutil.copyfile(sample.path, temporary)


def _stem(row_id: str) -> str:
    return row_id.rpartition("_")[0]
