"""Benchmarks as ratios to a peer measured in the same run: `make bench`.

A time alone says more about the machine than about the code, so no test looks at one. Rounds
of ours and of the peer take turns, and the best round of each is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import soundfile
from rows import Row, note
from sklearn.metrics import average_precision_score

from birdlab.data.demo.oggfile import write_ogg
from birdlab.data.store import WaveStore
from birdlab.evaluate.metrics import padded_cmap

ROUNDS = 5


def ratio_to_peer(
    benchmark: Any, ours: Callable[[], Any], peer: Callable[[], Any], row: Row | None = None
) -> float:
    """The best time of ours over the best time of the peer; rounds take turns.

    The ratio stands beside ours in the report of pytest-benchmark and in its JSON. `row` is what
    the page of benchmarks says, whose `peer` names it; the times are added.
    """
    peer_s: list[float] = []

    def run_peer() -> None:
        start = perf_counter()
        peer()
        peer_s.append(perf_counter() - start)

    benchmark.pedantic(ours, setup=run_peer, rounds=ROUNDS, warmup_rounds=1)
    ratio = float(benchmark.stats.stats.min) / min(peer_s)
    benchmark.extra_info["ratio_to_peer"] = round(ratio, 4)
    if row is not None:
        ms = [f"{1000 * s:,.3g} ms" for s in (float(benchmark.stats.stats.min), min(peer_s))]
        peers = f"{ms[1]}, {row.peer}"
        note(benchmark, replace(row, birdlab=ms[0], peer=peers, ahead=1 / ratio))
    print(f"\n{benchmark.name}: {ratio:.3f} of the peer's time")
    return ratio


def test_padded_cmap_against_sklearn(benchmark: Any) -> None:
    """One fold of the 2023 table: 3,389 recordings, 264 species, a long tail of positives."""
    rng = np.random.default_rng(0)
    n_rows, n_classes = 3389, 264
    frequency = np.geomspace(0.03, 0.0003, n_classes)
    targets = (rng.random((n_rows, n_classes)) < frequency).astype(np.int64)
    probs = np.clip(rng.random((n_rows, n_classes)) * 0.6 + targets * 0.3, 0, 0.99)
    padded = (
        np.vstack([targets, np.ones((5, n_classes))]),
        np.vstack([probs, np.ones((5, n_classes))]),
    )

    def sklearns() -> float:
        return float(average_precision_score(*padded, average="macro"))

    assert padded_cmap(targets, probs) == pytest.approx(sklearns(), abs=1e-9)
    what = "padded cmAP of 3,389 recordings and 264 classes"
    row = Row("Statistics", what, "", "scikit-learn's average_precision_score")
    assert ratio_to_peer(benchmark, lambda: padded_cmap(targets, probs), sklearns, row) < 0.5


def test_crops_from_the_store_against_decoding(benchmark: Any, tmp_path: Path) -> None:
    """100 random 5 s crops out of recordings of 30 s: read from the store, or decoded from OGG."""
    rng = np.random.default_rng(0)
    sample_rate_hz, n = 32_000, 30 * 32_000
    store = WaveStore(tmp_path / "store", sample_rate_hz)
    items = [(store.key(f"{i}"), tmp_path / f"{i}.ogg") for i in range(4)]
    for _, path in items:
        write_ogg(path, (rng.normal(size=n) * 0.1).astype(np.float32))
    assert store.build(items) == []
    crop = 5 * sample_rate_hz
    wanted = [(*items[rng.integers(4)], int(rng.integers(n - crop))) for _ in range(100)]

    def read() -> int:
        return sum(store.read(key, start, crop).size for key, _, start in wanted)

    def decode() -> int:
        total = 0
        for _, path, start in wanted:
            with soundfile.SoundFile(path) as file:
                file.seek(start)
                total += file.read(crop, dtype="float32").size
        return total

    assert read() == decode() == 100 * crop
    row = Row("Data", "100 crops of 5 s from the store", "", "soundfile, decoded from Ogg")
    assert ratio_to_peer(benchmark, read, decode, row) < 0.1
