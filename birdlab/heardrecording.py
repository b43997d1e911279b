"""What a teacher says of one recording: the windows that it hears, its outputs as they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform, decode, to_float
from birdlab.errors import DataError
from birdlab.evaluate.windows import PEAK_EPS, Floats, Windowing, batch_windows, peak_normalise
from birdlab.heardstore import Half

Target = Literal["logits", "embeddings"]

BATCH = 32
"""Windows of one recording that a teacher hears at once; no batch spans two recordings, so that
outputs do not depend on which recordings were there before."""
_LOWEST = np.float32(6e-8)


class Teacher(Protocol):
    """Who says what is in a window: a file or the network of a cell.

    identity names its outputs, everything that changes them; codes are their columns; `output`
    takes waves [B, samples] float32 and gives logits [B, C] or embeddings [B, D], finite.
    normalise: what brings a window to peak 1: `crop` itself, `recording`, or `none` nothing.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def codes(self) -> tuple[str, ...]: ...

    @property
    def windowing(self) -> Windowing: ...

    @property
    def normalise(self) -> str: ...

    def output(self, waves: Floats, target: Target) -> Floats: ...


def hear_recording(
    teacher: Teacher, target: Target, wave: Waveform, start_s: npt.NDArray[np.float64]
) -> Half:
    """The outputs for the windows of one recording as they are kept: [W, D] float16."""
    windowing = teacher.windowing
    cut = (
        _cut(wave, round(float(start) * wave.sample_rate_hz), windowing, teacher.normalise)
        for start in start_s
    )
    heard = [teacher.output(batch, target) for batch in batch_windows(cut, BATCH)]
    return _kept(np.concatenate(heard), target)


def _kept(values: Any, target: Target) -> Half:
    """Logits within what a float32 probability can say; embeddings of length 1."""
    if target == "embeddings":
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(values / np.maximum(lengths, 1e-12), np.float16)
    return np.asarray(np.clip(values, logit(_LOWEST), -logit(_LOWEST)), np.float16)


def _cut(wave: Waveform, start: int, windowing: Windowing, normalise: str) -> Floats:
    """What a teacher hears of the window at sample `start`: [input_samples] float32.

    Zeros stand where the recording has ended or not begun.
    """
    before = middle_of(windowing) * windowing.window_samples
    first = start - windowing.margin_samples - before
    last = first + windowing.input_samples
    begin, stop = max(first, 0), min(last, wave.n_samples)
    heard = np.zeros(windowing.input_samples, np.float32)
    if begin < stop:
        heard[begin - first : stop - first] = to_float(wave.samples[begin:stop], wave.scale)
    if normalise == "crop":
        return peak_normalise(heard)
    return heard / np.float32(max(wave.scale, PEAK_EPS)) if normalise == "recording" else heard


def middle_of(windowing: Windowing) -> int:
    """Which window of a pass is heard, where a pass gives several: the others are not used."""
    return windowing.windows_per_pass // 2


def decode_part(
    teacher: Teacher, key: str, path: Path | None, first: int, n: int, sample_rate_hz: int
) -> Waveform:
    """The used part of a recording at the rate of the teacher, from its file."""
    rate = teacher.windowing.sample_rate_hz
    if path is None or not path.is_file():
        raise DataError(
            f"{teacher.name} hears {rate} Hz and the file of a recording is not there",
            where=str(path or key),
            expected=f"the recording itself: the lab keeps waveforms of {sample_rate_hz} Hz only",
            fix="put the file back where its data set says",
        )
    whole = decode(path, rate)
    begin, stop = (round(at / sample_rate_hz * rate) for at in (first, first + n))
    return Waveform(whole.samples[begin:stop], whole.scale, rate)


def logit(probs: npt.ArrayLike) -> Floats:
    """log(p / (1 - p)) of probabilities, float32; those nearer to 0 or 1 than 6e-8 are moved."""
    p = np.clip(np.asarray(probs, np.float64), float(_LOWEST), 1 - float(_LOWEST))
    return np.asarray(np.log(p) - np.log1p(-p), np.float32)
