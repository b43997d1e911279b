"""Windows pooled across recordings against a recording at a time, measured in the same run."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from rows import Row, note

from birdlab.data.audio import Waveform
from birdlab.evaluate.predictor import Floats, WindowOutputs, predict_recordings
from birdlab.evaluate.windows import Windowing, count_windows
from birdlab.sed.model import SEDModel
from birdlab.sed.predictor import TorchPredictor
from birdlab.spec.model import LogMelSpec, ModelSpec

RATE, BATCH, ROUNDS = 32_000, 32, 3
WINDOWING = Windowing(5.0, RATE)
NOISE_SHARE = 1.05
"""What two measurements of the same thing may differ by on a shared machine."""


class Counting:
    """A predictor that counts what it is given, and how many of it are all zeros."""

    def __init__(self, predictor: TorchPredictor) -> None:
        self.predictor, self.n_windows, self.n_silent, self.n_calls = predictor, 0, 0, 0

    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        self.n_windows += len(waves)
        self.n_silent += int((abs(waves).max(axis=1) == 0).sum())
        self.n_calls += 1
        return self.predictor(waves)


def make_recordings() -> list[Waveform]:
    """24 recordings of 1 to 60 s: half of them one or two windows, a few many."""
    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(np.log(8.0), 0.9, 24), 1.0, 60.0)
    waves = []
    for s in seconds:
        samples = rng.integers(-20_000, 20_000, int(s * RATE)).astype(np.int16)
        waves.append(Waveform(samples, 0.5, RATE))
    return waves


def predict(predictor: Counting, waves: list[Waveform]) -> WindowOutputs:
    names = [str(i) for i in range(len(waves))]
    codes = [str(i) for i in range(10)]
    return predict_recordings(
        predictor, names, waves.__getitem__, codes, windowing=WINDOWING, batch=BATCH
    )


@pytest.fixture(scope="module")
def predictor() -> TorchPredictor:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    frontend = LogMelSpec(n_mels=64, hop=1024)
    model = SEDModel(ModelSpec(backbone="tf_efficientnet_lite0", frontend=frontend), 10)
    return TorchPredictor(model, range(10), torch.device("cpu"))


def test_pooled_windows_against_a_recording_at_a_time(
    benchmark: Any, predictor: TorchPredictor
) -> None:
    """No window is made up, the outputs are the same, and the pooled road is not slower."""
    waves = make_recordings()
    n_windows = sum(count_windows(w.n_samples, WINDOWING.window_samples) for w in waves)
    ours, theirs = Counting(predictor), Counting(predictor)
    alone_s: list[float] = []
    found: dict[str, list[WindowOutputs]] = {}

    def one_by_one() -> None:
        started = perf_counter()
        found["alone"] = [predict(theirs, [wave]) for wave in waves]
        alone_s.append(perf_counter() - started)

    def pooled() -> None:
        found["pooled"] = [predict(ours, waves)]

    benchmark.pedantic(pooled, setup=one_by_one, rounds=ROUNDS, warmup_rounds=1)
    n_passes = len(alone_s)
    assert ours.n_windows == theirs.n_windows == n_passes * n_windows, "no padded windows"
    assert ours.n_silent == 0
    assert ours.n_calls == n_passes * -(-n_windows // BATCH) < theirs.n_calls
    (together,), alone = found["pooled"], found["alone"]
    for name in ("clip_probs", "time_max"):
        expected = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(getattr(together, name), expected, atol=1e-5)
    ratio = float(benchmark.stats.stats.min) / min(alone_s)
    benchmark.extra_info["ratio_to_peer"] = round(ratio, 4)
    print(
        f"\n{n_windows} windows of {len(waves)} recordings: pooled {benchmark.stats.stats.min:.2f} "
        f"s in {ours.n_calls // n_passes} batches, a recording at a time {min(alone_s):.2f} s in "
        f"{theirs.n_calls // n_passes}: {ratio:.3f} of its time"
    )
    shown = [f"{s:.2f} s" for s in (float(benchmark.stats.stats.min), min(alone_s))]
    what, peer = "validation, windows pooled over recordings", f"{shown[1]}, a recording at a time"
    asked, held = "never slower (5 % for noise)", ratio < NOISE_SHARE
    note(benchmark, Row("Training", what, shown[0], peer, 1 / ratio, asked, held))
    assert ratio < NOISE_SHARE
