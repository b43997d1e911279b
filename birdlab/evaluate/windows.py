"""Windows: how a recording is cut for the predictor, and when each of them ends.

Validation, prediction and the parity check use these functions and no others, so that the
number scored is the number deployed. No torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform, to_float
from birdlab.errors import OutputsError
from birdlab.evaluate.passes import list_passes
from birdlab.evaluate.pooling import blend as blend
from birdlab.evaluate.pooling import pool_recordings as pool_recordings

Floats = npt.NDArray[np.float32]
Normalise = Literal["crop", "recording"]
Share = tuple[float, float]
"""A part of an input: from which to which share of its length."""
WHOLE: Share = (0.0, 1.0)

PEAK_EPS = 1e-6
"""A clip whose peak is below this is divided by it instead, so silence stays silence."""


@dataclass(frozen=True)
class Windowing:
    """What a model hears of the windows of a recording.

    With `context_s` its input is so many seconds, and `windows_per_pass` windows that follow each
    other lie in the middle of it. `normalise` is what brings it to peak 1: `crop`, the input by
    itself, or `recording`, the whole recording, so that quiet windows stay quiet. Raises
    OutputsError for a context shorter than its windows.
    """

    window_s: float
    sample_rate_hz: int
    context_s: float | None = None
    normalise: Normalise = "crop"
    windows_per_pass: int = 1

    def __post_init__(self) -> None:
        if self.windows_per_pass < 1:
            raise OutputsError("a pass gives no window", got=self.windows_per_pass)
        least = self.windows_per_pass * self.window_s
        if not (self.window_s if self.context_s is None else self.context_s) >= least:
            raise OutputsError(
                "a context is shorter than its window"
                if self.windows_per_pass == 1
                else "a context is shorter than its windows",
                got="no context" if self.context_s is None else f"context {self.context_s:g} s",
                expected=f"{least:g} s or more for {self.windows_per_pass} x {self.window_s:g} s",
                fix="set evaluate.context_s to the length of these windows or more",
            )

    def __str__(self) -> str:
        each = f"{self.window_s:g} s"
        if self.windows_per_pass > 1:
            each = f"{self.windows_per_pass} x {each}"
        around = "" if self.context_s is None else f" out of {self.context_s:g} s"
        return f"{each}{around} at {self.sample_rate_hz} Hz, normalised per {self.normalise}"

    @property
    def window_samples(self) -> int:
        """The number of samples from one window to the next."""
        return round(self.window_s * self.sample_rate_hz)

    @property
    def margin_samples(self) -> int:
        """How many samples the input holds before its first window, and as many after its last."""
        windows_s = self.windows_per_pass * self.window_s
        around_s = 0.0 if self.context_s is None else self.context_s - windows_s
        return round(around_s / 2 * self.sample_rate_hz)

    @property
    def input_samples(self) -> int:
        """The number of samples that the model is given."""
        return self.windows_per_pass * self.window_samples + 2 * self.margin_samples

    @property
    def centres(self) -> tuple[Share, ...]:
        """From which to which share of the input each window of a pass lies.

        Each begins where the one before it ends, to the bit. (0, 1) where the input is the window.
        """
        before, n = self.margin_samples, self.input_samples
        if self.windows_per_pass == 1:
            return ((before / n, 1 - before / n),)
        k, width = self.windows_per_pass, self.window_samples
        ends = [(before + i * width) / n for i in range(k + 1)]
        return tuple(itertools.pairwise(ends))


def find_hop(windowing: Windowing, hop_s: float | None) -> int:
    """How many samples one window begins after the other; those of a window for None.

    Raises OutputsError for a hop that is no whole part of a window.
    """
    width = windowing.window_samples
    samples = windowing.sample_rate_hz * (windowing.window_s if hop_s is None else hop_s)
    hop = round(samples) if math.isfinite(samples) else 0
    if hop < 1 or width % hop:
        raise OutputsError(
            "the hop is no whole part of a window",
            got=f"{hop_s:g} s at {windowing.sample_rate_hz} Hz",
            expected=f"{windowing.window_s:g} s divided by 1, 2, 3 ..., in whole samples",
        )
    return hop


def count_windows(n_samples: int, window_samples: int, hop_samples: int | None = None) -> int:
    """How many windows cover a recording of `n_samples`; 1 for one shorter than a window."""
    hop = window_samples if hop_samples is None else hop_samples
    if n_samples < 0 or window_samples < 1 or not 1 <= hop <= window_samples:
        raise OutputsError(
            "a recording cannot be cut like this",
            got=f"{n_samples} samples, windows of {window_samples}, hop {hop}",
            expected="n_samples >= 0 and 1 <= hop_samples <= window_samples",
        )
    return 1 + max(0, -(-(n_samples - window_samples) // hop))


def cut_windows(wave: npt.ArrayLike, window_samples: int, hop_samples: int | None = None) -> Floats:
    """The windows of one recording, each peak-normalised: [k, window_samples] float32.

    `wave: [n] float32` of any scale. Windows start at 0 and every `hop_samples` (default: one
    after the other); what is left for the last is padded with zeros on the LEFT, as the crops
    in training are. An empty recording gives one window of zeros.
    """
    samples = np.asarray(wave, dtype=np.float32)
    if samples.ndim != 1:
        raise OutputsError("a waveform needs one axis", got=f"shape {samples.shape}")
    hop = window_samples if hop_samples is None else hop_samples
    n_windows = count_windows(len(samples), window_samples, hop)
    windows = np.zeros((n_windows, window_samples), dtype=np.float32)
    for row, start in zip(windows, range(0, n_windows * hop, hop), strict=True):
        content = samples[start : start + window_samples]
        row[window_samples - len(content) :] = content
    return peak_normalise(windows)


def iter_windows(
    wave: Waveform, windowing: Windowing, hop_samples: int | None = None
) -> Iterator[Floats]:
    """What a model hears of a recording, pass by pass: [input_samples] float32.

    Windows follow each other from the start; in the last one the rest of the recording stands
    at the END, after zeros, as in `cut_windows`. A pass has `windows_per_pass` of them, in time
    (`list_passes`). Their context is what lies around them in the recording that is padded so, and
    zeros beyond its ends. An input is made when it is asked for, so that an hour is never held as
    float. `wave` may be a part of a recording whose peak is `wave.scale`. `hop_samples` as in
    `stream_windows`.
    """
    return stream_windows([wave.samples], wave.n_samples, wave.scale, windowing, hop_samples)


def stream_windows(
    pieces: Iterable[npt.NDArray[np.int16]],
    n_samples: int,
    scale: float,
    windowing: Windowing,
    hop_samples: int | None = None,
) -> Iterator[Floats]:
    """The inputs of `iter_windows` for a recording that comes in pieces, none of which is kept.

    The `pieces` follow each other and hold `n_samples` in all, int16 with the peak `scale`. With
    `hop_samples`, a whole part of a window, there are windows between those too, up to the last.
    """
    width, margin = windowing.window_samples, windowing.margin_samples
    hop = width if hop_samples is None else hop_samples
    last = (count_windows(n_samples, width) - 1) * width
    gap = last + width - n_samples
    parts = ((0, last, 0), (last, n_samples, gap))  # where a part of the recording is put
    coming, held, at = iter(pieces), np.empty(0, np.int16), 0
    firsts = list_passes(last // hop + 1, windowing.windows_per_pass, width // hop)
    for start in (firsts * hop - margin).tolist():
        end = start + windowing.input_samples
        done = min(max(start - gap - at, 0), len(held))
        held, at = held[done:], at + done
        while at + len(held) < min(end, n_samples):
            piece = next(coming)
            held = np.concatenate([held, piece]) if len(held) else piece
        heard = np.zeros(windowing.input_samples, np.int16)
        for first, until, shift in parts:
            begin, stop = max(first + shift, start), min(until + shift, end)
            if begin < stop:
                heard[begin - start : stop - start] = held[begin - shift - at : stop - shift - at]
        yield _normalised(to_float(heard, scale), scale, windowing.normalise)


def _normalised(heard: Floats, peak: float, normalise: Normalise) -> Floats:
    if normalise == "crop":
        return peak_normalise(heard)
    return heard / np.float32(max(peak, PEAK_EPS))


def batch_windows(windows: Iterable[Floats], batch: int) -> Iterator[Floats]:
    """Batches [batch, samples] of windows in order, the last one smaller.

    No window is made up to fill a batch. Each batch is overwritten by the next.
    """
    buffer, filled = np.empty((0, 0), np.float32), 0
    for window in windows:
        if not buffer.size:
            buffer = np.empty((batch, len(window)), np.float32)
        buffer[filled] = window
        filled += 1
        if filled == batch:
            yield buffer
            filled = 0
    if filled:
        yield buffer[:filled]


def peak_normalise(waves: Floats) -> Floats:
    """Each wave over its largest absolute sample: [..., samples] float32, peak 1.

    A wave whose peak is under 1e-6 is divided by 1e-6, so silence stays zero. Raises
    OutputsError when a sample is not finite.
    """
    peaks = np.abs(waves).max(axis=-1, keepdims=True, initial=0.0)
    if not np.isfinite(peaks).all():
        raise OutputsError("a waveform holds samples that are not finite numbers")
    return np.asarray(waves / np.maximum(peaks, np.float32(PEAK_EPS)), dtype=np.float32)


def end_seconds(
    n_windows: int, window_s: float, hop_s: float | None = None
) -> list[int] | list[float]:
    """When each window ends, in seconds: 5, 10, 15 …; integers where all of them are.

    `hop_s` is a whole part of a window, up to rounding, which does not add up.
    """
    hop = window_s if hop_s is None else window_s / round(window_s / hop_s)
    ends = [round(window_s + i * hop, 6) for i in range(n_windows)]
    whole = [int(end) for end in ends]
    return whole if whole == ends else ends
