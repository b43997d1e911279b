"""What a prediction did, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.infer.deadline import MemberEnd
from birdlab.infer.job import Job
from birdlab.infer.passes import Engine
from birdlab.infer.progress import as_time
from birdlab.infer.submission import Sample

N_BINS = 10
N_LISTED = 5
OFTEN = 0.5


@dataclass(frozen=True)
class BadSoundscape:
    """A soundscape that could not be heard: why, and how many rows were made up for it."""

    name: str
    reason: str
    n_rows: int


@dataclass(frozen=True)
class PredictSummary:
    """What `predict_to_file` did.

    histogram: windows by their highest probability, in tenths from 0 to 1; often: class →
    windows above 0.5, the most frequent first; resampled: file → its rate; filled: file → how
    many of its rows nothing was heard for; dropped_files: those the sample does not ask for; steps:
    kinds of post-processing in order; seconds: of this run, `n_heard_now` windows of `n_windows`
    in it.
    """

    output: Path
    windows_file: Path | None
    n_rows: int
    n_files: int
    n_windows: int
    n_heard_now: int
    n_classes: int
    seconds: float
    settings: dict[str, str]
    histogram: tuple[int, ...]
    often: dict[str, int]
    members: tuple[MemberEnd, ...]
    resampled: dict[str, int]
    bad_files: tuple[BadSoundscape, ...]
    filled: dict[str, int]
    dropped_files: tuple[str, ...]
    warnings: tuple[str, ...]
    steps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The summary as plain data."""
        plain = asdict(self)
        for name in ("output", "windows_file"):
            plain[name] = None if plain[name] is None else str(plain[name])
        return plain

    def __str__(self) -> str:
        lines = [
            f"wrote {self.output}: {self.n_rows} rows, {self.n_classes} classes; "
            f"{self.n_windows} windows of {self.n_files} files",
            *self._speed_lines(),
            f"  highest probability of each window, in tenths from 0 to 1: "
            f"{' '.join(map(str, self.histogram))}",
            f"  most often above {OFTEN}: "
            + (", ".join(f"{code} {n}" for code, n in self.often.items()) or "none"),
        ]
        if self.steps:
            lines.append(f"  post-processing of the rows: {', '.join(self.steps)}")
        if self.windows_file is not None:
            lines.append(f"  probabilities of all windows: {self.windows_file}")
        lines += [f"  member {end.name} ({end.backbone}): {_tell_end(end)}" for end in self.members]
        lines += self._unusual_lines()
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _speed_lines(self) -> list[str]:
        if not self.n_files:
            return []
        said = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        each = f"{self.seconds / self.n_files:.3f} s a file"
        if self.n_heard_now:
            each += f", {1000 * self.seconds / self.n_heard_now:.1f} ms a window, all counted"
        if self.n_heard_now < self.n_windows:
            each += f" ({self.n_heard_now} windows heard in this run)"
        return [f"  {each} in {as_time(self.seconds)}", f"  with {said}"]

    def _unusual_lines(self) -> list[str]:
        rates: dict[int, list[str]] = {}
        for name, rate in self.resampled.items():
            rates.setdefault(rate, []).append(name)
        filled = [f"{stem} {n}" for stem, n in self.filled.items()]
        lines = [f"  resampled from {rate} Hz: {_listed(names)}" for rate, names in rates.items()]
        lines += [
            f"  not decoded, {bad.n_rows} rows made up: {bad.name}: {bad.reason}"
            for bad in self.bad_files
        ]
        if filled:
            lines.append(f"  rows made up for what was not heard: {_listed(filled)}")
        if self.dropped_files:
            lines.append(f"  not in the sample, left out: {_listed(self.dropped_files)}")
        return lines


def summarise(
    job: Job,
    engine: Engine,
    ends: Sequence[MemberEnd],
    windows_file: Path | None,
    warnings: Sequence[str],
) -> PredictSummary:
    """What a job did whose last rows are published; its caller knows the time it took."""
    plan, store, rows = job.plan, job.store, job.rows
    probs = (
        job.heard.probs
        if job.heard is not None
        else np.empty((0, len(job.card.classes)), np.float32)
    )
    files = plan.course.files
    n_filled = {stem: len(names) for stem, names in (rows.filled if rows else {}).items()}
    lost = job.lost_places()
    bad = [
        BadSoundscape(files[i].name, store.known[i].reason or "", n_filled.get(files[i].stem, 0))
        for i in lost
    ]
    stems = {files[i].stem for i in lost}
    rate = job.card.sample_rate_hz
    other = {h.path.name: h.sample_rate_hz for h in plan.headers if h.sample_rate_hz != rate}
    settings = {**engine.predictor.settings, "sessions": str(engine.sessions)}
    return PredictSummary(
        output=job.output,
        windows_file=windows_file,
        n_rows=len(rows.row_ids) if rows else 0,
        n_files=len(files),
        n_windows=len(probs),
        n_heard_now=len(probs),
        n_classes=len(plan.columns),
        seconds=0.0,
        settings=settings,
        histogram=count_highest(probs),
        often=count_often(probs, job.card.classes),
        members=tuple(ends),
        resampled={name: hz for name, hz in other.items() if hz is not None},
        bad_files=tuple(bad),
        filled={stem: n for stem, n in n_filled.items() if stem not in stems},
        dropped_files=plan.dropped,
        warnings=tuple(warnings),
        steps=tuple(str(step["kind"]) for step in job.steps),
    )


def summarise_nothing(output: Path, sample: Sample, settings: dict[str, str]) -> PredictSummary:
    """The summary where there was no soundscape and the sample was written as it is."""
    return PredictSummary(
        output, None, len(sample.row_ids), 0, 0, 0, len(sample.columns), 0.0, settings,
        (0,) * N_BINS, {}, (), {}, (), {}, (),
        ("there are no soundscapes: this is the sample submission as it is",),
    )  # fmt: skip


def count_highest(probs: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """How many windows have their highest probability in each tenth from 0 to 1."""
    if not len(probs):
        return (0,) * N_BINS
    tenths = np.minimum((probs.max(axis=1) * N_BINS).astype(int), N_BINS - 1)
    return tuple(np.bincount(tenths, minlength=N_BINS).tolist())


def count_often(probs: npt.NDArray[np.float32], classes: Sequence[str]) -> dict[str, int]:
    """The classes with the most windows above 0.5, and how many; ties in the order of columns."""
    counts = (probs > OFTEN).sum(axis=0)
    order = np.argsort(-counts, kind="stable")[:N_LISTED]
    return {classes[i]: int(counts[i]) for i in order if counts[i]}


def _tell_end(end: MemberEnd) -> str:
    if end.finished:
        return f"all windows, {as_time(end.seconds) if end.seconds else 'in an earlier run'}"
    return f"dropped after {end.n_windows} windows: {end.reason}"


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    some = list(names)[:N_LISTED]
    more = len(names) - len(some)
    return ", ".join(some) + (f" and {more} more" if more else "")
