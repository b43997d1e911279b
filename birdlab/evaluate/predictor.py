"""The predictor protocol, and the road from recordings to window outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.windows import cut_windows, end_seconds

Floats = npt.NDArray[np.float32]


class Predictor(Protocol):
    """Anything that turns windows into probabilities: a torch model, an ONNX session."""

    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        """(P, M), each [B, C] float32 in 0..1, for peak-normalised windows [B, samples]."""
        ...


@dataclass(frozen=True)
class WindowOutputs:
    """What a predictor says of every window of some recordings.

    recordings: ids in order; recording_index: [W] the recording of each window; end_s: [W]
    when it ends; clip_probs and time_max: [W, C] float32 in 0..1, columns as in `codes`.
    """

    recordings: tuple[str, ...]
    codes: tuple[str, ...]
    recording_index: npt.NDArray[np.int64]
    end_s: npt.NDArray[np.float64]
    clip_probs: Floats
    time_max: Floats


def predict_recordings(
    predictor: Predictor,
    recordings: Sequence[str],
    read: Callable[[int], Floats],
    codes: Sequence[str],
    *,
    window_s: float,
    sample_rate_hz: int,
    batch: int,
) -> WindowOutputs:
    """The outputs for every window of the recordings, windows of many recordings per batch.

    `read(i)` gives the waveform of recording i at `sample_rate_hz`. Batches are filled across
    recordings, so that short ones cost no empty windows.
    """
    window_samples = round(window_s * sample_rate_hz)
    index: list[int] = []
    ends: list[float] = []

    def windows() -> Iterator[Floats]:
        for i in range(len(recordings)):
            cut = cut_windows(read(i), window_samples)
            index.extend([i] * len(cut))
            ends.extend(end_seconds(len(cut), window_s))
            yield from cut

    clip_probs: list[Floats] = []
    time_max: list[Floats] = []
    for waves in _batches(windows(), batch):
        p, m = predictor(waves)
        clip_probs.append(p)
        time_max.append(m)
    return WindowOutputs(
        tuple(recordings),
        tuple(codes),
        np.asarray(index, np.int64),
        np.asarray(ends, np.float64),
        np.concatenate(clip_probs),
        np.concatenate(time_max),
    )


def _batches(windows: Iterator[Floats], batch: int) -> Iterator[Floats]:
    waiting: list[Floats] = []
    for window in windows:
        waiting.append(window)
        if len(waiting) == batch:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
