"""The predictor protocol, and the road from recordings to window outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform
from birdlab.evaluate.windows import Windowing, batch_windows, end_seconds, iter_windows
from birdlab.spec.experiment import ExperimentSpec

Floats = npt.NDArray[np.float32]


class Predictor(Protocol):
    """Anything that turns windows into probabilities: a torch model, an ONNX session."""

    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        """(P, M), each [B, C] float32 in 0..1, for inputs [B, samples] of `iter_windows`.

        Nothing of `waves` may be kept: the next batch is written over it.
        """
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


def build_windowing(spec: ExperimentSpec, sample_rate_hz: int) -> Windowing:
    """What the models of an experiment hear of each window; OutputsError as Windowing."""
    window_s, context_s = spec.competition.window_s, spec.evaluate.context_s
    return Windowing(window_s, sample_rate_hz, context_s, spec.model.normalise)


def predict_recordings(
    predictor: Predictor,
    recordings: Sequence[str],
    read: Callable[[int], Waveform],
    codes: Sequence[str],
    *,
    windowing: Windowing,
    batch: int,
) -> WindowOutputs:
    """The outputs for every window of the recordings, windows of many recordings per batch.

    `read(i)` gives the waveform of recording i at the rate of `windowing`. Batches are filled
    across recordings, so that short ones cost no empty windows.
    """
    index: list[int] = []
    ends: list[float] = []

    def windows() -> Iterator[Floats]:
        for i in range(len(recordings)):
            n_before = len(index)
            for window in iter_windows(read(i), windowing):
                index.append(i)
                yield window
            ends.extend(end_seconds(len(index) - n_before, windowing.window_s))

    clip_probs: list[Floats] = []
    time_max: list[Floats] = []
    for waves in batch_windows(windows(), batch):
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
