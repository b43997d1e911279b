"""What a teacher says of recordings, heard once and kept: windows on a grid, outputs in float16.

The outputs depend on the teacher, the waveform and the grid alone, never on who asks, so one
folder `<stores>/teachers/<teacher>-<target>-<hop>` serves all experiments. It holds parts: an
array of outputs and an index of the recordings in it. A part appears whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from birdlab.data.audio import Waveform
from birdlab.data.waves import open_waves
from birdlab.datasets import Progress, silent
from birdlab.errors import DataError
from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.evaluate.windows import Floats
from birdlab.heardrecording import Target, Teacher, decode_part, hear_recording
from birdlab.heardstore import Half, HeardStore, Part, heard_folders
from birdlab.lab import Lab
from birdlab.sed.takes import locate_takes
from birdlab.spec.base import canonical
from birdlab.spec.teaching import DistillSpec

PART_WINDOWS = 2048
"""A part is written when it holds so many windows: what a kill may cost."""
TELL_EVERY_S = 1.0
LESSONS = 1
"""Raised when equal fields of a DistillSpec give other lessons."""


def distill_document(spec: DistillSpec, teacher: str) -> dict[str, Any]:
    """What the weights of a cell depend on by its teacher, whose outputs `teacher` names."""
    return {**canonical(spec), "teacher": teacher, "lessons": LESSONS}


@dataclass(frozen=True, eq=False)
class Heard:
    """A teacher's outputs for R recordings, mapped from files.

    codes: the columns of logits; starts [R]: the first sample of each window, counted from the
    start of the used part at the rate of the lab's waveforms, negative where the window is longer
    than the part and zeros stand before it.
    """

    codes: tuple[str, ...]
    window_s: float
    sample_rate_hz: int
    starts: tuple[npt.NDArray[np.int64], ...]
    outputs: tuple[Half, ...]

    def __len__(self) -> int:
        return len(self.outputs)

    def probs(self, i: int) -> Floats:
        """The probabilities of every window of recording i: [W, C] float32, 0 <= p < 1."""
        probs = special.expit(self.outputs[i].astype(np.float32))
        return np.asarray(np.minimum(probs, HIGHEST_PROB), np.float32)

    def start_s(self, i: int) -> npt.NDArray[np.float64]:
        """When each window of recording i starts: [W] seconds, not below 0."""
        return np.maximum(self.starts[i], 0) / self.sample_rate_hz


def grid_starts(n_samples: int, width: int, hop: int) -> npt.NDArray[np.int64]:
    """Where the windows over a recording start: every `hop` samples, and the last at its end.

    One shorter than a window has a single one, which starts at n_samples - width: zeros stand
    before the recording, as in crops and in validation.
    """
    last = n_samples - width
    if last <= 0:
        return np.array([last], np.int64)
    starts = np.arange(0, last + 1, hop, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def hear(
    teacher: Teacher,
    lab: Lab,
    keys: Sequence[str],
    hop_s: float,
    progress: Progress = silent,
    *,
    sample_rate_hz: int,
    spans_s: npt.NDArray[np.float64] | None = None,
    paths: Mapping[str, Path] | None = None,
    target: Target = "logits",
) -> Heard:
    """What the teacher says of each waveform `keys` [R] of the lab's store, in the order given.

    What is stored already is read; the rest is heard now, in parts that stay when the process
    dies. A second process that wants the same waits and finds it. `spans_s` [R, 2] are the used
    parts in seconds (NaN: from the start, to the end). A teacher of another rate than
    `sample_rate_hz`, that of the keys, hears the files of `paths` (key to file), decoded at its
    own rate. Raises DataError for outputs that are not finite and for a file that is needed and
    not there, LabError when the outputs cannot be written.
    """
    waves = open_waves(lab, sample_rate_hz)
    spans = np.full((len(keys), 2), np.nan) if spans_s is None else spans_s
    takes = locate_takes(waves, np.array(keys, "S32"), spans)
    width = round(teacher.windowing.window_s * sample_rate_hz)
    hop = max(1, round(hop_s * sample_rate_hz))
    starts = tuple(grid_starts(int(n), width, hop) for n in takes.n_samples)
    names = [name_of(key, span) for key, span in zip(keys, spans.tolist(), strict=True)]
    store = HeardStore(
        heard_folders(lab) / f"{teacher.identity}-{target}-{hop_s:g}",
        {"teacher": teacher.name, "target": target, "hop_s": hop_s},
    )

    def wave_of(i: int) -> Waveform:
        place, first, n = int(takes.place[i]), int(takes.first[i]), int(takes.n_samples[i])
        if teacher.windowing.sample_rate_hz == sample_rate_hz:
            stored = waves.read_row(place, first, n)
            return Waveform(stored, waves.scale_of(place), sample_rate_hz)
        return decode_part(teacher, keys[i], (paths or {}).get(keys[i]), first, n, sample_rate_hz)

    def made(wanted: Sequence[int]) -> Iterator[Part]:
        yield from _parts(teacher, target, wanted, names, starts, wave_of, sample_rate_hz, progress)

    store.complete(names, made)
    outputs = store.load(names, [len(s) for s in starts])
    return Heard(teacher.codes, teacher.windowing.window_s, sample_rate_hz, starts, outputs)


def columns_of(name: str, codes: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """The output of a teacher for each of `classes`, -1 for one that it does not know.

    Raises DataError when it knows none.
    """
    place = {code: i for i, code in enumerate(codes)}
    columns = np.array([place.get(code, -1) for code in classes], np.int64)
    if (columns < 0).all():
        raise DataError(
            f"the teacher {name} knows none of the classes",
            got=f"{', '.join(list(codes)[:3])} ...",
            expected=f"some of {', '.join(list(classes)[:3])} ...",
            fix="map its labels: `labels` of the teacher in birdlab.toml",
        )
    return columns


def name_of(key: str, span_s: Sequence[float]) -> str:
    """The name of a used part of a waveform in the store of outputs."""
    if np.isnan(span_s).all():
        return key
    first, last = ("" if np.isnan(s) else f"{s:.6f}" for s in span_s)
    return f"{key}:{first}-{last}"


def _parts(
    teacher: Teacher,
    target: Target,
    wanted: Sequence[int],
    names: Sequence[str],
    starts: Sequence[npt.NDArray[np.int64]],
    wave_of: Callable[[int], Waveform],
    sample_rate_hz: int,
    progress: Progress,
) -> Iterator[Part]:
    """The outputs for the recordings `wanted`, some recordings at a time."""
    total, done = sum(len(starts[i]) for i in wanted), 0
    held: dict[str, Half] = {}
    what, told = f"{teacher.name} hears windows", time.monotonic()
    progress(what, 0, total)
    for i in wanted:
        seconds = starts[i] / sample_rate_hz
        heard = hear_recording(teacher, target, wave_of(i), seconds)
        if not np.isfinite(heard).all():
            raise DataError(
                f"the {target} of {teacher.name} are not finite",
                where=names[i],
                got=f"{int((~np.isfinite(heard)).sum())} of {heard.size} values",
                fix="check that the file takes waves of this rate and scale",
            )
        held[names[i]] = heard
        done += len(heard)
        if sum(map(len, held.values())) >= PART_WINDOWS:
            yield held
            held = {}
        if done == total or time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            progress(what, done, total)
    if held:
        yield held
