"""The predictor protocol, and the road from recordings to window outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from birdlab.data.audio import Waveform
from birdlab.evaluate.passes import find_windows
from birdlab.evaluate.windows import (
    Windowing,
    batch_windows,
    count_windows,
    end_seconds,
    find_hop,
    iter_windows,
)
from birdlab.spec.experiment import ExperimentSpec

Floats = npt.NDArray[np.float32]


class Predictor(Protocol):
    """Anything that turns windows into probabilities: a torch model, an ONNX session."""

    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        """(P, M), each [B · k, C] float32 in 0..1, for inputs [B, samples] of `iter_windows`.

        A row for each of the k windows of a pass, which follow each other.
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
    return Windowing(
        spec.competition.window_s,
        sample_rate_hz,
        spec.evaluate.context_s,
        spec.model.normalise,
        spec.evaluate.windows_per_pass,
    )


def predict_recordings(
    predictor: Predictor,
    recordings: Sequence[str],
    read: Callable[[int], Waveform],
    codes: Sequence[str],
    *,
    windowing: Windowing,
    batch: int,
    hop_s: float | None = None,
) -> WindowOutputs:
    """The outputs for every window of the recordings, passes of many recordings per batch.

    `read(i)` gives the waveform of recording i at the rate of `windowing`; `batch` is the number of
    passes. Windows are `hop_s` apart, a whole part of a window, by default one after the other.
    Batches are filled across recordings, so that short ones cost no empty windows. Raises
    OutputsError for another hop.
    """
    hop, width = find_hop(windowing, hop_s), windowing.window_samples
    hops = width // hop
    n_windows: list[int] = []

    def inputs() -> Iterator[Floats]:
        for i in range(len(recordings)):
            wave = read(i)
            n_windows.append((count_windows(wave.n_samples, width) - 1) * hops + 1)
            yield from iter_windows(wave, windowing, hop)

    clip_probs: list[Floats] = []
    time_max: list[Floats] = []
    for waves in batch_windows(inputs(), batch):
        p, m = predictor(waves)
        clip_probs.append(p)
        time_max.append(m)
    k = windowing.windows_per_pass
    rows: slice | npt.NDArray[np.int64] = slice(None)  # they are in time: no copy
    if k > 1:
        rows = find_windows(n_windows, k, hops)
    ends = [end for n in n_windows for end in end_seconds(n, windowing.window_s, hop_s)]
    return WindowOutputs(
        tuple(recordings),
        tuple(codes),
        np.repeat(np.arange(len(n_windows)), n_windows),
        np.asarray(ends, np.float64),
        np.concatenate(clip_probs)[rows],
        np.concatenate(time_max)[rows],
    )
